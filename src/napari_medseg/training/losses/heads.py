"""Losses of heads beside the logits: what a network finds out about the image as a whole, its edges, its distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.nn import functional

from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.distance import distance_error
from napari_medseg.training.losses.masked import Masked


def presence(found: torch.Tensor, given: Masked, context: Context) -> torch.Tensor:
    """Cross-entropy of scores (B, 2), or (B, 2, Z) for slices, that there is nothing, something (UNet 3+).

    What is not annotated at all says neither.
    """
    over = tuple(range(2 if found.ndim == 3 else 1, given.classes.ndim))
    there, known = (given.classes > 0).any(dim=over), (given.classes != IGNORE).any(dim=over)
    target = torch.where(known, there.long(), IGNORE)
    return functional.cross_entropy(found.float(), target, ignore_index=IGNORE, reduction="sum") / known.sum().clamp(1)


def edges(found: torch.Tensor, given: Masked, context: Context) -> torch.Tensor:
    """Binary cross-entropy of logits (B, 1, *size) of edges (SAUNet, Sun et al., MICCAI 2020).

    Voxels at edges are few: their mean counts half, and the mean of the others counts half.
    """
    true = _edges_of(given.classes)[:, None].float() * given.known
    entropy = functional.binary_cross_entropy_with_logits(found.float(), true, reduction="none") * given.known
    halves = [(entropy * part).sum() / part.sum().clamp(min=1) for part in (true, given.known - true)]
    return 0.5 * (halves[0] + halves[1])


def sdf(found: torch.Tensor, given: Masked, context: Context) -> torch.Tensor:
    """0.3 times the squared error of signed distances (B, K - 1, *size) (SASSNet, Li et al., MICCAI 2020)."""
    return 0.3 * distance_error(found.float(), given, context)


HEADS: Mapping[str, Callable[[torch.Tensor, Masked, Context], torch.Tensor]] = MappingProxyType(
    {"presence": presence, "edges": edges, "sdf": sdf}
)
"""{name of a head: its loss}; other heads are features that a further part reads."""


def _edges_of(classes: torch.Tensor) -> torch.Tensor:
    """(B, *size) where a known neighbour along an axis has another class."""
    found = torch.zeros_like(classes, dtype=torch.bool)
    for axis in range(1, classes.ndim):
        n = classes.shape[axis] - 1
        a, b = classes.narrow(axis, 0, n), classes.narrow(axis, 1, n)
        differs = (a != b) & (a != IGNORE) & (b != IGNORE)
        found.narrow(axis, 0, n).logical_or_(differs)
        found.narrow(axis, 1, n).logical_or_(differs)
    return found
