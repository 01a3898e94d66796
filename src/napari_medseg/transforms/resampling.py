"""Resampling as the source program of a model does it: the grid, the way there and the way back. Pure index code.

The way back is linear, or takes the nearest, axis by axis: `AxisMap` says how.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import AxisMap, Shape3, Triple
from napari_medseg.transforms.splines import coarse_axis
from napari_medseg.volume import Grid

if TYPE_CHECKING:
    from napari_medseg.models.pipeline import Step
    from napari_medseg.models.spec import ModelSpec

Array = npt.NDArray[np.float32]


def resampling_step(spec: ModelSpec) -> Step | None:
    """The step of a model that resamples; None where it has none."""
    return next((step for step in spec.steps if step.kind == "resample"), None)


def model_grid(image_grid: Grid, spec: ModelSpec) -> Grid:
    """The grid of a model with steps, before any crop. image_grid: in the model's axis order."""
    step = resampling_step(spec)
    if step is None:
        return image_grid
    shape = _model_shape(image_grid, spec, step)
    scale = np.array([_step(old, new, step, spacing) for old, new, spacing in _axes(image_grid, shape, spec)])
    to_old = np.eye(4)
    to_old[:3, :3] = np.diag(scale)
    if step.method != "corners":
        to_old[:3, 3] = (scale - 1) / 2
    return Grid(shape, image_grid.affine @ to_old)


def _axes(image_grid: Grid, shape: Shape3, spec: ModelSpec) -> list[tuple[int, int, float]]:
    wanted = spec.spacing_zyx_mm or image_grid.spacing
    ratios = [want / have for want, have in zip(wanted, image_grid.spacing, strict=True)]
    return list(zip(image_grid.shape, shape, ratios, strict=True))


def _step(old: int, new: int, step: Step, ratio: float) -> float:
    """How far neighbouring new samples are apart, in old ones."""
    if step.method == "corners":
        return ratio
    return old / new


def _model_shape(image_grid: Grid, spec: ModelSpec, step: Step) -> Shape3:
    sizes = list(image_grid.shape)
    for axis, old in enumerate(image_grid.shape):
        if axis in step.kept_axes:
            continue
        if spec.size_zyx is not None:
            sizes[axis] = spec.size_zyx[axis] or old
            continue
        assert spec.spacing_zyx_mm is not None, "a step that resamples needs a spacing or a size"
        ratio = image_grid.spacing[axis] / spec.spacing_zyx_mm[axis]
        length = (old - 1) * ratio + 1 if step.method == "corners" else old * ratio
        sizes[axis] = max(1, round(length))
    return sizes[0], sizes[1], sizes[2]


def resampled(values: Array, image_grid: Grid, spec: ModelSpec, step: Step, shape: Shape3) -> Array:
    """`values` (C, *shape of the image grid) on the model's grid, as the source program resamples images.

    shape: of `values`, which may be a crop of the image; the new shape follows from it.
    """
    here = Grid(shape, image_grid.affine)
    new = model_grid(here, spec).shape
    if new == shape:
        return values
    if step.method == "cubic":
        axis = coarse_axis(image_grid.spacing, _wanted(image_grid, spec, step))
        return np.stack([_splines(channel, new, axis) for channel in values])
    if step.method == "corners":
        return _by_monai(values, image_grid, spec, step)
    make = _means if step.method == "area" else extent_map
    for axis in range(3):
        if new[axis] != shape[axis]:
            values = _along(values, make(shape[axis], new[axis], 0), axis + 1)
    return values


