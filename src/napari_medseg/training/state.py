"""What changes while a network is trained (TrainState), and what stays as it is (Setup)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.modes import in_mode
from napari_medseg.config import Precision, TrainConfig
from napari_medseg.inference.device import has_fast_bf16
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import FIRST, Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.transfer import origins_of, taken_over
from napari_medseg.registry import Supervision
from napari_medseg.registry import network as network_named
from napari_medseg.training.budget import Budget
from napari_medseg.training.patches import PatchSampler

Loss = Callable[[torch.Tensor | Outputs, torch.Tensor, Supervision], torch.Tensor]
"""(outputs of the network, class indices (B, z, y, x), weighting of the outputs) -> the loss, a scalar."""

_KEPT = ("step", "phase", "validated_step", "validated_fraction", "dice", "phase_dice", "best_dice", "history")
"""Fields of a TrainState that `state_dict` holds as they are."""


@dataclass(frozen=True)
class Setup:
    """What stays the same through the training of one network."""

    spec: ModelSpec
    config: TrainConfig
    device: torch.device
    precision: Precision
    """fp32 or bf16: of the steps and of the validations along the way."""
    sampler: PatchSampler
    budget: Budget
    loss: Loss
    first: Predictor | None = None
    """The network of the stage before, in a cascade."""


@dataclass
class History:
    """What happened so far."""

    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss) of every step."""
    validations: list[dict[str, object]] = field(default_factory=list)
    """step, time (seconds since 1970) and dice {label id: mean} of every validation of the last phase."""


@dataclass
class TrainState:
    """Everything that the steps and validations of a training change.

    Its `state_dict` is whole: a training that goes on from it makes the same weights, bit for bit on a CPU. It holds no
    random generator, because none lives longer than a step: patches, augmentation and dropout follow from the seed and
    the number of the step.
    """

    network: nn.Module
    phases: Mapping[str, nn.Module]
    """The parts of the network that are trained in turn, each as a network of volumes; the last is the whole."""
    optimiser: torch.optim.Optimizer
    phase: str
    """The part that is trained now."""
    step: int = 0
    """Steps done."""
    validated_step: int = 0
    """Steps done at the last validation."""
    validated_fraction: float = 0.0
    """How much of the budget was used at the last validation that the schedule asked for."""
    dice: dict[int, float] = field(default_factory=dict)
    """Mean Dice per label id of the last validation in this phase; empty before it."""
    phase_dice: dict[str, float] = field(default_factory=dict)
    """Mean Dice of each phase that is over and was validated."""
    best_dice: dict[int, float] = field(default_factory=dict)
    """`dice` of the best validation in the last phase; empty before the first one."""
    history: History = field(default_factory=History)

    @property
    def volumes(self) -> nn.Module:
        """The part that is trained now, as a network of volumes."""
        return self.phases[self.phase]

    @property
    def last_phase(self) -> str:
        return list(self.phases)[-1]

    def enter(self, phase: str) -> None:
        """Train another part from now on; it has not been validated yet."""
        self.phase = phase
        self.dice = {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; the tensors are the ones in use, not copies."""
        kept = {name: copy.deepcopy(getattr(self, name)) for name in _KEPT}
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), **kept}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of a state with the same network and optimiser gave."""
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        for name in _KEPT:
            setattr(self, name, copy.deepcopy(content[name]))


def new_state(spec: ModelSpec, config: TrainConfig, device: torch.device, initial: Model | None = None) -> TrainState:
    """The state before the first step. initial: a model that it starts from, see `transfer`."""
    network = _new_network(spec, config.seed, initial).to(device)
    phases = _phases_of(in_mode(network, spec.mode, spec.patch_zyx[0]))
    _lay_channels_last(network)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=config.optimiser.learning_rate,
        weight_decay=config.optimiser.weight_decay,
        fused=device.type != "mps",
    )
    return TrainState(network, phases, optimiser, phase=next(iter(phases)))


def training_precision(precision: Precision, device: torch.device) -> Precision:
    """fp32 or bf16: "auto" is bf16 where the hardware is fast at it."""
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return precision


def weights_of(setup: Setup, state: TrainState) -> dict[str, torch.Tensor]:
    """The weights that a model file of this training holds, those of the stage before among them."""
    first = {} if setup.first is None else setup.first.network.state_dict()
    return {**state.network.state_dict(), **{FIRST + name: tensor for name, tensor in first.items()}}


def _new_network(spec: ModelSpec, seed: int, initial: Model | None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network_named(spec.network).build_from(spec.arguments)
    if initial is not None:
        known = initial.load_network().state_dict()
        origins = origins_of(spec.labels, initial.spec.labels)
        network.load_state_dict(taken_over(network.state_dict(), known, spec, origins), strict=False)
    return network


def _phases_of(network: nn.Module) -> dict[str, nn.Module]:
    """The parts that a network names to be trained in turn, or the network alone."""
    phases = getattr(network, "training_phases", None)
    return {"all": network} if phases is None else phases()


def _lay_channels_last(network: nn.Module) -> None:
    """Lay the weights of convolutions out as they compute fastest; a hybrid has 2D and 3D ones."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
