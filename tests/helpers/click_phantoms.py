"""Phantoms for clicks: balls of a known size in noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import Shape3, Triple
from napari_medseg.volume import Grid, Volume

Mask = npt.NDArray[np.bool_]


class Counted:
    """An array that counts the voxels that are read from it, made where it is read: no volume is as large as it says.

    It holds a bright ball of `radius` voxels around `centre`.
    """

    def __init__(self, shape: Shape3, centre: Shape3, radius: int) -> None:
        self.shape: tuple[int, ...] = (1, *shape)
        self.dtype = np.dtype(np.int16)
        self.voxels_read = 0
        self._centre, self._radius = centre, radius

    def __getitem__(self, key: Any) -> npt.NDArray[np.int16]:
        _, *sides = key
        axes = [np.arange(n)[side] for n, side in zip(self.shape[1:], sides, strict=True)]
        squares = [(axis - c) ** 2 for axis, c in zip(axes, self._centre, strict=True)]
        z, y, x = np.ix_(*squares)
        # What stands for noise depends on the place alone.
        a, b, c = np.ix_(*[(axis * prime) % 11 for axis, prime in zip(axes, (7, 13, 29), strict=True)])
        self.voxels_read += z.size * y.size * x.size
        values: npt.NDArray[np.int16] = (((z + y + x <= self._radius**2) * 200) + a + b + c).astype(np.int16)
        return values[None]


def balls(
    shape: Shape3, *centres: Shape3, radius: float, spacing: Triple = (1.0, 1.0, 1.0)
) -> tuple[Volume, list[Mask]]:
    """(a noisy image of bright balls, the mask of each). radius: mm."""
    where = np.indices(shape)
    masks = []
    for centre in centres:
        offsets = (where - np.array(centre)[:, None, None, None]) * np.array(spacing)[:, None, None, None]
        masks.append((offsets**2).sum(axis=0) <= radius**2)
    image = np.random.default_rng(0).normal(0, 1, shape) + 10 * np.logical_or.reduce(masks)
    return Volume(image[None].astype(np.float32), Grid.from_spacing(shape, spacing), name="balls"), masks


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))
