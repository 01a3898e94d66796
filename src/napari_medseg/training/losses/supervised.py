"""Losses over logits (B, K, *size) and class indices (B, *size); IGNORE voxels count nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs, supervised_logits
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context

_DICE = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, ignore_index=IGNORE)


def dice_ce(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Soft Dice over the foreground classes of the whole batch (Milletari et al. 2016) plus cross-entropy.

    Dice sums over the batch rather than per patch: a class absent from one patch does not pull its Dice to zero.
    """
    logits = logits.float()
    # A mean would be NaN where no voxel is annotated.
    count = (classes != IGNORE).sum().clamp(min=1)
    entropy = functional.cross_entropy(logits, classes, ignore_index=IGNORE, reduction="sum") / count
    dice: torch.Tensor = _DICE(logits, classes.unsqueeze(1))
    return entropy + dice


def deeply_supervised(
    outputs: torch.Tensor | Outputs, classes: torch.Tensor, context: Context = Context()
) -> torch.Tensor:
    """`dice_ce` of every output, with equal weights or each half of the one before; the weights sum to 1.

    The classes are sampled at the size of each output.
    """
    scales = supervised_logits(outputs)
    weights = [0.5**i if context.supervision == "halving" else 1.0 for i in range(len(scales))]
    losses = [w * dice_ce(s, _at_scale(classes, s.shape[2:])) for w, s in zip(weights, scales, strict=True)]
    return torch.stack(losses).sum() / sum(weights)


def _at_scale(classes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(classes.shape[1:]) == tuple(size):
        return classes
    # float32 holds class indices exactly; interpolate has no nearest for integers
    return functional.interpolate(classes[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
