"""What made-up images, a shape prior and an adversary give.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_synthesis.py [NAME ...] [--share 1.0]

One thread; budgets are minutes of processor time from the first step on, times `--share`. The runs are in `RUNS`.
Hippocampus: at 2 mm; of the cases in name order the last 40 are judged once. Each finished run is a row of
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
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders

RESULTS = Path(__file__).parent / "results" / "synthesis.json"
JUDGED = 40
CHANNELS = (8, 16, 32)
"""Features of the network, half of those that a plan gives: it learns in a quarter of the time."""
SPACING = (2.0, 2.0, 2.0)
"""Of the models of the hippocampus, in mm; the images have 1. A step takes an eighth of the time."""
PHANTOMS = 16
"""Phantoms that train."""
SHAPE = (24, 32, 32)
SLAB = (5.0, 8.0)
"""Least and largest thickness of what hides a part of a phantom, in mm."""


@dataclass(frozen=True)
class Run:
    """A training, and what its model is judged on."""

    data: str
    minutes: float
    knobs: dict[str, Any] = field(default_factory=dict)
    labelled: int = 160
    """How many of the first cases train."""
    images: bool = True
    seeds: int = 1
    """How many seeds of the training; the row has their means, and each."""


_FEW = 16
RUNS = {
    "synthesis, labels alone, whole images": Run(
        "hippocampus", 5, {"scheme": "synthesis", "patch_zyx": (24, 32, 24)}, images=False
    ),
    "phantom, slab, supervised": Run("phantom", 1, seeds=3),
    "phantom, slab, acnn": Run("phantom", 1, {"scheme": "acnn"}, seeds=3),
    "phantom, slab, acnn with shape_weight 0.01": Run("phantom", 1, {"scheme": "acnn", "shape_weight": 0.01}, seeds=3),
    "phantom, slab, acnn with shape_weight 0": Run("phantom", 1, {"scheme": "acnn", "shape_weight": 0.0}, seeds=3),
    "16 labelled, supervised": Run("hippocampus", 1, labelled=_FEW),
    "16 labelled, cgan": Run("hippocampus", 1, {"scheme": "cgan"}, labelled=_FEW),
    "16 labelled, adversarial": Run("hippocampus", 1, {"scheme": "adversarial"}, labelled=_FEW),
    "16 labelled, synthesis": Run("hippocampus", 1, {"scheme": "synthesis"}, labelled=_FEW),
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
            rows[key] = judged_often(RUNS[name], args.share)
            RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
        print(key, rows[key], flush=True)


def judged_often(run: Run, share: float) -> dict[str, float | list[float]]:
    """The mean of each score by label, over the cases and the seeds.

    With several seeds also the mean of each seed, and the largest distance of each case, the mean over the seeds: two
    rows are compared case by case.
    """
    epochs, scores = zip(*(judged(run, share, seed) for seed in range(run.seeds)), strict=True)
    row: dict[str, float | list[float]] = {"epochs": round(float(np.mean(epochs)), 1)}
    row |= {name: round(float(np.mean([of[name] for of in scores])), 4) for name in scores[0]}
    if run.seeds > 1:
        row |= {f"each {name}": [round(float(np.mean(of[name])), 4) for of in scores] for name in scores[0]}
        farthest = "msd_mm 1"
        row[f"cases {farthest}"] = np.mean([of[farthest] for of in scores], axis=0).round(3).tolist()
    return row


def judged(run: Run, share: float, seed: int = 0) -> tuple[float, dict[str, list[float]]]:
    """Train and judge: the epochs, and each score by label of every case."""
    training, judging = cases_of(run)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        small: dict[str, Any] = {"arguments": {"channels": CHANNELS}, "learning_rate": 3e-3}
        if run.data == "hippocampus":
            small["spacing_zyx_mm"] = SPACING
        options = (
            small
            | {"minutes": run.minutes * share, "seed": seed, "device": "cpu", "val": 0, "report": False}
            | run.knobs
        )
        model = ms.train(training, out=out, **options)
        return model.spec.training.epochs, scores_of(model, judging)


def cases_of(run: Run) -> tuple[Sequence[Case], Sequence[Case]]:
    if run.data == "phantom":
        cases = [phantom(seed) for seed in range(PHANTOMS + JUDGED)]
        return cases[:PHANTOMS], cases[PHANTOMS:]
    folder = Path(os.environ["MEDSEG_DATA"]) / run.data
    cases = cases_from_folders([folder / "images"], folder / "labels")
    training = cases[: run.labelled]
    return [case if run.images else replace(case, images=()) for case in training], cases[-JUDGED:]


def phantom(seed: int) -> Case:
    """A bright organ with a hollow, in noise, whose shape varies little.

    An artefact goes through it: a slab of random direction about a voxel inside, where the organ gives no signal and
    looks like the background.
    """
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij"))
    z, y, x = places - draw.uniform(-2, 2, (3, 1, 1, 1))
    radii, turn = np.array([8.0, 11.0, 8.0]) * draw.uniform(0.85, 1.15, 3), draw.uniform(-0.4, 0.4)
    y, x = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    organ = (z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2 < 1
    organ &= (z / (0.7 * radii[0])) ** 2 + (y / (0.5 * radii[1])) ** 2 + ((x - radii[2]) / (0.8 * radii[2])) ** 2 > 1
    inside = np.argwhere(ndimage.binary_erosion(organ, iterations=2))
    direction = draw.normal(size=3)
    away = np.indices(SHAPE) - inside[draw.integers(len(inside))][:, None, None, None]
    slab = np.abs(np.tensordot(direction / np.linalg.norm(direction), away, 1)) < draw.uniform(*SLAB) / 2
    image = 100 + 60.0 * (organ & ~slab) + draw.normal(0, 20, SHAPE)
    grid = ms.Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))
    labels = ms.Segmentation(organ.astype(np.uint8), grid, {1: "organ"})
    return Case(name=f"phantom {seed:03}", images=(ms.Volume(image[None].astype(np.float32), grid),), labels=labels)


def scores_of(model: ms.Model, cases: Iterable[Case]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for case in cases:
        volume, labels = case.load()
        for row in ms.evaluate(prediction=ms.segment(volume, model, device="cpu"), reference=labels).rows:
            for column in ("dice", "hd95_mm", "msd_mm"):
                found.setdefault(f"{column} {row.label}", []).append(getattr(row, column))
    return found


if __name__ == "__main__":
    main()
