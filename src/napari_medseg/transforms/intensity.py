"""Intensity statistics and normalisation, in one pass over the planes, numpy only.

Shapes: a plane is (Y, X), a block (Z, Y, X).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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


class RunningStatistics:
    """The statistics of several channels at once, from blocks in any number and of any depth.

    names: what each channel is called in an error.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._channels = [(name, _Sums()) for name in names]

    def add(self, blocks: Iterable[npt.NDArray[np.generic]]) -> None:
        """Count a block (Z, Y, X) of each channel."""
        for (_, sums), block in zip(self._channels, blocks, strict=True):
            for plane in block:
                sums.add(plane)

    def result(self, voxels: int | None = None) -> tuple[Statistics, ...]:
        """The statistics of each channel so far; InputError where no voxel of a channel is finite.

        voxels: how many of them count, where the others are known to be 0; by default all.
        """
        return tuple(sums.statistics(name, voxels) for name, sums in self._channels)


class NonzeroBox:
    """The smallest box that holds all that is not 0 in any channel, from the blocks of an image."""

    def __init__(self) -> None:
        self._low: npt.NDArray[np.int64] | None = None
        self._high: npt.NDArray[np.int64] | None = None

    def add(self, block: npt.NDArray[np.generic], place: tuple[int, int]) -> None:
        """Look at a block (C, Z, Y, X); place: its first plane and row in the image."""
        found: npt.NDArray[np.bool_] = np.any(np.not_equal(block, 0), axis=0)
        if not found.any():
            return
        sides = [np.flatnonzero(found.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        begin = np.array([*place, 0])
        low = begin + [side[0] for side in sides]
        high = begin + [side[-1] + 1 for side in sides]
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)

    @property
    def voxels(self) -> int | None:
        """The voxels in the box; None where all is 0."""
        if self._low is None or self._high is None:
            return None
        return int(np.prod(self._high - self._low))


class _Sums:
    """Count, sum and sum of squares of the finite voxels of one channel, a number of each per plane."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._sums: list[float] = []
        self._squares: list[float] = []

    def add(self, plane: npt.NDArray[np.generic]) -> None:
        values = plane.astype(np.float64)
        if plane.dtype.kind == "f":
            values = values[np.isfinite(values)]
        self._counts.append(values.size)
        self._sums.append(float(values.sum()))
        self._squares.append(float(np.square(values).sum()))

    def statistics(self, name: str, voxels: int | None = None) -> Statistics:
        count = sum(self._counts)
        if count == 0:
            raise InputError(f"{name} has no finite voxel: nothing can be normalised")
        count = voxels or count
        # fsum rounds once, at the end: the numbers, and so the labels, do not depend on how the image is chunked.
        mean = math.fsum(self._sums) / count
        variance = math.fsum(self._squares) / count - mean * mean
        return Statistics(mean, math.sqrt(max(0.0, variance)))


def standardise(values: Float32Array, mean: float, std: float) -> Float32Array:
    """(values - mean) / std in float32; a constant image becomes 0."""
    return (values - np.float32(mean)) / np.float32(std if std > 1e-8 else 1.0)
