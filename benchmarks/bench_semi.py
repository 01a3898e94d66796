"""Hippocampus with few labelled cases: each semi-supervised scheme beside training on the labels alone.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 nice -n 15 python benchmarks/bench_semi.py [--cpu-minutes 2] [--runs RUN ...]

Of the first 160 cases, every tenth (16) or every twentieth (8) is labelled, from the number of the seed on; the images
of the others are given without labels. The last 40 are judged once: their mean Dice over cases and both labels. All
runs have the same minutes of processor time from the first step on, one thread, the same network (unet3d with
--channels features at --spacing) and the last weights: no case validates. A RUN is SCHEME:LABELLED:SEED. Each result is
written to results/semi.json at once, and a run that is there with the same settings is not repeated. --tune judges 16
others of the 160 instead, which are then not given as images, and prints only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.events import Finished, Notice, TrainProgress
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.training.schemes.table import SCHEMES

RESULTS = Path(__file__).parent / "results" / "semi.json"
FIRST, JUDGED, TUNED = 160, 40, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=2.0)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--spacing", type=float, default=1.5, help="Of the model, in mm; the images have 1.")
    parser.add_argument("--runs", nargs="+", metavar="RUN", default=list(everything()))
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--knobs", type=json.loads, default={}, help="JSON of TrainConfig's knobs, with --tune.")
    args = parser.parse_args()
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    cases = cases_from_folders([data / "images"], data / "labels")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() and not args.tune else {}
    for name in args.runs:
        if name in results and settings_of(args).items() <= results[name].items():
            continue
        row = run(name, cases, args)
        print(name, row, flush=True)
        results[name] = row
        if not args.tune:
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def everything() -> Iterator[str]:
    """The runs of the table, in pairs, so that a benchmark that is stopped is comparable."""
    for seed in range(3):
        for labelled in (8, 16):
            yield from (f"{scheme}:{labelled}:{seed}" for scheme in ("supervised", "self-training"))
    yield "supervised:160:0"
    yield from (f"{scheme}:8:0" for scheme in ("mean-teacher", "copy-paste", "sassnet", "canet"))


def run(name: str, cases: list[Case], args: argparse.Namespace) -> dict[str, Any]:
    """Train one model and judge it."""
    scheme, labelled, seed = name.split(":")[0], *map(int, name.split(":")[1:])
    first = cases[:FIRST]
    judged = first[(seed + 5) % 10 :: 10][:TUNED] if args.tune else cases[-JUDGED:]
    every = FIRST // labelled
    training = first[seed % every :: every]
    others = [case for case in first if case not in training and case not in judged]
    with tempfile.TemporaryDirectory() as folder:
        model, steps, loss = None, 0, {}
        events = ms.iter_train(
            training,
            out=Path(folder) / "model.safetensors",
            scheme=scheme,
            unlabelled=others if SCHEMES[scheme].takes_unlabelled else (),
            network="unet3d",
            arguments={"channels": tuple(args.channels)},
            spacing_zyx_mm=(args.spacing,) * 3,
            minutes=args.cpu_minutes,
            checkpoint_minutes=1000,
            val=0,
            seed=seed,
            device="cpu",
            report=False,
            **args.knobs,
        )
        for event in events:
            if isinstance(event, TrainProgress):
                steps, loss = event.step, event.losses
            elif isinstance(event, Notice):
                print(event.message, file=sys.stderr)
            elif isinstance(event, Finished):
                model = event.result
        assert model is not None, "a training ends with its model"
        dice = [dice_of(case, model) for case in judged]
    mean = np.mean(dice, axis=0)
    return {
        "dice": round(float(mean.mean()), 4),
        "labels": [round(float(value), 4) for value in mean],
        "steps": steps,
        **settings_of(args),
        "losses": {key: round(value, 3) for key, value in loss.items()},
    }


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What all runs have in common."""
    return {"cpu_minutes": args.cpu_minutes, "channels": args.channels, "spacing_mm": args.spacing}


def dice_of(case: Case, model: ms.Model) -> list[float]:
    """The Dice of each label in one case."""
    volume, reference = case.load()
    found = ms.segment(volume, model, device="cpu")
    scores = dice_per_label(np.asarray(found.data[...]), np.asarray(reference.data[...]), tuple(model.spec.labels))
    return [scores[label] for label in sorted(scores)]


if __name__ == "__main__":
    main()
