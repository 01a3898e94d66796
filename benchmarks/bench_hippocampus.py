"""Training on the hippocampus as a user trains: the default settings, and some minutes.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_hippocampus.py [--minutes 10] [--seeds 0 1 2] [--keep D]
        [--folds 1 2 3 4 5]

The first 160 cases of the sorted names train, of which the last fifth chooses the checkpoint; the last 40 judge and
choose nothing. That is fold 5; in the others another fifth of the 200 judges. A minute is one of two cores: two minutes
of processor time on one thread, from the first step on. Each result goes to results/hippocampus.json at once, and one
that is there is not made again. With --keep, a training that was stopped goes on from its last checkpoint there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from short_trainings import processor  # first of all: it makes budgets processor time

import napari_medseg as ms  # isort: skip
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.events import Finished, Notice, TrainProgress
from napari_medseg.io.disk.memory import keep_freed

RESULTS = Path(__file__).parent / "results" / "hippocampus.json"
JUDGED, FOLDS, CORES = 40, 5, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="+", default=[FOLDS], choices=range(1, FOLDS + 1))
    parser.add_argument("--keep", type=Path, help="A folder for the trainings, so that a stopped one goes on.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()  # as the command does
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    cases = cases_from_folders([data / "images"], data / "labels")
    for seed, fold in itertools.product(args.seeds, args.folds):
        results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        name = f"{args.minutes:g} min, seed {seed}" + (f", fold {fold}" if fold < FOLDS else "")
        if name not in results:
            with tempfile.TemporaryDirectory() as folder:
                out = (args.keep or Path(folder)) / f"{args.minutes:g}_{seed}_{fold}.safetensors"
                row = run(cases, args.minutes, seed, fold, out)
            # Read anew: another seed may have been written meanwhile.
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[name] = row
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(name, results[name], flush=True)


def run(cases: list[Case], minutes: float, seed: int, fold: int, out: Path) -> dict[str, Any]:
    """Train one model on all cases but those of the fold, or go on with it, and judge it on these."""
    model, steps = None, 0
    first, end = (fold - 1) * JUDGED, fold * JUDGED
    known, judged = cases[:first] + cases[end:], cases[first:end]
    for event in ms.iter_train(known, out=out, minutes=CORES * minutes, seed=seed, device="cpu", resume=True):
        if isinstance(event, TrainProgress):
            steps = event.step
        elif isinstance(event, Notice):
            print(event.message, file=sys.stderr)
        elif isinstance(event, Finished):
            model = event.result
    assert model is not None, "a training ends with its model"
    dice: dict[int, list[float]] = {1: [], 2: []}
    asd: dict[int, list[float]] = {1: [], 2: []}
    for case in judged:
        volume, reference = case.load()
        found = ms.segment(volume, model, device="cpu")
        for row in ms.evaluate(prediction=found, reference=reference).rows:
            dice[row.label].append(row.dice)
            asd[row.label].append(row.asd_mm)
    return {
        "dice": [round(statistics.mean(dice[label]), 4) for label in (1, 2)],
        "asd_mm": [round(statistics.mean(asd[label]), 3) for label in (1, 2)],
        "validation": {key: round(value, 4) for key, value in model.spec.training.validation.items()},
        "steps": steps,
        "patch_zyx": model.spec.patch_zyx,
        "processor": processor(),
    }


if __name__ == "__main__":
    main()
