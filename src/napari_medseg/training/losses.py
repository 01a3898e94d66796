"""Losses over logits (B, K, *size) and class indices (B, *size); IGNORE voxels count nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs, supervised_logits
from napari_medseg.registry import Supervision
from napari_medseg.training.cases import IGNORE


def dice_ce(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Soft Dice over the foreground classes of the whole batch (Milletari et al. 2016) plus cross-entropy.

    Sums over the batch rather than per patch, so that a class absent from one patch does not pull its Dice to zero.
    """
    logits = logits.float()
    known = classes != IGNORE
    count = known.sum().clamp(min=1)
    entropy = functional.cross_entropy(logits, classes, ignore_index=IGNORE, reduction="sum") / count
    probability = logits.softmax(dim=1) * known.unsqueeze(1)
    truth = functional.one_hot(classes.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known.unsqueeze(1)
    over = (0, *range(2, logits.ndim))
    both = (probability * truth).sum(over)
    total = probability.sum(over) + truth.sum(over)
    dice = (2 * both + 1e-5) / (total + 1e-5)
    return entropy + 1 - dice[1:].mean()


def deeply_supervised(
    outputs: torch.Tensor | Outputs, classes: torch.Tensor, supervision: Supervision = "halving"
) -> torch.Tensor:
    """`dice_ce` of every stage, the weights equal or each half of the one before, to a sum of 1.

    The classes are sampled at the size of each stage.
    """
    stages = supervised_logits(outputs)
    weights = [0.5**i if supervision == "halving" else 1.0 for i in range(len(stages))]
    losses = [w * dice_ce(s, _at_scale(classes, s.shape[2:])) for w, s in zip(weights, stages, strict=True)]
    return torch.stack(losses).sum() / sum(weights)


def _at_scale(classes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(classes.shape[1:]) == tuple(size):
        return classes
    # float32 holds class indices exactly; interpolate has no nearest for integers
    return functional.interpolate(classes[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
