"""What made-up images, a shape prior and an adversary give.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_synthesis.py [NAME ...] [--share 1.0]

One thread; budgets are minutes of processor time from the first step on, times `--share`. The runs are in `RUNS`.
Hippocampus: of the cases in name order the last 40 are judged once. Each finished run is a row of
results/synthesis.json, so that a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders

RESULTS = Path(__file__).parent / "results" / "synthesis.json"
JUDGED = 40


@dataclass(frozen=True)
class Run:
    """A training, and what its model is judged on."""

    data: str
    minutes: float
    knobs: dict[str, Any] = field(default_factory=dict)
    labelled: int = 160
    """How many of the first cases train."""
    images: bool = True


RUNS = {
    "synthesis, labels alone": Run("hippocampus", 6, {"scheme": "synthesis"}, images=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="Runs; all by default.")
    parser.add_argument("--share", type=float, default=1.0, help="Of the minutes of each run.")
    args = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.names or RUNS:
        key = f"{name}, {args.share * RUNS[name].minutes:g} min"
        if key not in rows:
            rows[key] = judged(RUNS[name], args.share)
            RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
        print(key, rows[key], flush=True)


def judged(run: Run, share: float) -> dict[str, float]:
    """Train and judge; the mean of each score by label."""
    training, judging = cases_of(run)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        options = {"minutes": run.minutes * share, "device": "cpu", "val": 0, "report": False, **run.knobs}
        model = ms.train(training, out=out, **options)
        return {"epochs": round(model.spec.training.epochs, 1), **scores_of(model, judging)}


def cases_of(run: Run) -> tuple[Sequence[Case], Sequence[Case]]:
    folder = Path(os.environ["MEDSEG_DATA"]) / run.data
    cases = cases_from_folders([folder / "images"], folder / "labels")
    training = cases[: run.labelled]
    return [case if run.images else replace(case, images=()) for case in training], cases[-JUDGED:]


def scores_of(model: ms.Model, cases: Iterable[Case]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for case in cases:
        volume, labels = case.load()
        for row in ms.evaluate(prediction=ms.segment(volume, model, device="cpu"), reference=labels).rows:
            for column in ("dice", "hd95_mm", "msd_mm"):
                found.setdefault(f"{column} {row.label}", []).append(getattr(row, column))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


if __name__ == "__main__":
    main()
