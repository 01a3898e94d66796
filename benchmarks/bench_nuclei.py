"""Nuclei of the Data Science Bowl 2018 by UNet++, and by the shallower networks that it contains.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 nice python benchmarks/bench_nuclei.py [--cpu-minutes 12] [--folder DIR]

The last 20 images in name order are judged once; the others are for training, the last fifth of these chooses the
checkpoint. Seed 0, default settings, one thread; the budget is in minutes of processor time from the first step on.
DIR holds the model; a training that was stopped is resumed from there. IoU is that of the foreground, image by image.
F1 is that of all nuclei together, at an IoU above one half: connected parts of the prediction beside the masks of
single nuclei, and beside the connected parts of their union. Connected parts cannot separate nuclei that touch. Rows
are written to results/nuclei.json one by one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from short_trainings import Rows  # first of all: it makes budgets processor time

import numpy as np  # isort: skip
import numpy.typing as npt

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.datasets import open_dataset
from napari_medseg.metrics import match_instances
from napari_medseg.metrics.pairwise.instances import InstanceRow, components, pooled
from napari_medseg.models.prune import prune_model

JUDGED = 20
ROWS = Rows("nuclei")
Judged = list[tuple[ms.Volume, npt.NDArray[np.int32]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=12.0)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-nuclei"), help="Where the model is kept.")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    cases = open_dataset(Path(os.environ["MEDSEG_DATA"]) / "dsb2018").cases
    out = args.folder / f"{args.cpu_minutes:g}.safetensors"
    knobs = {"network": "unetpp", "minutes": args.cpu_minutes, "device": "cpu", "report": False}
    model = ms.train(list(cases[:-JUDGED]), out=out, resume=True, **knobs)
    channels = model.spec.arguments["channels"]
    assert isinstance(channels, tuple)
    judged = [(volume := ms.read(case.images[0]), nuclei_of(case, volume.grid.shape)) for case in cases[-JUDGED:]]
    settings = {"cpu_minutes": args.cpu_minutes, "epochs": round(model.spec.training.epochs, 1)}
    for level in (0, *range(1, len(channels))):
        key = f"level {level}" if level else "whole"
        if ROWS.lacks(key, settings):
            with tempfile.TemporaryDirectory() as folder:
                one = prune_model(model, level, Path(folder) / "pruned.safetensors") if level else model
                ROWS.keep(key, {**row_of(one, judged), **settings})


def row_of(model: ms.Model, judged: Judged) -> dict[str, Any]:
    """What a model is worth."""
    ious, single, joined, seconds = [], list[InstanceRow](), list[InstanceRow](), 0.0
    for volume, nuclei in judged:
        began = time.process_time()
        found = ms.segment(volume, model, device="cpu")
        seconds += time.process_time() - began
        inside = np.asarray(found.data[...]) > 0
        ious.append(float((inside & (nuclei > 0)).sum() / (inside | (nuclei > 0)).sum()))
        single += rows(components(inside)[0], nuclei, volume.grid)
        joined += rows(components(inside)[0], components(nuclei > 0)[0], volume.grid)
    return {
        "mib": round(Path(model.path).stat().st_size / 2**20, 2),
        "cpu_seconds_an_image": round(seconds / len(judged), 3),
        "iou": round(float(np.mean(ious)), 4),
        "iou_median": round(float(np.median(ious)), 4),
        "iou_least": round(min(ious), 4),
        "f1_nuclei": round(pooled(single)[0].f1, 4),
        "f1_parts": round(pooled(joined)[0].f1, 4),
    }


def rows(prediction: npt.NDArray[Any], reference: npt.NDArray[Any], grid: ms.Grid) -> list[InstanceRow]:
    a, b = (ms.Segmentation(ids.astype(np.int32), grid) for ids in (prediction, reference))
    return list(match_instances(prediction=a, reference=b, instances="ids", iou=(0.5,)).rows)


def nuclei_of(case: Case, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """The nuclei of an image, numbered from 1; (1, Y, X)."""
    nuclei = np.zeros(shape, np.int32)
    masks = sorted((Path(case.images[0]).parents[1] / "masks").glob("*.png"))
    for number, path in enumerate(masks, start=1):
        nuclei[np.asarray(ms.read_segmentation(path).data[...]) > 0] = number
    return nuclei


if __name__ == "__main__":
    main()
