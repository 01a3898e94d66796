"""Training on a few painted slices, against shape-based interpolation of the same slices.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_sparse.py [--volumes 0-20] [--turns 3] [--counts 5,7]

The slices are evenly spaced over the structure, both ends among them. One volume: only its other slices are judged, by
the mean Dice of both labels; beside it what `propagate` makes of the same slices, without a network. Several volumes
(--groups): five slices of each of three, along the axes by turns, and the last 40 volumes judge. One thread; the budget
is in minutes of processor time from the first step on: 6 are 3 minutes of two cores. Seed 0, default settings but for
the slices. Each result is written to results/sparse.json at once, and one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from short_trainings import processor  # first of all: it makes budgets processor time

import napari_medseg as ms  # isort: skip

LABELS = (1, 2)
RESULTS = Path(__file__).parent / "results" / "sparse.json"
JUDGED, AT_ONCE, SLICES = 40, 3, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", default="0-20", help="Of the sorted names, such as 0-20.")
    parser.add_argument("--turns", type=int, default=3, help="Axes for each volume, one after the other.")
    parser.add_argument("--counts", default="5,7")
    parser.add_argument("--groups", type=int, default=3, help="Of three volumes each.")
    parser.add_argument("--cpu-minutes", type=float, default=0.5)
    parser.add_argument("--several-cpu-minutes", type=float, default=2.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    paths = sorted((data / "images").iterdir())
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["processor"] = processor()
    first, last = map(int, args.volumes.split("-"))
    for count in map(int, args.counts.split(",")):
        rows = []
        for turn in range(args.turns):
            for number, path in enumerate(paths[first:last]):
                axis = (number + turn) % 3
                name = f"{path.name} axis {axis}, {count} slices, {args.cpu_minutes:g} min"
                row = keep(results, name, lambda p=path, a=axis, n=count: one(p, data, a, n, args.cpu_minutes))
                rows.append([row[key] for key in ("interpolation", "propagate", "trained")])
        means = ", ".join(f"{mean:.3f}" for mean in np.mean(rows, axis=0))
        print(f"{count} slices, {len(rows)} runs: interpolation, propagate, trained {means}", flush=True)
    for group in range(args.groups):
        some = paths[group * AT_ONCE : (group + 1) * AT_ONCE]
        name = f"volumes {group * AT_ONCE} to {(group + 1) * AT_ONCE - 1}, {args.several_cpu_minutes:g} min"
        keep(results, name, lambda some=some: several(some, paths[-JUDGED:], data, args.several_cpu_minutes))


def keep(results: dict[str, Any], name: str, run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The row of that name, made now where it is not there."""
    if name not in results:
        results[name] = run()
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(name, results[name], flush=True)
    row: dict[str, float] = results[name]
    return row


def painted(volume: ms.Volume, labels: npt.NDArray[Any], axis: int, count: int) -> tuple[ms.Segmentation, list[int]]:
    """The labels in some slices alone, and which these are."""
    held = np.flatnonzero((labels > 0).any(axis=tuple(a for a in range(3) if a != axis)))
    indices = np.unique(np.rint(np.linspace(held[0], held[-1], count)).astype(int))
    some = np.zeros_like(labels)
    np.moveaxis(some, axis, 0)[indices] = np.moveaxis(labels, axis, 0)[indices]
    return ms.Segmentation(some, volume.grid), indices.tolist()


def read(path: Path, data: Path) -> tuple[ms.Volume, npt.NDArray[Any]]:
    return ms.read(path), np.asarray(ms.read_segmentation(data / "labels" / path.name).data[...])


def trained(pairs: list[tuple[ms.Volume, ms.Segmentation]], out: Path, minutes: float) -> ms.Model:
    options = {"unlabelled_slices": "ignore", "val": 0, "device": "cpu", "report": False}
    return ms.train(pairs, out=out, minutes=minutes, **options)


def one(path: Path, data: Path, axis: int, count: int, minutes: float) -> dict[str, float]:
    """The mean Dice of interpolation, of propagation and of a network on the slices that are not painted."""
    volume, labels = read(path, data)
    some, indices = painted(volume, labels, axis, count)
    found = {
        "interpolation": ms.propagate(volume, some, method="interpolation", slices={axis: indices}),
        "propagate": ms.propagate(volume, some, slices={axis: indices}),
    }
    with tempfile.TemporaryDirectory() as folder:
        model = trained([(volume, some)], Path(folder) / "m.safetensors", minutes)
        found["trained"] = ms.segment(volume, model, device="cpu")
    others = np.setdiff1d(np.arange(labels.shape[axis]), indices)
    a = {name: np.moveaxis(np.asarray(one.data[...]), axis, 0)[others] for name, one in found.items()}
    return {name: round(mean_dice(planes, np.moveaxis(labels, axis, 0)[others]), 4) for name, planes in a.items()}


def several(paths: list[Path], judged: list[Path], data: Path, minutes: float) -> dict[str, float]:
    """The mean Dice on other volumes of a network that was trained on slices of some."""
    pairs = []
    for axis, path in enumerate(paths):
        volume, labels = read(path, data)
        pairs.append((volume, painted(volume, labels, axis % 3, SLICES)[0]))
    with tempfile.TemporaryDirectory() as folder:
        model = trained(pairs, Path(folder) / "m.safetensors", minutes)
        scores = []
        for path in judged:
            volume, labels = read(path, data)
            scores.append(mean_dice(np.asarray(ms.segment(volume, model, device="cpu").data[...]), labels))
    return {"trained": round(float(np.mean(scores)), 4)}


def mean_dice(found: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    pairs = [(found == k, labels == k) for k in LABELS]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


if __name__ == "__main__":
    main()
