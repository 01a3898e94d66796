"""Training on a few painted slices of one volume, against shape-based interpolation of the same slices.

    MEDSEG_DATA=data nice python benchmarks/bench_sparse.py [--volumes 0-20] [--axes 0,1,2] [--counts 5,7]

The slices are evenly spaced over the structure, both ends among them; only the other slices are judged, by the mean
Dice of both labels. One thread; the budget is in minutes of processor time from the first step on: 6 are 3 minutes of
two cores. Seed 0, default settings but for the slices.
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

LABELS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", default="0-20", help="Of the sorted names, such as 0-20.")
    parser.add_argument("--axes", default="0,1,2")
    parser.add_argument("--counts", default="5,7")
    parser.add_argument("--cpu-minutes", type=float, default=6.0)
    parser.add_argument("--knob", action="append", default=[], metavar="NAME=VALUE", help="Another knob of training.")
    args = parser.parse_args()
    knobs = {name: float(value) for name, _, value in (knob.partition("=") for knob in args.knob)}
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    first, last = map(int, args.volumes.split("-"))
    for count in map(int, args.counts.split(",")):
        rows = []
        for path in sorted((data / "images").iterdir())[first:last]:
            for axis in map(int, args.axes.split(",")):
                volume, labels = ms.read(path), ms.read_segmentation(data / "labels" / path.name)
                row = measured(volume, np.asarray(labels.data[...]), axis, count, args.cpu_minutes, knobs)
                rows.append(row)
                print(
                    f"{path.name} axis {axis}, {count} slices: interpolation {row[0]:.3f}, trained {row[1]:.3f}",
                    flush=True,
                )
        means = np.mean(rows, axis=0)
        print(f"{count} slices, {len(rows)} runs: interpolation {means[0]:.3f}, trained {means[1]:.3f}", flush=True)


def measured(
    volume: ms.Volume, labels: npt.NDArray[Any], axis: int, count: int, minutes: float, knobs: dict[str, Any]
) -> tuple[float, float]:
    """The mean Dice of interpolation and of a network on the slices that are not painted."""
    held = np.flatnonzero((labels > 0).any(axis=tuple(a for a in range(3) if a != axis)))
    indices = np.unique(np.rint(np.linspace(held[0], held[-1], count)).astype(int))
    some = np.zeros_like(labels)
    np.moveaxis(some, axis, 0)[indices] = np.moveaxis(labels, axis, 0)[indices]
    painted = ms.Segmentation(some, volume.grid)
    between = ms.propagate(volume, painted, method="interpolation", slices={axis: indices.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "m.safetensors"
        model = ms.train(
            [(volume, painted)], out=out, minutes=minutes, unlabelled_slices="ignore", device="cpu", **knobs
        )
        trained = ms.segment(volume, model, device="cpu")
    others = np.setdiff1d(np.arange(labels.shape[axis]), indices)
    a, b = (mean_dice(np.asarray(found.data[...]), labels, axis, others) for found in (between, trained))
    return a, b


def mean_dice(found: npt.NDArray[Any], labels: npt.NDArray[Any], axis: int, slices: npt.NDArray[Any]) -> float:
    a, b = (np.moveaxis(x, axis, 0)[slices] for x in (found, labels))
    return float(np.mean([2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in LABELS]))


if __name__ == "__main__":
    main()
