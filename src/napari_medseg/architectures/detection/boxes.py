"""Boxes around objects: anchors, overlaps, offsets, suppression of all but the best.

A box is (2 d,): the low edges along the d axes, then the high edges, in voxels; voxel i reaches from i to i + 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST_GROWTH = 3.0
"""Logarithm of the factor by which a box may differ from its anchor: beyond it, a wild guess would overflow."""


def anchors_of(size: Sequence[int], stride: int, edges: Sequence[int]) -> Tensor:
    """Cubes of some edge lengths (voxels) around every place of a feature map: (places * len(edges), 2 d).

    size: of the map. stride: voxels of the image between two places.
    """
    axes = [(torch.arange(n) + 0.5) * stride for n in size]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 1, len(size))
    half = torch.tensor(edges, dtype=torch.float32).reshape(1, -1, 1) / 2
    return torch.cat((centres - half, centres + half), dim=-1).reshape(-1, 2 * len(size))


def volume_of(boxes: Tensor) -> Tensor:
    """(n, 2 d) -> (n,): voxels; 0 for a box without inside."""
    low, high = boxes.chunk(2, dim=-1)
    return (high - low).clamp(min=0).prod(-1)


def shared(a: Tensor, b: Tensor) -> Tensor:
    """(n, 2 d), (m, 2 d) -> (n, m): the voxels that each pair of boxes shares."""
    (low_a, high_a), (low_b, high_b) = a.chunk(2, dim=-1), b.chunk(2, dim=-1)
    # Axis by axis: (n, m, d) at once is the largest array of a training.
    sides = [
        (torch.minimum(high_a[:, None, k], high_b[None, :, k]) - torch.maximum(low_a[:, None, k], low_b[None, :, k]))
        for k in range(low_a.shape[-1])
    ]
    found = sides[0].clamp(min=0)
    for side in sides[1:]:
        found = found * side.clamp(min=0)
    return found


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(n, 2 d), (m, 2 d) -> (n, m): intersection over union."""
    both = shared(a, b)
    return both / (volume_of(a)[:, None] + volume_of(b)[None] - both).clamp(min=1e-6)


def offsets_between(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(n, 2 d), (n, 2 d) -> (n, 2 d): shifts of the centres in anchor lengths, and logarithms of the lengths' ratios.

    Source: Ren et al., NeurIPS 2015, eq. 2.
    """
    (centre, length), (wanted, long) = _centred(anchors), _centred(boxes)
    return torch.cat(((wanted - centre) / length, (long / length).log()), dim=-1)


def moved(anchors: Tensor, offsets: Tensor) -> Tensor:
    """The boxes that offsets make of anchors: the inverse of `offsets_between`."""
    centre, length = _centred(anchors)
    shift, growth = offsets.chunk(2, dim=-1)
    centre = centre + shift * length
    half = length * growth.clamp(-_LARGEST_GROWTH, _LARGEST_GROWTH).exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def clipped(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """The parts of boxes that lie in an image of this size."""
    limit = boxes.new_tensor([*size, *size])
    return torch.minimum(boxes.clamp(min=0), limit)


def best_of(boxes: Tensor, scores: Tensor, iou_above: float) -> Tensor:
    """Indices of the boxes that stay, best first: one that overlaps a better one by more is left out (greedy NMS).

    Of equal scores the first one is the better.
    """
    order = scores.argsort(descending=True, stable=True)
    overlapping = (iou(boxes[order], boxes[order]) > iou_above).cpu().numpy()
    stays = [True] * len(order)
    for i in range(len(order)):
        if stays[i]:
            for j in overlapping[i, i + 1 :].nonzero()[0].tolist():
                stays[i + 1 + j] = False
    return order[list(itertools.compress(range(len(order)), stays))]


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and lengths (n, d); no length is below one hundredth of a voxel."""
    low, high = boxes.chunk(2, dim=-1)
    return (low + high) / 2, (high - low).clamp(min=0.01)
