"""Edges of an image, found without learning.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

DERIVATIVE = (-0.5, 0.0, 0.5)
SMOOTHING = (0.25, 0.5, 0.25)


def relative_gradient(x: Tensor) -> Tensor:
    """How steep an image is, from 0 (flat) towards 1: (N, C, *size) -> (N, 1, *size).

    g / (g + mean of g), g the length of Sobel's gradient (in voxels, not millimetres) of the channels' mean. Each image
    is its own measure, so that brightness and contrast do not matter.
    """
    axes = range(2, x.ndim)
    padded = pad(x.mean(1, keepdim=True), [1, 1] * len(axes), mode="replicate")
    slopes = []
    for axis in axes:
        slope = padded
        for other in axes:
            slope = filtered(slope, other, DERIVATIVE if other == axis else SMOOTHING)
        slopes.append(slope)
    steepness: Tensor = torch.linalg.vector_norm(torch.cat(slopes, dim=1), dim=1, keepdim=True)
    return steepness / (steepness + steepness.mean(tuple(axes), keepdim=True)).clamp_min(1e-12)


def filtered(x: Tensor, axis: int, weights: tuple[float, ...]) -> Tensor:
    """The weighted sum of neighbours along an axis, which becomes shorter by len(weights) - 1."""
    length = x.shape[axis] - len(weights) + 1
    return torch.stack([w * x.narrow(axis, k, length) for k, w in enumerate(weights) if w]).sum(0)
