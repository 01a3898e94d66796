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
Distances = npt.NDArray[np.float64]

_LEAST_OVERLAP = 0.1
"""What remains of the generalised Dice loss beside the boundary loss."""
_EACH_EPOCH = 0.01
"""What the boundary loss gains in each of the published epochs, and the other loses."""
_EPOCHS = 200
"""Those of the published training."""


def boundary(given: Masked, context: Context) -> torch.Tensor:
    """Generalised Dice with a share that falls, and the boundary loss with one that grows (Kervadec et al., MIDL 2019).

    As published they start with the weights 1 and 0.01; each of 200 epochs takes 0.01 from the first, down to 0.1, and
    adds it to the second, up to 2. Here the whole budget takes the place of these epochs, whose length depends on the
    number of the cases. The boundary loss is the mean of p phi, phi = d outside and -(d - 1 voxel) inside, and so may
    be negative.
    """
    epoch = (_EPOCHS - 1) * context.done
    share = max(_LEAST_OVERLAP, 1 - _EACH_EPOCH * epoch)
    phi, sure = _by_class(given, context.spacing, lambda outside, inside: _level_set(outside, inside, context.spacing))
    along_surface = _mean(given.probability[:, 1:] * phi, sure)
    return share * generalised_dice(given, context) + _EACH_EPOCH * (1 + epoch) * along_surface


def signed_distance(given: Masked, context: Context) -> torch.Tensor:
    """The squared error of a signed distance, -1 deepest inside to 1 farthest outside (Li et al., MICCAI 2020).

    It is read off the logits: tanh of the log odds against all other classes. A network with a head of its own for the
    distance also learns it there, see `heads`.
    """
    odds = given.logits[:, 1:] - _others(given.logits)[:, 1:]
    return distance_error(torch.tanh(-odds), given, context)


def distance_error(found: torch.Tensor, given: Masked, context: Context) -> torch.Tensor:
    """The mean squared error of distances (B, K - 1, *size) over the voxels whose distance is known."""
    wanted, sure = _by_class(given, context.spacing, _normalised)
    return _mean((found - wanted).square(), sure)


def distances(mask: Mask, known: Mask, spacing: Sequence[float]) -> tuple[Distances, Distances, Mask]:
    """Of each known voxel outside of a mask to the nearest one of it, and inside to the nearest known other; which are
    sure.

    0 on the other side, and everywhere where there is no surface. A voxel that lies nearer to an unknown one than to
    the surface is not sure: a nearer surface may run there.
    """
    other, everywhere = known & ~mask, bool(known.all())
    if not mask.any() or not other.any():
        return np.zeros(mask.shape), np.zeros(mask.shape), np.full(mask.shape, everywhere)
    outside, inside = distance_transform_edt(~mask, spacing) * other, distance_transform_edt(~other, spacing) * mask
    sure = known if everywhere else known & (distance_transform_edt(known, spacing) >= outside + inside)
    return outside, inside, sure


def _normalised(outside: Distances, inside: Distances) -> Distances:
    """Over the largest on its side: -1 deepest inside, 1 farthest outside."""
    return outside / (outside.max() or 1) - inside / (inside.max() or 1)


def _level_set(outside: Distances, inside: Distances, spacing: Sequence[float]) -> Distances:
    return outside - (inside - min(spacing)) * (inside > 0)


def _by_class(
    given: Masked, spacing: Sequence[float], value_of: Callable[[Distances, Distances], Distances]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, K - 1, *size) of a value of the `distances` of each patch and class, and 1 where these are sure, else 0."""
    masks, known = (x.bool().cpu().numpy() for x in (given.truth[:, 1:], given.known[:, 0]))
    found = [[distances(mask, there, spacing) for mask in patch] for patch, there in zip(masks, known, strict=True)]
    values = np.array([[value_of(*each[:2]) for each in patch] for patch in found], np.float32)
    sure = np.array([[each[2] for each in patch] for patch in found], np.float32)
    device = given.logits.device
    return torch.from_numpy(values).to(device), torch.from_numpy(sure).to(device)


def _mean(values: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """The mean where they are sure."""
    return (values * sure).sum() / sure.sum().clamp(min=1)


def _others(logits: torch.Tensor) -> torch.Tensor:
    """For each class, the logarithm of the summed exponentials of all others."""
    count = logits.shape[1]
    rest = [torch.cat((logits[:, :k], logits[:, k + 1 :]), 1).logsumexp(1) for k in range(count)]
    return torch.stack(rest, 1)
