"""Resampling along the axes of an array by banded weights (`geometry.AxisMap`), as torch operations.

The same function makes the network's input from the image and the image's logits from the network's, on CPU and GPU.
"""

from __future__ import annotations

import torch

from napari_medseg.geometry import AxisMap


def resample_axis(
    values: torch.Tensor, axis_map: AxisMap, dim: int, new: slice | None = None, *, offset: int = 0
) -> torch.Tensor:
    """The new samples `new` (default all) along `dim`; `offset` is the old sample at which `values` begins.

    values: any shape, floating point. Returns a tensor of the same dtype with as many samples along `dim` as `new` has.
    """
    new = new or slice(0, len(axis_map.first))
    if axis_map.is_identity:
        return values.narrow(dim, new.start - offset, new.stop - new.start)
    index = torch.from_numpy(axis_map.first[new] - offset).to(values.device)
    if axis_map.taps == 1:
        return _selected(values, dim, index)
    weights = torch.from_numpy(axis_map.weights[new]).to(values.device, values.dtype)
    along = [1] * values.ndim
    along[dim] = len(index)
    result = _selected(values, dim, index).mul_(weights[:, 0].view(along))
    for tap in range(1, axis_map.taps):
        result.addcmul_(_selected(values, dim, index + tap), weights[:, tap].view(along))
    return result


def _selected(values: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """The samples `index` along an axis."""
    if dim % values.ndim < values.ndim - 1:
        return values.index_select(dim, index)
    # index_select copies rows: along the last axis, where they have one value, gather takes a seventh of its time.
    return values.gather(dim, index.expand(*values.shape[:-1], -1))


def resample(values: torch.Tensor, axis_maps: tuple[AxisMap, AxisMap, AxisMap]) -> torch.Tensor:
    """All of the last three axes of `values` (..., Z, Y, X) resampled."""
    for dim, axis_map in zip((-3, -2, -1), axis_maps, strict=True):
        values = resample_axis(values, axis_map, values.ndim + dim)
    return values
