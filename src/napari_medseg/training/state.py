"""What changes while a network is trained (TrainState), and what stays as it is (Setup)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.architectures.modes import in_mode
from napari_medseg.config import Precision, TrainConfig
from napari_medseg.inference.device import has_fast_bf16
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.adapters import plain_weights
from napari_medseg.models.file import FIRST, Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.budget import Budget
from napari_medseg.training.losses.context import Loss
from napari_medseg.training.mistakes import Mistakes
from napari_medseg.training.patches import PatchSampler

if TYPE_CHECKING:
    from napari_medseg.training.refiners.errors import Errors
    from napari_medseg.training.schemes.scheme import Scheme

_KEPT = ("step", "phase", "validated_step", "validated_fraction", "dice", "phase_dice", "best_dice", "history")
"""Fields of a TrainState that `state_dict` holds as they are."""
_LATER = ("validated_cases", "steps_before")
"""Others, which states of earlier versions lack."""


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
    unlabelled: PatchSampler | None = None
    """Patches of images without labels, for a scheme that takes them."""
    target: PatchSampler | None = None
    """Patches of images of another domain, for a scheme that takes them."""
    base: Model | None = None
    """The model that adapters are learned for."""
    pictured: bool = True
    """Whether the cases have images of their own; else these are made up from the labels."""
    errors: Errors | None = None
    """What a model says of the cases, for a scheme that learns from its errors."""
    held: frozenset[int] | None = None
    """The labels that a case holds, which alone have a Dice; None: all of the spec."""


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

    scheme: Scheme
    """The networks and their optimisers, and what a step does to them."""
    phases: Mapping[str, nn.Module]
    """The parts of the network to keep that are trained in turn, each as a network of volumes; the last is the
    whole."""
    phase: str
    """The part that is trained now."""
    step: int = 0
    """Steps done."""
    steps_before: int = 0
    """Those of them in which other networks were trained, before the one to keep."""
    validated_step: int = 0
    """Steps done at the last validation."""
    validated_fraction: float = 0.0
    """How much of the budget was used at the last validation that the schedule asked for."""
    validated_cases: int = 0
    """Cases that a budget in minutes has time to validate on; 0 where none has, or it is not known."""
    dice: dict[int, float] = field(default_factory=dict)
    """Mean Dice per label id of the last validation in this phase; empty before it."""
    phase_dice: dict[str, float] = field(default_factory=dict)
    """Mean Dice of each phase that is over and was validated."""
    best_dice: dict[int, float] = field(default_factory=dict)
    """`dice` of the best validation in the last phase; empty before the first one."""
    history: History = field(default_factory=History)
    written: str = ""
    """SHA-256 of the model that this training wrote when it was stopped; empty where it wrote none."""
    mistakes: Mistakes | None = None
    """Where the network was wrong; None where no patch is centred there."""

    @property
    def network(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.scheme.network_to_keep()

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
        kept = {name: copy.deepcopy(getattr(self, name)) for name in (*_KEPT, *_LATER)}
        networks = {name: network.state_dict() for name, network in self.scheme.networks().items()}
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.scheme.optimisers().items()}
        mistakes = {} if self.mistakes is None else {"mistakes": self.mistakes.state_dict()}
        return {"networks": networks, "optimisers": optimisers, **mistakes, **kept}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of a state of the same scheme, network and settings gave."""
        for name, network in self.scheme.networks().items():
            network.load_state_dict(content["networks"][name])
        for name, optimiser in self.scheme.optimisers().items():
            optimiser.load_state_dict(content["optimisers"][name])
            _lay_out_as_parameters(optimiser)
        if self.mistakes is not None:
            self.mistakes.load_state_dict(content["mistakes"])
        for name in _KEPT:
            setattr(self, name, copy.deepcopy(content[name]))
        for name in _LATER:
            setattr(self, name, content.get(name, 0))


def training_precision(precision: Precision, device: torch.device, network: str) -> Precision:
    """fp32 or bf16: "auto" is bf16 where the hardware is fast at it, and so is the network."""
    if precision == "auto":
        fast = has_fast_bf16(device) and registry.network(network).fast_in_bf16(device.type)
        return "bf16" if fast else "fp32"
    return precision


def weights_of(setup: Setup, state: TrainState) -> dict[str, torch.Tensor]:
    """The weights that a model file of this training holds, those of the stage before among them."""
    first = {} if setup.first is None else setup.first.network.state_dict()
    return {**plain_weights(state.network), **{FIRST + name: tensor for name, tensor in first.items()}}


def phases_of(network: nn.Module, spec: ModelSpec) -> dict[str, nn.Module]:
    """The parts of a network that are trained in turn, as networks of volumes; most networks are one part."""
    volumes = in_mode(network, spec.mode, spec.patch_zyx[0])
    phases = getattr(volumes, "training_phases", None)
    return {"all": volumes} if phases is None else phases()


def _lay_out_as_parameters(optimiser: torch.optim.Optimizer) -> None:
    """Lay the moments of an optimiser out in memory as their parameters: its fused step walks both alike."""
    for parameter, moments in optimiser.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)