def _by_monai(values: Array, image_grid: Grid, spec: ModelSpec, step: Step) -> Array:
    """MONAI's own Spacing. Its rounding matters: a step after it may ask which voxels are exactly 0."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    up, back, left = image_grid.affine[:3]
    affine = torch.from_numpy(np.stack([-left, -back, up, [0, 0, 0, 1]]))
    assert spec.spacing_zyx_mm is not None, "a step that resamples needs a spacing or a size"
    pixdim = [-1.0 if axis in step.kept_axes else value for axis, value in enumerate(spec.spacing_zyx_mm)]
    image = MetaTensor(torch.from_numpy(np.ascontiguousarray(values)), affine=affine)
    return np.asarray(Spacing(pixdim, mode="bilinear")(image).numpy(), np.float32)


def _wanted(image_grid: Grid, spec: ModelSpec, step: Step) -> Triple:
    """The model's spacing; along axes that are kept, the image's."""
    wanted = list(spec.spacing_zyx_mm or image_grid.spacing)
    for axis in step.kept_axes:
        wanted[axis] = image_grid.spacing[axis]
    return wanted[0], wanted[1], wanted[2]


def _splines(channel: Array, new: Shape3, axis: int | None) -> Array:
    """Cubic splines over the same box; along a thick axis the nearest slice."""
    from skimage.transform import resize

    if axis is None:
        return np.asarray(resize(channel, new, order=3, mode="edge", anti_aliasing=False), np.float32)
    planar = tuple(n for a, n in enumerate(new) if a != axis)
    slices = np.moveaxis(channel, axis, 0)
    flat = [resize(plane, planar, order=3, mode="edge", anti_aliasing=False) for plane in slices]
    nearest = AxisMap.between(len(slices), new[axis], mode="nearest").first
    return np.moveaxis(np.asarray(flat, np.float32)[nearest], 0, axis)


def _along(values: Array, axis_map: AxisMap, axis: int) -> Array:
    moved = np.moveaxis(values, axis, -1)
    taken = sum(moved[..., axis_map.first + tap] * axis_map.weights[:, tap] for tap in range(axis_map.taps))
    return np.ascontiguousarray(np.moveaxis(np.asarray(taken, np.float32), -1, axis))


def maps_back(image_grid: Grid, model_shape: Shape3, spec: ModelSpec) -> tuple[AxisMap, AxisMap, AxisMap]:
    """From the samples of the model's grid, before any crop, to those of the image's."""
    step = resampling_step(spec)
    nearest = spec.output.brought_back == "labels"
    thick = None
    if step is not None and step.method == "cubic":
        thick = coarse_axis(image_grid.spacing, _wanted(image_grid, spec, step))
    made = []
    for axis, (image, model, ratio) in enumerate(_axes(image_grid, model_shape, spec)):
        if image == model:
            made.append(AxisMap.between(model, image))
        elif nearest or axis == thick:
            made.append(_nearest(model, image, 1 / ratio if step and step.method == "corners" else model / image, step))
        elif step is not None and step.method == "corners":
            made.append(there(model, image, 1 / ratio))
        elif step is not None and step.method == "area":
            made.append(_means(model, image, 0))
        else:
            made.append(extent_map(model, image, 0))
    return made[0], made[1], made[2]


def there(old: int, new: int, ratio: float) -> AxisMap:
    """Linear; new sample i lies at old sample i * ratio, those beyond the end repeat it."""
    return _linear(old, np.arange(new) * ratio)


def extent_map(old: int, new: int, _ratio: float) -> AxisMap:
    """Linear over the same box, without a filter against aliasing."""
    return _linear(old, (np.arange(new) + 0.5) * (old / new) - 0.5)


def _linear(old: int, at: npt.NDArray[np.floating[Any]]) -> AxisMap:
    at = at.clip(0, old - 1)
    taps = min(2, old)
    first = np.clip(np.floor(at).astype(np.int64), 0, old - taps)
    share = (at - first).astype(np.float32)
    weights = np.stack([1 - share, share], axis=1) if taps == 2 else np.ones((len(at), 1), np.float32)
    return AxisMap(first, weights.astype(np.float32), old)


def _nearest(old: int, new: int, ratio: float, step: Step | None) -> AxisMap:
    method = step.method if step else "cubic"
    if method == "corners":
        at = np.round(np.arange(new) * ratio)
    elif method == "cubic":
        at = np.round((np.arange(new) + 0.5) * (old / new) - 0.5)
    else:  # as torch takes the nearest when it resizes
        at = np.floor(np.arange(new) * (old / new))
    first = np.clip(at.astype(np.int64), 0, old - 1)
    return AxisMap(first, np.ones((new, 1), np.float32), old)


def _means(old: int, new: int, _ratio: float) -> AxisMap:
    """New sample i is the mean of the old ones that its box touches, as torch's adaptive average pooling."""
    weights = np.zeros((new, old))
    for i in range(new):
        start, stop = floor(i * old / new), ceil((i + 1) * old / new)
        weights[i, start:stop] = 1 / (stop - start)
    return banded(weights)


def cropped(axis_map: AxisMap, start: int, stop: int) -> AxisMap:
    """The map for an axis of which only the samples [start, stop) are there: the others count as nothing."""
    weights = np.zeros((len(axis_map.first), axis_map.n_old))
    rows = np.arange(len(axis_map.first))
    for tap in range(axis_map.taps):
        weights[rows, axis_map.first + tap] += axis_map.weights[:, tap]
    inside = weights[:, max(0, start) : stop]
    return banded(np.pad(inside, ((0, 0), (max(0, -start), max(0, stop - axis_map.n_old)))))


def banded(weights: npt.NDArray[np.float64]) -> AxisMap:
    """A table of weights (new, old), whose rows move forward, as the band that is not 0."""
    old = weights.shape[1]
    is_there = weights != 0
    low = np.where(is_there.any(1), is_there.argmax(1), 0)
    high = np.where(is_there.any(1), old - is_there[:, ::-1].argmax(1), 0)
    taps = max(1, int((high - low).max()))
    first = np.minimum(np.maximum.accumulate(low), old - taps)
    columns = first[:, None] + np.arange(taps)
    return AxisMap(first.astype(np.int64), np.take_along_axis(weights, columns, 1).astype(np.float32), old)
