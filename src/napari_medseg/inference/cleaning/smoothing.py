"""Smooth borders of labels that lie side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, union, within
from napari_medseg.events import Progress, Work
from napari_medseg.geometry import Triple

_REACH = 3.0
"""Standard deviations after which a Gaussian counts as zero."""
_TIE = 1e-4
"""Shares of a voxel that differ by less are equal: it stays what it was."""


def smooth_in_steps(
    labels_zyx: npt.NDArray[Any], boxes: Mapping[int, Box], sigma_mm: float, spacing_zyx_mm: Triple
) -> Work[None]:
    """Smooth some labels of an array (Z, Y, X) in place, all at once, so that no gap opens between them.

    The mask of each is blurred by a Gaussian, and a voxel goes to the label of the largest share, or to the background
    if that has more. Voxels of other labels stay as they are. boxes: {label to smooth: a box that holds its voxels}.
    """
    if not boxes:
        return
    sigma = [sigma_mm / step for step in spacing_zyx_mm]
    wide = {label: _grown(box, sigma, labels_zyx.shape) for label, box in boxes.items()}
    area = reduce(union, wide.values())
    now = labels_zyx[area]
    best, shares = np.zeros(now.shape, np.float32), np.zeros(now.shape, np.float32)
    winner = np.zeros_like(now)
    for done, (label, box) in enumerate(wide.items(), start=1):
        blurred = ndimage.gaussian_filter(
            (labels_zyx[box] == label).astype(np.float32), sigma, mode="nearest", truncate=_REACH
        )
        at = within(box, area)
        shares[at] += blurred
        larger = blurred > best[at]
        best[at][larger], winner[at][larger] = blurred[larger], label
        yield Progress(done, len(wide), "labels smoothed")
    ours = np.isin(now, list(boxes))
    lead = best - (1 - shares)
    taken = (lead > _TIE) & (ours | (now == 0))
    now[ours & (lead < -_TIE)] = 0
    now[taken] = winner[taken]


def _grown(box: Box, sigma: list[float], shape: tuple[int, ...]) -> Box:
    """The box and all that its Gaussian reaches, inside the image."""
    margins = [math.ceil(_REACH * s) + 1 for s in sigma]
    z, y, x = (slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(box, margins, shape, strict=True))
    return z, y, x
