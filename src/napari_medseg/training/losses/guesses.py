"""What a network learns where nobody annotated: from guesses, and from the edges of the image."""

from __future__ import annotations

import torch

from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.masked import Masked

_SHARPNESS = 0.5
"""Difference of intensities, in standard deviations, at which an edge separates."""
_SMOOTH = 1e-3
_LEAST = 1e-4
"""Probability that a shape gives to what it excludes."""


def guess(shapes: torch.Tensor, found: torch.Tensor, trust: float) -> torch.Tensor:
    """What lies between painted slices (B, K, *size): shapes and what the network finds there, as one opinion.

    A product of powers of both probabilities, normalised. trust: in the network, from 0, where the shapes alone count,
    to 1, where they count by their square root. found: logits.
    """
    of_network = found.float().log_softmax(1)
    return (trust * of_network + (1 - trust / 2) * (shapes + _LEAST).log()).softmax(1)


def towards(logits: torch.Tensor, wanted: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice towards probabilities (B, K, *size), in the voxels of `where` (B, 1, *size)."""
    logs = logits.float().log_softmax(1)
    wanted = wanted * where
    entropy = -(wanted * logs).sum() / where.sum().clamp(min=1)
    over = (0, *range(2, logits.ndim))
    found = logs.exp() * where
    both, sizes = (found * wanted).sum(over), found.sum(over) + wanted.sum(over)
    return entropy + 1 - ((2 * both + _SMOOTH) / (sizes + _SMOOTH))[1:].mean()


def smooth(given: Masked, context: Context) -> torch.Tensor:
    """How often neighbours of a like intensity differ in their class, over all voxels, annotated or not.

    The mean of w (1 - p . q) over neighbours along the axes, w = exp(-(difference of intensities)^2 / 2 s^2): the
    regulariser of scribbles (after Tang et al., ECCV 2018, with neighbours in place of all pairs).
    """
    images, size = context.images, given.logits.shape[2:]
    if images is None or images.shape[2:] != size:  # coarse outputs of deep supervision are smooth already
        return given.logits.sum() * 0
    probability, terms = given.logits.softmax(1), []
    for axis in range(2, images.ndim):
        n = images.shape[axis] - 1
        if not n:
            continue
        apart = (images.narrow(axis, 1, n) - images.narrow(axis, 0, n)).float().square().sum(1)
        alike = torch.exp(-apart / (2 * _SHARPNESS**2))
        together = (probability.narrow(axis, 1, n) * probability.narrow(axis, 0, n)).sum(1)
        terms.append((alike * (1 - together)).mean())
    return torch.stack(terms).mean()
