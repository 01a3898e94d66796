"""Adaptation to images of another contrast: phantoms between MR and CT, MS lesions between FLAIR and T2.

And to another scanner: phantoms in MR with another gamma and coil shading.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_domains.py [ROW...] [--cpu-minutes 1]

Each row trains on labelled images of one domain and judges on images of the other. Unadapted is supervised training on
the labelled domain alone; adapt-statistics and cyclegan also see images of the other domain without labels. All have
the same minutes of processor time from the first step on, seed 0, one thread, no validation. The figure is the mean
Dice over labels and judged images. "within" judges the unadapted model on further images of its own domain: what
training on labels of the target itself gives stands in the row of the other direction.
Rows are written to results/domains.json one by one; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np

import napari_medseg as ms
from napari_medseg.sample import Kind, phantom

RESULTS = Path(__file__).parent / "results" / "domains.json"
SCHEMES: dict[str, dict[str, Any]] = {
    "supervised": {"scheme": "supervised"},
    "adapt-statistics": {"scheme": "adapt-statistics"},
    "adapt-statistics --made-share 0": {"scheme": "adapt-statistics", "made_share": 0.0},
    "cyclegan": {"scheme": "cyclegan"},
}
"""Knobs of the rows."""
Pair = tuple[ms.Volume, ms.Segmentation]


@dataclass(frozen=True)
class Task:
    """Labelled images, images of the other domain, and what is judged."""

    labelled: list[Pair]
    target: list[ms.Volume]
    judged: list[Pair]
    within: list[Pair]
    options: dict[str, Any] = field(default_factory=dict)
    """Of every training of the task."""


def phantoms(source: Kind, target: Kind, changed: Callable[[Pair], Pair] = lambda pair: pair) -> Task:
    """Six labelled phantoms, six of the other kind, four of each to judge; no anatomy occurs twice.

    changed: what is done to the images of the target. Patches are a part of an image, centred on each label in turn.
    """

    def some(kind: Kind, first: int, count: int) -> list[Pair]:
        seeds = range(first, first + count)
        return [phantom(kind, seed=s, shape_zyx=(24, 40, 56), spacing_zyx_mm=(10.0, 6.5, 6.5)) for s in seeds]

    targets, judged = ([changed(pair) for pair in some(target, *seeds)] for seeds in ((100, 6), (200, 4)))
    options = {"patch_zyx": (16, 24, 32), "learning_rate": 3e-3}
    return Task(some(source, 0, 6), [volume for volume, _ in targets], judged, some(source, 200, 4), options)


def of_another_scanner(pair: Pair) -> Pair:
    """The image with a gamma of 1.7, and three times as bright on the left as on the right."""
    volume, labels = pair
    image = np.asarray(volume.data[...], np.float32)
    top = float(image.max())
    shading = np.exp(np.linspace(-0.55, 0.55, image.shape[-1]))
    return replace(volume, data=((image.clip(0) / top) ** 1.7 * top * shading).astype(np.float32)), labels


def lesions(source: str, target: str) -> Task:
    """Patients 07 and 19 in both contrasts, labelled in one; patient 26 is judged."""

    def some(contrast: str, *patients: str) -> list[Pair]:
        folders = [Path(os.environ["MEDSEG_DATA"]) / "ms_lesions_mr" / f"patient{patient}" for patient in patients]
        return [(ms.read(f / f"{contrast}.nii.gz"), ms.read_segmentation(f / "lesions.nii.gz")) for f in folders]

    target_images = [volume for volume, _ in some(target, "07", "19")]
    judged, within = some(target, "26"), some(source, "26")
    return Task(some(source, "07", "19"), target_images, judged, within)


TASKS = {
    "phantom mr to ct": lambda: phantoms("mr", "ct"),
    "phantom ct to mr": lambda: phantoms("ct", "mr"),
    "phantom mr to mr of another scanner": lambda: phantoms("mr", "mr", of_another_scanner),
    "lesions FLAIR to T2": lambda: lesions("FLAIR", "T2"),
    "lesions T2 to FLAIR": lambda: lesions("T2", "FLAIR"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=1.0)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"by default all: {', '.join(TASKS)}")
    args = parser.parse_args()
    for name in args.rows or TASKS:
        for scheme in args.schemes:
            rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            key = f"{name}, {scheme}, {args.cpu_minutes:g} min"
            if key not in rows:
                rows |= {key: measured(TASKS[name](), scheme, args.cpu_minutes)}
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(key, rows[key], flush=True)


def measured(task: Task, scheme: str, minutes: float) -> dict[str, float]:
    """Train and judge once."""
    adapts = {} if scheme == "supervised" else {"target": task.target}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model = ms.train(
            task.labelled,
            out=Path(folder) / "m.safetensors",
            **SCHEMES[scheme],
            minutes=minutes,
            val=0,
            device="cpu",
            precision="fp32",
            report=False,
            arguments={"channels": (8, 16, 32)},
            **task.options,
            **adapts,
        )
        row = {"dice": judged(model, task.judged), "epochs": round(model.spec.training.epochs, 1)}
        if scheme == "supervised":
            row["within"] = judged(model, task.within)
    return row | {"cpu minutes": round((time.process_time() - began) / 60, 2)}


def judged(model: ms.Model, pairs: list[Pair]) -> float:
    """The mean Dice over labels and images."""
    return round(float(np.mean(list(dices(model, pairs)))), 4)


def dices(model: ms.Model, pairs: list[Pair]) -> Iterator[float]:
    for volume, reference in pairs:
        found = ms.segment(volume, model, device="cpu", preset="exact")
        yield ms.evaluate(prediction=found, reference=reference).mean["dice"]


if __name__ == "__main__":
    main()
