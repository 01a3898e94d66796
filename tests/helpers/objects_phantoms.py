"""Labels and detections whose objects touch, for tests of what tells them apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg import Grid, Segmentation, Volume

BLOCKS = (8, 60, 300, 10_000)
"""Voxels of a block: from one that holds no object to one that holds all."""


def of_blobs(seed: int) -> npt.NDArray[np.uint8]:
    """Blobs of two labels (9, 12, 13), of which many touch across faces, edges and corners."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(9, 12, 13)), 0.8)
    return np.asarray(np.digitize(noise, [0.1, 0.25]), np.uint8)


def discs(seed: int = 0, size: int = 48) -> tuple[Volume, Segmentation]:
    """A flat image of eight bright discs in four pairs that touch, with noise; ids 1 to 8."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    ids = np.zeros((1, size, size), np.int32)
    for number, (row, column) in enumerate((r, c) for r in (12, 36) for c in (7, 17, 31, 41)):
        ids[0][(y - row - draw.integers(-2, 3)) ** 2 + (x - column) ** 2 < 25] = number + 1
    image = (ids > 0) + 0.1 * draw.normal(size=ids.shape)
    grid = Grid.from_spacing(ids.shape, (1.0, 1.0, 1.0))
    return Volume(image[None].astype(np.float32), grid, name=f"discs {seed}"), Segmentation(ids, grid)


def balls(radius: int = 5, apart: int = 8) -> Segmentation:
    """Two balls of a label that touch, one of another label beside them, and a speck."""
    shape = (2 * radius + 3, 2 * radius + 3, 4 * radius + 10)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    middle = radius + 1
    for centre in (middle, middle + apart):
        labels[(z - middle) ** 2 + (y - middle) ** 2 + (x - centre) ** 2 <= radius**2] = 1
    labels[(z - middle) ** 2 + (y - middle) ** 2 + (x - middle - apart - 9) ** 2 <= 12] = 4
    labels[0, 0, 0] = 1
    return Segmentation(labels, Grid.from_spacing(shape, (1.0, 1.0, 1.0)), {1: "lesion", 4: "cyst"}, name="found")
