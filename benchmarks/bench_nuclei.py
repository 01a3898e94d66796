"""Nuclei of the Data Science Bowl 2018 by UNet++, and by the shallower networks that it contains.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_nuclei.py [--cpu-minutes 12] [--model MODEL]

The last 20 images in name order are judged once; the others are for training, the last fifth of these chooses the
checkpoint. Seed 0, default settings, one thread; the budget is in minutes of processor time from the first step on.
With --model a model is judged that was trained before. IoU is that of the foreground, image by image. F1 is that of
all nuclei together, at an IoU above one half: connected parts of the prediction beside the masks of single nuclei, and
beside the connected parts of their union. Connected parts cannot separate nuclei that touch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np
import numpy.typing as npt

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.datasets import open_dataset
from napari_medseg.metrics import match_instances
from napari_medseg.metrics.pairwise.instances import InstanceRow, components, pooled
from napari_medseg.models.prune import prune_model

JUDGED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=12.0)
    parser.add_argument("--model", type=Path, help="A model to judge instead of training one.")
    args = parser.parse_args()
    cases = open_dataset(Path(os.environ["MEDSEG_DATA"]) / "dsb2018").cases
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "nuclei.safetensors"
        if args.model is None:
            ms.train(list(cases[:-JUDGED]), out=out, network="unetpp", minutes=args.cpu_minutes, device="cpu")
        model = ms.load_model(args.model or out)
        channels = model.spec.arguments["channels"]
        assert isinstance(channels, tuple)
        print(f"trained on {len(cases) - JUDGED} images, judged on {JUDGED}; channels {channels}")
        judged = [(volume := ms.read(case.images[0]), nuclei_of(case, volume.grid.shape)) for case in cases[-JUDGED:]]
        report("whole", model, judged)
        for level in range(1, len(channels)):
            report(f"level {level}", prune_model(model, level, Path(folder) / f"{level}.safetensors"), judged)


def report(name: str, model: ms.Model, judged: list[tuple[ms.Volume, npt.NDArray[np.int32]]]) -> None:
    """Judge a model and print a line."""
    ious, single, joined, seconds = [], list[InstanceRow](), list[InstanceRow](), 0.0
    for volume, nuclei in judged:
        began = time.process_time()
        found = ms.segment(volume, model, device="cpu")
        seconds += time.process_time() - began
        inside = np.asarray(found.data[...]) > 0
        ious.append(float((inside & (nuclei > 0)).sum() / (inside | (nuclei > 0)).sum()))
        single += rows(components(inside)[0], nuclei, volume.grid)
        joined += rows(components(inside)[0], components(nuclei > 0)[0], volume.grid)
    scores = f"IoU {np.mean(ious):.3f} (median {np.median(ious):.3f}, least {min(ious):.3f})"
    f1 = [pooled(of)[0].f1 for of in (single, joined)]
    mib = Path(model.path).stat().st_size / 2**20
    print(
        f"{name}: {mib:.1f} MiB, {seconds / len(judged):.2f} CPU s an image, {scores}, "
        f"F1 {f1[0]:.3f} of nuclei, {f1[1]:.3f} of connected parts",
        flush=True,
    )


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
