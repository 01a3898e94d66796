"""Losses of distances to the surface, in mm. IGNORE voxels count nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt

from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.masked import Masked
from napari_medseg.training.losses.overlap import generalised_dice

Mask = npt.NDArray[np.bool_]

_LEAST_OVERLAP = 0.1
"""What remains of the generalised Dice loss beside the boundary loss."""
_EACH_EPOCH = 0.01
"""What the boundary loss gains in each epoch, and the other loses."""


def boundary(given: Masked, context: Context) -> torch.Tensor:
    """Generalised Dice with a share that falls, and the boundary loss with one that grows (Kervadec et al., MIDL 2019).

    It starts with 1 and 0.01. The boundary loss is the mean of p phi, phi = d outside and -(d - 1 voxel) inside, and so
    may be negative.
    """
    share = max(_LEAST_OVERLAP, 1 - _EACH_EPOCH * context.epoch)
    phi = _by_class(given, lambda mask: _level_set(mask, context.spacing))
    along_surface = given.mean((given.probability[:, 1:] * phi).mean(1))
    return share * generalised_dice(given, context) + _EACH_EPOCH * (1 + context.epoch) * along_surface


def signed_distance(given: Masked, context: Context) -> torch.Tensor:
    """The squared error of a signed distance, -1 deepest inside to 1 farthest outside (Li et al., MICCAI 2020).

    It is read off the logits: tanh of the log odds against all other classes. A network with a head of its own for the
    distance also learns it there, see `heads`.
    """
    odds = given.logits[:, 1:] - _others(given.logits)[:, 1:]
    return distance_error(torch.tanh(-odds), given, context)


def distance_error(found: torch.Tensor, given: Masked, context: Context) -> torch.Tensor:
    """The mean squared error of distances (B, K - 1, *size) over the known voxels."""
    wanted = _by_class(given, lambda mask: normalised_distance(mask, context.spacing))
    return given.mean((found - wanted).square().mean(1))


def normalised_distance(mask: Mask, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Distance to the surface over the largest on its side: -1 deepest inside, 1 farthest outside.

    0 everywhere for an empty or a full mask, which has no surface.
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside, inside = distance_transform_edt(~mask, spacing), distance_transform_edt(mask, spacing)
    return np.asarray(outside / outside.max() - inside / inside.max())


def _level_set(mask: Mask, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside, inside = distance_transform_edt(~mask, spacing), distance_transform_edt(mask, spacing)
    return np.asarray(outside - (inside - min(spacing)) * mask)


def _by_class(given: Masked, distance_of: Callable[[Mask], npt.NDArray[np.float64]]) -> torch.Tensor:
    """(B, K - 1, *size) of a distance of each patch and class."""
    masks = given.truth[:, 1:].bool().cpu().numpy()
    made = np.stack([np.stack([distance_of(mask) for mask in patch]) for patch in masks])
    return torch.from_numpy(made.astype(np.float32)).to(given.logits.device)


def _others(logits: torch.Tensor) -> torch.Tensor:
    """For each class, the logarithm of the summed exponentials of all others."""
    count = logits.shape[1]
    rest = [torch.cat((logits[:, :k], logits[:, k + 1 :]), 1).logsumexp(1) for k in range(count)]
    return torch.stack(rest, 1)
