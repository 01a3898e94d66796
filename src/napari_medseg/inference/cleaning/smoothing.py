"""Smooth borders of labels that lie side by side, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, block_shape, regions, rolling, union, whole, with_margin
from napari_medseg.arrays.label_boxes import boxes_of
from napari_medseg.arrays.views import BoxView
from napari_medseg.events import Filled, Progress, Work
from napari_medseg.geometry import Triple

Labels = npt.NDArray[Any]

_REACH = 3.0
"""Standard deviations after which a Gaussian counts as zero."""
_TIE = 1e-4
"""Shares of a voxel that differ by less are equal: it stays what it was."""


def smoothing(
    labels: Any, boxes: Mapping[int, Box], sigma_mm: float, spacing_zyx_mm: Triple, voxels: int, into: Any = None
) -> Work[None]:
    """Smooth some labels (Z, Y, X), all at once, so that no gap opens between them.

    The mask of each is blurred by a Gaussian, and a voxel goes to the label of the largest share, or to the background
    if that has more. Voxels of other labels stay as they are. boxes: {label to smooth: a box that holds its voxels}.
    into: where the labels are written within reach of the boxes; by default in place.
    """
    if not boxes:
        return
    sigma = [sigma_mm / step for step in spacing_zyx_mm]
    area = reduce(union, (reached(box, sigma_mm, spacing_zyx_mm, labels.shape) for box in boxes.values()))
    view = BoxView.around(labels, area)
    target = BoxView(labels if into is None else into, view.box)
    halo = max([1, *(_radius(s) for s, n in zip(sigma, view.shape, strict=True) if n > 1)])
    walk = list(regions(view.shape, block_shape(view.shape, view.chunks, voxels, least=2 * halo), halo))
    for done, (region, seen) in enumerate(zip(walk, rolling(view, walk, halo), strict=True), start=1):
        before = seen[region.core_in_read]
        after = _smoothed(seen, region.core_in_read, sorted(boxes), sigma)
        if into is not None:
            target[region.core] = after
        elif not np.array_equal(before, after):
            target[region.core] = after
            yield Filled(view.of_source(region.core))
        yield Progress(done, len(walk), "blocks smoothed")


def reached(box: Box, sigma_mm: float, spacing_zyx_mm: Triple, shape: Sequence[int]) -> Box:
    """The box and all that its Gaussian reaches, inside the image."""
    return with_margin(box, shape, [_radius(sigma_mm / step) + 1 for step in spacing_zyx_mm])


def _radius(sigma: float) -> int:
    """Voxels on each side that a Gaussian sums over."""
    return math.ceil(_REACH * sigma)


def _smoothed(seen: Labels, core: Box, chosen: Sequence[int], sigma: Sequence[float]) -> Labels:
    """The labels of the core of a block, whose surroundings are wide enough for the Gaussian."""
    now = seen[core].copy()
    best, shares = np.zeros(now.shape, np.float32), np.zeros(now.shape, np.float32)
    winner = np.zeros_like(now)
    margin = max(_radius(s) for s in sigma) + 1
    for label, box in boxes_of(seen, whole(seen.shape)).items():
        if label in chosen:
            near = with_margin(box, seen.shape, margin)
            mask = (seen[near] == label).astype(np.float32)
            blurred = np.zeros(seen.shape, np.float32)
            blurred[near] = ndimage.gaussian_filter(mask, sigma, mode="nearest", truncate=_REACH)
            share = blurred[core]
            shares += share
            larger = share > best
            best[larger], winner[larger] = share[larger], label
    ours = np.isin(now, list(chosen))
    lead = best - (1 - shares)
    taken = (lead > _TIE) & (ours | (now == 0))
    now[ours & (lead < -_TIE)] = 0
    now[taken] = winner[taken]
    return now
