"""Losses of overlaps, over the foreground classes of the whole batch. IGNORE voxels count nowhere."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, GeneralizedDiceLoss, TverskyLoss
from monai.losses.cldice import soft_skel

from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.masked import Masked

_DICE = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, ignore_index=IGNORE)
_TVERSKY = TverskyLoss(
    include_background=False, to_onehot_y=True, softmax=True, alpha=0.3, beta=0.7, batch=True, ignore_index=IGNORE
)
_GENERALISED = GeneralizedDiceLoss(include_background=False, batch=True)
_SMOOTH = 1e-5
_SKELETON_STEPS = 5
"""Erosions of a soft skeleton: half the width, in voxels, of the widest vessel that it thins."""
_POWER = 0.3
"""Of both logarithms in the exponential logarithmic loss."""


def dice(given: Masked, context: Context) -> torch.Tensor:
    """1 - soft Dice (Milletari et al., 3DV 2016)."""
    loss: torch.Tensor = _DICE(given.logits, given.classes[:, None])
    return loss


def generalised_dice(given: Masked, context: Context) -> torch.Tensor:
    """1 - Dice of all classes together, each weighted by 1 / volume^2 (Sudre et al., DLMIA 2017)."""
    loss: torch.Tensor = _GENERALISED(given.probability, given.truth)
    return loss


def tversky(given: Masked, context: Context) -> torch.Tensor:
    """1 - Tversky index, alpha 0.3 for false positives, beta 0.7 for false negatives (Salehi et al., MLMI 2017)."""
    loss: torch.Tensor = _TVERSKY(given.logits, given.classes[:, None])
    return loss


def iou(given: Masked, context: Context) -> torch.Tensor:
    """1 - soft intersection over union, the mean of the classes (Rahman and Wang, ISVC 2016)."""
    both = given.over_voxels(given.probability * given.truth)
    either = given.over_voxels(given.probability + given.truth) - both
    return 1 - ((both + _SMOOTH) / (either + _SMOOTH)).mean()


def lovasz(given: Masked, context: Context) -> torch.Tensor:
    """The convex extension of the Jaccard loss, over the classes that the batch holds (Berman et al., CVPR 2018)."""
    losses = []
    known = given.known[:, 0].bool()
    for k in range(1, given.count):
        truth = given.truth[:, k][known]
        if not truth.any():
            continue
        errors, order = (truth - given.probability[:, k][known]).abs().sort(descending=True)
        losses.append(errors @ _jaccard_steps(truth[order]))
    return torch.stack(losses).mean() if losses else given.logits.sum() * 0


def exponential_logarithmic(given: Masked, context: Context) -> torch.Tensor:
    """0.8 mean (-ln Dice)^0.3 + 0.2 mean w (-ln p)^0.3, w = (sum f / f_class)^0.5 (Wong et al., MICCAI 2018).

    Both powers have no slope at 0, so what is right but for 1e-6 counts as right.
    """
    both, sizes = given.probability * given.truth, given.probability + given.truth
    overlap = (2 * given.over_voxels(both) + _SMOOTH) / (given.over_voxels(sizes) + _SMOOTH)
    of_dice = (-overlap.log()).clamp(min=1e-6).pow(_POWER).mean()
    found = given.truth.sum(dim=(0, *range(2, given.truth.ndim)))
    weights = (found.sum() / found.clamp(min=1)).sqrt()
    entropy = -(given.logits.log_softmax(1) * given.truth).sum(1)
    by_voxel = torch.einsum("bk...,k->b...", given.truth, weights)
    of_entropy = given.mean(by_voxel * entropy.clamp(min=1e-6).pow(_POWER))
    return 0.8 * of_dice + 0.2 * of_entropy


def cl_dice(given: Masked, context: Context) -> torch.Tensor:
    """1 - clDice: the overlap of each skeleton with the other mask, for tubes (Shit et al., CVPR 2021)."""
    found, true = given.probability[:, 1:], given.truth[:, 1:]
    if min(found.shape[2:]) == 1:  # volumes of one slice: the skeletons of 2D
        flat = next(axis for axis in range(2, found.ndim) if found.shape[axis] == 1)
        found, true = found.squeeze(flat), true.squeeze(flat)
    over = (0, *range(2, found.ndim))
    precision = _share(soft_skel(found, _SKELETON_STEPS), true, over)
    sensitivity = _share(soft_skel(true, _SKELETON_STEPS), found, over)
    return 1 - (2 * precision * sensitivity / (precision + sensitivity)).mean()


def _share(part: torch.Tensor, whole: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
    """How much of a part lies in the whole, for each class."""
    return ((part * whole).sum(over) + 1) / (part.sum(over) + 1)


def _jaccard_steps(truth: torch.Tensor) -> torch.Tensor:
    """By how much the Jaccard loss grows with each further error; truth: (n,), by falling error."""
    missed = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    loss = 1 - missed / union
    return torch.cat((loss[:1], loss[1:] - loss[:-1]))
