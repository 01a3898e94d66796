"""From the name of a loss to the function that a training minimises: sums, deep supervision, the heads' own losses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs, supervised_logits
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean
from napari_medseg.training.losses import distance, entropy, guesses, overlap, structure
from napari_medseg.training.losses.context import Context, Loss
from napari_medseg.training.losses.heads import HEADS
from napari_medseg.training.losses.masked import Masked, Term

TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "dice": overlap.dice,
        "ce": entropy.cross_entropy,
        "weighted_ce": entropy.weighted_cross_entropy,
        "balanced_ce": entropy.balanced_cross_entropy,
        "focal": entropy.focal,
        "generalised_dice": overlap.generalised_dice,
        "tversky": overlap.tversky,
        "iou": overlap.iou,
        "lovasz": overlap.lovasz,
        "boundary": distance.boundary,
        "exp_log": overlap.exponential_logarithmic,
        "sdf": distance.signed_distance,
        "cldice": overlap.cl_dice,
        "ms_ssim": structure.ms_ssim,
        "hdenseunet": entropy.h_denseunet,
        "smooth": guesses.smooth,
    }
)
"""The losses by name."""
SUMS: Mapping[str, str] = MappingProxyType({"unet3plus": "focal+ms_ssim+iou"})
"""Published sums by name: the hybrid loss of UNet 3+."""
WEAK = "dice+ce+smooth"
"""What is minimised by default where the labels are scribbles or boxes."""
DEFAULT = "dice+ce"
_PLAIN = Context()
_PART = re.compile(r"(?:(?P<weight>[0-9.]+)\*)?(?P<name>[a-z0-9_]+)")


def parsed(expression: str) -> dict[str, float]:
    """{name: weight} of a sum such as "0.5*dice+focal".

    Raises InputError for what is no such sum, UnknownNameError for a name that is not there.
    """
    weights: dict[str, float] = {}
    for part in SUMS.get(expression, expression).replace(" ", "").split("+"):
        match = _PART.fullmatch(part)
        try:
            weight = float(match["weight"] or 1) if match else 0.0
        except ValueError:
            weight = 0.0
        if match is None or not weight > 0:
            raise InputError(f"loss {expression!r} is not a sum such as dice+ce or 0.5*dice+focal")
        if match["name"] not in TERMS:
            known = (*TERMS, *SUMS)
            raise UnknownNameError(
                f"unknown loss {match['name']!r}: {did_you_mean(match['name'], known)}known are {', '.join(known)}"
            )
        weights[match["name"]] = weights.get(match["name"], 0.0) + weight
    return weights


def loss_named(expression: str) -> Loss:
    """The loss of a sum of names, over all outputs that a network is supervised by; see `parsed`."""
    weights = parsed(expression)

    def loss(outputs: torch.Tensor | Outputs, classes: torch.Tensor, context: Context) -> torch.Tensor:
        return deeply_supervised(outputs, classes, context, weights)

    return loss


def deeply_supervised(
    outputs: torch.Tensor | Outputs,
    classes: torch.Tensor,
    context: Context = _PLAIN,
    weights: Mapping[str, float] = MappingProxyType({"ce": 1.0, "dice": 1.0}),
) -> torch.Tensor:
    """The weighted sum of losses of every output, and the heads' own losses.

    The outputs weigh alike, or each half of the one before; their weights sum to 1. The classes are sampled at the size
    of each output.
    """
    scales = supervised_logits(outputs)
    shares = [0.5**i if context.supervision == "halving" else 1.0 for i in range(len(scales))]
    losses = []
    for share, logits in zip(shares, scales, strict=True):
        given = Masked.of(logits, _at_scale(classes, logits.shape[2:]))
        here = _context_at(context, classes.shape[1:], logits.shape[2:])
        losses.append(share * torch.stack([w * TERMS[name](given, here) for name, w in weights.items()]).sum())
    total = torch.stack(losses).sum() / sum(shares)
    heads = outputs.heads if isinstance(outputs, Outputs) else {}
    given = Masked.of(scales[0], classes)
    extra = [HEADS[name](output, given, context) for name, output in heads.items() if name in HEADS]
    return torch.stack([total, *extra]).sum() if extra else total


def _context_at(context: Context, full: Sequence[int], size: Sequence[int]) -> Context:
    """The context at another scale: its voxels are larger."""
    if tuple(full) == tuple(size):
        return context
    return replace(context, spacing=tuple(s * a / b for s, a, b in zip(context.spacing, full, size, strict=True)))


def _at_scale(classes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(classes.shape[1:]) == tuple(size):
        return classes
    # float32 holds class indices exactly; interpolate has no nearest for integers
    return functional.interpolate(classes[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
