"""RoIAlign in 2D and 3D: the features inside a box, sampled at a fixed number of places.

Source: He et al., ICCV 2017, doi:10.1109/ICCV.2017.322. Places of an image lie on edges, see `boxes`; a map of any
stride covers the same edges as its image, so that a place is the same fraction of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def roi_align(features: Tensor, boxes: Tensor, size: Sequence[int], bins: int) -> Tensor:
    """The features (C, *map) of one image inside boxes (n, 2 d): (n, C, bins, ... bins), linear between places.

    size: of the image that the map covers, in voxels. bins: samples along each axis, each in the middle of its bin.
    Beyond the map its border is repeated.
    """
    count, dims = len(boxes), len(size)
    fractions = places_in(boxes, bins) / boxes.new_tensor(size)[:, None]  # (n, d, bins)
    along = (2 * fractions - 1).unbind(1)
    grids = [a.reshape(count, *[bins if k == axis else 1 for k in range(dims)]) for axis, a in enumerate(along)]
    # grid_sample wants x first
    wide = [count, *[bins] * dims]
    grid = torch.stack([places.expand(wide) for places in reversed(grids)], dim=-1)
    # The boxes lie one behind the other along the first axis: one call, and one copy of the map.
    grid = grid.reshape(1, count * bins, *grid.shape[2:])
    found = functional.grid_sample(features[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0].reshape(len(features), count, *[bins] * dims).transpose(0, 1)


def places_in(boxes: Tensor, bins: int) -> Tensor:
    """(n, 2 d) -> (n, d, bins): the middles of the bins of each box, in voxels from the image's edge."""
    low, high = boxes.chunk(2, dim=-1)
    steps = (torch.arange(bins, device=boxes.device, dtype=boxes.dtype) + 0.5) / bins
    return low[..., None] + (high - low)[..., None] * steps
