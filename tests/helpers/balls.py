"""A small volume with two bright balls and its labels, for tests that need files of any content."""

from __future__ import annotations

import numpy as np

from napari_medseg import Grid, Segmentation, Volume

SHAPE = (12, 20, 16)
LABELS = {1: "left ball", 2: "right ball"}


def volume(channels: int = 1, seed: int = 0) -> Volume:
    """Noise around two bright balls; orientation SPL, 2 x 1 x 1 mm."""
    noise = np.random.default_rng(seed).normal(0, 10, (channels, *SHAPE))
    data = (noise + 100 * (balls() > 0)).astype(np.int16)
    return Volume(data, Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0)))


def balls() -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Two balls, as label ids."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = np.zeros(SHAPE, np.uint8)
    for label, centre_y in enumerate((5, 14), start=1):
        labels[(2.0 * (z - 6)) ** 2 + (y - centre_y) ** 2 + (x - 8) ** 2 < 16] = label
    return labels


def segmentation() -> Segmentation:
    return Segmentation(balls(), volume().grid, LABELS)
