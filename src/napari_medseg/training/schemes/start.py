"""The state before the first step: the network with its first weights, in the scheme that trains it."""

from __future__ import annotations

import torch
from torch import nn

from napari_medseg.architectures.layout import lay
from napari_medseg.architectures.modes import in_mode
from napari_medseg.architectures.points import PointRend
from napari_medseg.models.adapters import add_low_rank, freeze_encoder
from napari_medseg.models.file import Model
from napari_medseg.models.refining import network_of
from napari_medseg.models.several import Ensemble
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.transfer import channels_from, origins_of, taken_over
from napari_medseg.training.mistakes import Mistakes
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState, phases_of


def new_state(setup: Setup, initial: Model | None = None) -> TrainState:
    """The state before the first step. initial: a model that it starts from, see `transfer`."""
    network = _new_network(setup.spec, setup.config.seed, initial).to(setup.device)
    lay(network, "channels last")  # as convolutions learn fastest
    _let_learn(network, setup)
    scheme = scheme_named(setup.config.scheme).build(setup, network)
    phases = phases_of(scheme.network_to_keep(), setup.spec)
    share = setup.config.sampling.hard_patches
    mistakes = Mistakes(setup.sampler.cases, share, setup.config.seed) if share else None
    return TrainState(scheme, phases, phase=next(iter(phases)), mistakes=mistakes)


def _new_network(spec: ModelSpec, seed: int, initial: Model | None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network_of(spec)
    if spec.refines is not None:
        if initial is not None:
            _begin_as(initial.members[0] if isinstance(initial, Ensemble) else initial, network)
    elif initial is not None:
        known = initial.load_network().state_dict()
        origins = origins_of(spec.labels, initial.spec.labels)
        channels = None
        if len(spec.channels) != len(initial.spec.channels):
            channels = channels_from(*([channel.name for channel in s.channels] for s in (spec, initial.spec)))
        network.load_state_dict(taken_over(network.state_dict(), known, spec, origins, channels), strict=False)
    return network


def _begin_as(model: Model, network: nn.Module) -> None:
    """Let a refiner begin with the weights of the model whose errors it learns, where it has such a network.

    The labels, which are further channels of boundary-patch, count for nothing before it has learned.
    """
    known = model.load_network().state_dict()
    if isinstance(network, PointRend):
        network.network.load_state_dict(known)
        return
    own = network.state_dict()
    padded = {name: _padded(tensor, own[name]) for name, tensor in known.items() if name in own}
    if len(padded) == len(own) and all(tensor.shape == own[name].shape for name, tensor in padded.items()):
        network.load_state_dict(padded)


def _padded(known: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A weight (out, in, ...) with 0 for the further input channels of another one; others as they are."""
    if known.ndim < 2 or known.shape[1] >= like.shape[1]:
        return known
    return torch.cat([known, known.new_zeros(known.shape[0], like.shape[1] - known.shape[1], *known.shape[2:])], 1)


def _let_learn(network: nn.Module, setup: Setup) -> None:
    """Let the weights learn that the settings name; the others rest."""
    spec, config = setup.spec, setup.config
    if config.optimiser.adapt == "low-rank":
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            add_low_rank(network, spec, config.optimiser.rank)
    elif config.optimiser.adapt == "decoder":
        guides = spec.first.channels if spec.first else 0
        inputs = torch.zeros((1, len(spec.channels) + guides, *spec.patch_zyx), device=setup.device)
        freeze_encoder(network, in_mode(network, spec.mode, spec.patch_zyx[0]), inputs)
