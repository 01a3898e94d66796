"""Volumes and labels resampled onto the grid of another: any orientation, oblique too."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, first_of, is_empty, whole, with_margin
from napari_medseg.arrays.label_boxes import boxes_of, checked
from napari_medseg.errors import InputError
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.geometry import FloatArray, Shape3
from napari_medseg.volume import Grid, Segmentation, Volume

Interpolation = Literal["linear", "nearest"]
Noun = TypeVar("Noun", bound=Volume | Segmentation)
Array = npt.NDArray[Any]


def resample_onto(x: Noun, grid: Grid, interpolation: Interpolation = "linear") -> Noun:
    """`x` on another grid.

    linear: trilinear for images (float32); for labels each label's mask is interpolated and the largest wins, which
    keeps ids and is smoother than nearest. nearest: the value of the nearest voxel. Outside of `x` an image has its
    smallest value, labels are background. Grids equal up to flips and permutations are matched without interpolation.
    Raises InputError for another interpolation, and for label ids outside 0 .. 2^31 - 1.
    """
    return run_to_end(resampling_onto(x, grid, interpolation))


def resampling_onto(x: Noun, grid: Grid, interpolation: Interpolation = "linear") -> Work[Noun]:
    """`resample_onto`, channel by channel or label by label."""
    if interpolation not in get_args(Interpolation):
        raise InputError(f"interpolation is one of {', '.join(get_args(Interpolation))}; got {interpolation!r}")
    stored = np.asarray(x.data[...])
    order = x.grid.order_onto(grid)
    if order is not None:
        data = order.apply(stored)
    elif isinstance(x, Segmentation) and interpolation == "linear":
        data = yield from _labels(stored, x.grid, grid)
    elif isinstance(x, Segmentation):
        data = _sampled(stored, _matrix(grid, x.grid), whole(grid.shape), order=0, fill=0)
    else:
        data = yield from _image(stored, x.grid, grid, interpolation)
    return replace(x, data=data, grid=grid)


def _image(channels: Array, source: Grid, target: Grid, interpolation: Interpolation) -> Work[Array]:
    is_linear = interpolation == "linear"
    made = np.empty((len(channels), *target.shape), np.float32 if is_linear else channels.dtype)
    for number, channel in enumerate(channels):
        values = channel.astype(np.float32) if is_linear else channel
        fill = float(channel.min())
        made[number] = _sampled(values, _matrix(target, source), whole(target.shape), order=int(is_linear), fill=fill)
        yield Progress(number + 1, len(channels), "channels resampled")
    return made


def _labels(labels: Array, source: Grid, target: Grid) -> Work[Array]:
    """The label of the largest share in each voxel, the smallest id where shares are equal."""
    to_source, to_target = _matrix(target, source), _matrix(source, target)
    best = _sampled((labels == 0).astype(np.float32), to_source, whole(target.shape), order=1, fill=1)
    result = np.zeros(target.shape, labels.dtype)
    boxes = boxes_of(checked(labels, "the labels"), whole(source.shape))
    for done, (label, box) in enumerate(boxes.items(), start=1):
        there = _reached(box, to_target, target.shape)
        if not is_empty(there):
            near = with_margin(box, source.shape)
            mask = (labels[near] == label).astype(np.float32)
            share = _sampled(mask, to_source, there, order=1, fill=0, first_zyx=first_of(near))
            result[there][share > best[there]] = label
            np.maximum(best[there], share, out=best[there])
        yield Progress(done, len(boxes), "labels resampled")
    return result


def _matrix(of: Grid, to: Grid) -> FloatArray:
    """From indices of a grid to those of another (4, 4)."""
    return np.asarray(np.linalg.inv(to.affine) @ of.affine)


def _reached(box: Box, to_target: FloatArray, shape: Shape3) -> Box:
    """The voxels of the target, of this shape, that lie less than a voxel of the source away from its box."""
    corners = np.array(list(itertools.product(*((b.start - 1, b.stop) for b in box))))
    there = corners @ to_target[:3, :3].T + to_target[:3, 3]
    first, last = np.floor(there.min(axis=0)).astype(int), np.ceil(there.max(axis=0)).astype(int)
    z, y, x = (slice(max(0, int(a)), min(n, int(b) + 1)) for a, b, n in zip(first, last, shape, strict=True))
    return z, y, x


def _sampled(
    values: Array, to_source: FloatArray, box: Box, *, order: int, fill: float, first_zyx: Shape3 = (0, 0, 0)
) -> Array:
    """`values` at the voxel centres in a box of the target; order 0 nearest, 1 linear.

    first_zyx: the voxel of the source that `values` begin with.
    """
    from scipy.ndimage import affine_transform

    turn = to_source[:3, :3]
    offset = turn @ first_of(box) + to_source[:3, 3] - first_zyx
    shape = tuple(b.stop - b.start for b in box)
    # grid-constant: a centre that rounding puts 1e-13 outside keeps its value
    sampled: Array = affine_transform(values, turn, offset, shape, order=order, mode="grid-constant", cval=fill)
    return sampled
