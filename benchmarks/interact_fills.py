"""The volumes that `bench_interact.py` fills from slices: only the slices that are not annotated count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from interact_cases import dice, labels_of

import napari_medseg as ms

METHODS = ("interpolation", "auto")


def volumes(data: Path) -> list[Path]:
    """The images of 20 hippocampus volumes."""
    return sorted((data / "hippocampus/images").iterdir())[:20]


def measured(path: Path, count: int) -> dict[str, float]:
    """{method: mean Dice over both labels and three axes} from evenly spaced slices, both ends annotated."""
    volume, labels = ms.read(path), labels_of(path.parent.parent / "labels" / path.name)
    return {
        method: float(np.mean([_between(volume, labels, axis, count, method) for axis in range(3)]))
        for method in METHODS
    }


def _between(volume: ms.Volume, labels: npt.NDArray[Any], axis: int, count: int, method: Any) -> float:
    """The mean Dice of both labels on the slices that are not annotated."""
    held = np.flatnonzero((labels > 0).any(axis=tuple(a for a in range(3) if a != axis)))
    indices = np.unique(np.rint(np.linspace(held[0], held[-1], count)).astype(int))
    planes, some = np.moveaxis(labels, axis, 0), np.zeros_like(labels)
    np.moveaxis(some, axis, 0)[indices] = planes[indices]
    filled = ms.propagate(volume, ms.Segmentation(some, volume.grid), method=method, slices={axis: indices.tolist()})
    others = np.setdiff1d(np.arange(len(planes)), indices)
    ours = np.moveaxis(np.asarray(filled.data[...]), axis, 0)[others]
    return float(np.mean([dice(ours == label, planes[others] == label) for label in (1, 2)]))
