"""What the steps of all schemes share: the learning rate, the draws of dropout, a step of an optimiser, an average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from napari_medseg.config import OptimiserConfig
from napari_medseg.training.schedule import learning_rate


def set_learning_rate(optimiser: torch.optim.Optimizer, config: OptimiserConfig, done: float) -> None:
    """The learning rate after the fraction `done` of the budget, for every group.

    A group with a "share" has that share of it.
    """
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, done) * group.get("share", 1.0)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Inside, torch draws from this seed (dropout does); the caller's generator is as before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def descend(optimiser: torch.optim.Optimizer, losses: Mapping[str, torch.Tensor], clip: float) -> dict[str, float]:
    """One step down the sum of the losses, with gradients of at most the norm `clip`; returns the losses as numbers.

    Losses or gradients that are not finite change no weight. With such gradients the losses count as infinite.
    """
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    if not is_finite(values):
        return values
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(_parameters(optimiser), clip)
    if not torch.isfinite(norm):
        return dict.fromkeys(values, math.inf)
    optimiser.step()
    return values


def is_finite(losses: Mapping[str, float]) -> bool:
    """Whether a step down these losses changed the weights."""
    return all(math.isfinite(value) for value in losses.values())


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move an average of the weights towards the weights: `decay` of it stays, less in the first steps.

    Statistics that are no weights, such as those of batch normalisation, are copied.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - kept)
    for own, value in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(value)


def _parameters(optimiser: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def train_mode(network: nn.Module) -> None:
    """Put a network in training mode; a frozen part of it keeps its statistics and drops nothing."""
    network.train()
    for module in network.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()
