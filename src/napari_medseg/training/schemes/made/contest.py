"""What networks against each other share: their losses, and steps that stop before they diverge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from napari_medseg.training.schemes.descent import descend, drawing
from napari_medseg.training.state import Setup

N = TypeVar("N", bound=nn.Module)

RATE = 2e-4
"""Learning rate of critics and of what they judge (Isola et al., CVPR 2017)."""
_BETAS = (0.5, 0.999)
_DIVERGED = 1e4
"""A loss beyond this is that of a network that has diverged."""


def real(logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of a critic's logits with "real"."""
    return functional.binary_cross_entropy_with_logits(logits.float(), torch.ones_like(logits, dtype=torch.float32))


def fake(logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of a critic's logits with "made up"."""
    return functional.binary_cross_entropy_with_logits(logits.float(), torch.zeros_like(logits, dtype=torch.float32))


def judged(critic: nn.Module, true: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The loss of a critic: half for what is real, half for what is not."""
    return 0.5 * (real(critic(true)) + fake(critic(made.detach())))


def adam(network: nn.Module, rate: float = RATE) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=_BETAS)


def seeded(setup: Setup, build: Callable[..., N], number: int, **arguments: object) -> N:
    """A further network of a scheme, with first weights by the seed. number: another one for each of them."""
    with drawing(setup.config.seed + 1000 * number):
        return build(**arguments).to(setup.device)


def compete(optimiser: torch.optim.Optimizer, losses: Mapping[str, torch.Tensor], clip: float) -> dict[str, float]:
    """`descend`, but a loss of a network that has diverged is infinite: it changes no weight, and ends the training."""
    if any(abs(float(loss.detach())) > _DIVERGED for loss in losses.values()):
        return dict.fromkeys(losses, math.inf)
    return descend(optimiser, losses, clip)
