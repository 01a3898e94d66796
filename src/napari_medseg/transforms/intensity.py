"""Intensity statistics and normalisation, one pass over planes, numpy only.

Shapes: a plane is (Y, X), a block (Z, Y, X). Statistics are summed plane by plane in float64 and combined exactly,
so that they do not depend on how the image is chunked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError

Float32Array = npt.NDArray[np.float32]

CT_BELOW_HU = -500.0
"""An image with values below is taken for CT in Hounsfield units: no other modality goes so far below zero."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the finite voxels of a whole image."""

    mean: float
    std: float


def as_float32(block: npt.NDArray[np.generic]) -> Float32Array:
    """The voxels as float32, those that are not finite as 0."""
    values = np.asarray(block, dtype=np.float32)
    if block.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return values


def statistics(blocks: Iterable[npt.NDArray[np.generic]], name: str) -> Statistics:
    """Mean and standard deviation over blocks (Z, Y, X) of one channel; InputError where no voxel is finite."""
    counts: list[int] = []
    sums: list[float] = []
    squares: list[float] = []
    for block in blocks:
        for plane in block:
            values = plane.astype(np.float64)
            if plane.dtype.kind == "f":
                values = values[np.isfinite(values)]
            counts.append(values.size)
            sums.append(float(values.sum()))
            squares.append(float(np.square(values).sum()))
    count = sum(counts)
    if count == 0:
        raise InputError(f"{name} has no finite voxel: nothing can be normalised")
    mean = math.fsum(sums) / count
    return Statistics(mean, math.sqrt(max(0.0, math.fsum(squares) / count - mean * mean)))


def standardise(values: Float32Array, mean: float, std: float) -> Float32Array:
    """(values - mean) / std in float32; a constant image becomes 0."""
    return (values - np.float32(mean)) / np.float32(std if std > 1e-8 else 1.0)
