"""Losses of single voxels: cross-entropy and what weights it. IGNORE voxels count nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import FocalLoss
from torch.nn import functional

from napari_medseg.errors import InputError
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.masked import Masked

H_DENSEUNET_WEIGHTS = (0.78, 0.65, 8.57)
"""Of background, liver and tumour (Li et al., IEEE TMI 2018, their public configuration)."""
_FOCAL = FocalLoss(gamma=2.0, alpha=0.25, to_onehot_y=True, use_softmax=True, ignore_index=IGNORE)


def cross_entropy(given: Masked, context: Context) -> torch.Tensor:
    """-log p of the true class, the mean over the known voxels."""
    return _weighted(given, None)


def weighted_cross_entropy(given: Masked, context: Context) -> torch.Tensor:
    """Cross-entropy with the weights of `context.class_weights`, the weighted mean.

    Raises InputError unless there is a weight for each class.
    """
    return _weighted(given, context.class_weights)


def h_denseunet(given: Masked, context: Context) -> torch.Tensor:
    """Cross-entropy with the published weights of H-DenseUNet, for two labels: liver and tumour."""
    return _weighted(given, H_DENSEUNET_WEIGHTS)


def balanced_cross_entropy(given: Masked, context: Context) -> torch.Tensor:
    """The mean of the classes' own means: each class that the batch holds counts alike (HED, Xie and Tu, ICCV 2015)."""
    found = [given.truth[:, k].sum() for k in range(given.count)]
    entropy = functional.cross_entropy(given.logits, given.classes, ignore_index=IGNORE, reduction="none")
    means = [(entropy * given.truth[:, k]).sum() / count for k, count in enumerate(found) if count > 0]
    return torch.stack(means).mean() if means else given.logits.sum() * 0


def focal(given: Masked, context: Context) -> torch.Tensor:
    """-alpha (1 - p)^2 log p of the true class; alpha is 0.75 for the background, 0.25 for the labels (Lin et al., ICCV
    2017).
    """
    loss: torch.Tensor = _FOCAL(given.logits, given.classes[:, None])
    return loss


def _weighted(given: Masked, weights: Sequence[float] | None) -> torch.Tensor:
    if weights is not None and len(weights) != given.count:
        raise InputError(
            f"a weight is needed for the background and each of the {given.count - 1} labels; got {len(weights)}: set "
            f"class_weights, or choose another loss"
        )
    by_class = None if weights is None else torch.tensor(weights, device=given.logits.device)
    total = given.known_voxels if by_class is None else (given.truth.movedim(1, -1) @ by_class).sum().clamp(min=1e-6)
    entropy = functional.cross_entropy(
        given.logits, given.classes, weight=by_class, ignore_index=IGNORE, reduction="sum"
    )
    return entropy / total
