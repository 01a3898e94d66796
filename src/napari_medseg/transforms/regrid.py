"""Volumes and labels resampled onto the grid of another: any orientation, oblique too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError
from napari_medseg.volume import Grid, Segmentation, Volume

Interpolation = Literal["linear", "nearest"]
Noun = TypeVar("Noun", bound=Volume | Segmentation)
Array = npt.NDArray[Any]


def resample_onto(x: Noun, grid: Grid, interpolation: Interpolation = "linear") -> Noun:
    """`x` on another grid.

    linear: trilinear for images (float32); for labels each label's mask is interpolated and the largest wins, which
    keeps ids and is smoother than nearest. nearest: the value of the nearest voxel. Outside of `x` an image has its
    smallest value, labels are background. Grids equal up to flips and permutations are matched without interpolation.
    Raises InputError for another interpolation.
    """
    if interpolation not in get_args(Interpolation):
        raise InputError(f"interpolation is one of {', '.join(get_args(Interpolation))}; got {interpolation!r}")
    stored = np.asarray(x.data[...])
    order = x.grid.order_onto(grid)
    if order is not None:
        data = order.apply(stored)
    elif isinstance(x, Segmentation):
        data = _labels(stored, x.grid, grid, interpolation)
    else:
        data = np.stack([_image(channel, x.grid, grid, interpolation) for channel in stored])
    return replace(x, data=data, grid=grid)


def _image(channel: Array, source: Grid, target: Grid, interpolation: Interpolation) -> Array:
    values = channel.astype(np.float32) if interpolation == "linear" else channel
    return _sampled(values, source, target, 1 if interpolation == "linear" else 0, fill=float(channel.min()))


def _labels(labels: Array, source: Grid, target: Grid, interpolation: Interpolation) -> Array:
    if interpolation == "nearest":
        return _sampled(labels, source, target, 0, fill=0)
    best = np.zeros(target.shape, np.float32)
    result = np.zeros(target.shape, labels.dtype)
    for label in np.union1d([0], np.unique(labels)):
        share = _sampled((labels == label).astype(np.float32), source, target, 1, fill=float(label == 0))
        wins = share > best
        result[wins] = label
        np.maximum(best, share, out=best)
    return result


def _sampled(values: Array, source: Grid, target: Grid, order: int, fill: float) -> Array:
    """`values` at the target's voxel centres; order 0 nearest, 1 linear."""
    from scipy.ndimage import affine_transform

    to_source = np.linalg.inv(source.affine) @ target.affine
    # grid-constant: a centre that rounding puts 1e-13 outside keeps its value
    sampled: Array = affine_transform(
        values, to_source[:3, :3], to_source[:3, 3], target.shape, order=order, mode="grid-constant", cval=fill
    )
    return sampled
