"""What a way to train is: a `Scheme`, what some can do besides, and its description.

The loop, the checkpoints and the validation know these protocols only. A new scheme is a class of them and an entry of
`table.SCHEMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from napari_medseg.config import SchemeConfig, TrainConfig, configured
from napari_medseg.registry import network as network_named
from napari_medseg.registry.spec import Argument, Takes

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_medseg.cases import Case
    from napari_medseg.events import MadeUp, Work
    from napari_medseg.models.spec import ModelSpec
    from napari_medseg.training.patches import PatchBatch
    from napari_medseg.training.schemes.objects import Learns
    from napari_medseg.training.state import Setup, TrainState


class Scheme(Protocol):
    """A way to train: the networks, their optimisers, and one step of them.

    A step follows from its batch, the state's number of steps and the seed alone: a scheme keeps nothing else between
    two steps that `networks` and `optimisers` do not hold. Then a training goes on bit-equal after a kill.
    """

    def networks(self) -> Mapping[str, nn.Module]:
        """Every network whose weights a checkpoint holds, by name."""

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Every optimiser whose state a checkpoint holds, by name."""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        """Fit the networks to a batch. Returns {name: loss}; their sum is the loss that curves show.

        A loss that is not finite leaves all weights as they are.
        """

    def network_to_keep(self) -> nn.Module:
        """The network that is validated and that the model file holds: an item of `networks`."""


@runtime_checkable
class Prepares(Protocol):
    """A scheme that first trains other networks than the one to keep, which is not validated meanwhile."""

    first_share: float
    """Share of the budget that these take; the phases of the network share the rest."""

    def preparing(self, state: TrainState) -> str:
        """What the next step trains first, in words; empty where it is the network to keep."""


@runtime_checkable
class LabelsImages(Protocol):
    """A scheme that labels whole images between two steps, and then learns from them."""

    def labelling(self, state: TrainState) -> Work[None]:
        """Label the images where that is due before the next step, or once more in a training that goes on.

        The labels follow from `networks` and the seed alone. Yields events.
        """


@runtime_checkable
class MakesUp(Protocol):
    """A scheme that makes patches up."""

    def made_up(self, batch: PatchBatch, state: TrainState) -> tuple[MadeUp, ...]:
        """Some of them, for the report. batch: the last one."""


@runtime_checkable
class ScoresItself(Protocol):
    """A scheme whose network takes more than an image, so that a validation cannot run it over volumes."""

    def scores(self, cases: Sequence[Case]) -> Work[dict[int, float]]:
        """The mean Dice per label id, by a user whom the reference stands for. Yields a Progress per case."""


Describe = Callable[["ModelSpec", "TrainConfig", Mapping[str, Argument]], "ModelSpec"]
"""(the plan of the cases, settings, arguments that differ from the network's defaults) -> the model that is trained."""
Build = Callable[["Setup", "nn.Module"], Scheme]
"""(what stays the same, the network with its first weights) -> the scheme."""


@dataclass(frozen=True, kw_only=True)
class SchemeSpec:
    """A scheme by name: pure data, with the dotted path of its class."""

    name: str
    target: str
    """Dotted path "package.module:Class" inside this project, of a `Build`."""
    summary: str
    """What it learns from, in a few words."""
    when: str = ""
    """When to use it, in a sentence."""
    reference: str = ""
    """Where it was published."""
    takes_unlabelled: bool = False
    """Whether a step also sees images without labels, as `PatchBatch.unlabelled`."""
    takes_target: bool = False
    """Whether a step also sees images of another domain, as `PatchBatch.target`. All images keep their intensities
    then: the scheme changes them itself. The last weights are kept, since labelled cases cannot judge them."""
    network: str = ""
    """The network that is trained where none is named; empty for the default one."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments of networks that have them, where the settings give none."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """{knob of `SchemeConfig` that the scheme uses: its own value}; it refuses the others."""
    takes: Takes = "image"
    """What the networks take that it trains."""
    describe: str = ""
    """Dotted path of a `Describe`; empty where the plan of the cases is that of the network."""
    from_labels: bool = False
    """Whether it trains without any image too."""
    makes_images: bool = False
    """Whether it makes images of label maps, which have to be known everywhere: the images would show what is not."""
    learns: Learns = "labels"
    """What it makes of the labels, see `objects.cases_for`."""
    is_plain: bool = False
    """Whether it learns from labelled patches alone: some may then be centred where the network was wrong."""
    learns_errors: bool = False
    """Whether it makes a refiner: the model to start from is then the one whose errors it learns."""

    def build(self, setup: Setup, network: nn.Module) -> Scheme:
        """The scheme around a network."""
        return cast("Build", _at(self.target))(setup, network)

    def described(self, plan: ModelSpec, config: TrainConfig, earlier: ModelSpec | None, network: str) -> ModelSpec:
        """The model that is trained. earlier: the one that it starts from, whose arguments it keeps."""
        if not self.describe:
            return plan
        kept = {} if earlier is None else {k: earlier.arguments[k] for k in network_named(network).parameters}
        return cast("Describe", _at(self.describe))(plan, config, {**kept, **config.arguments})

    def knob(self, config: TrainConfig, name: str) -> Any:
        """The value of a knob: that of the settings, or the scheme's own where they leave it alone."""
        return getattr(config.schemes, name) if name in given_knobs(config) else self.knobs[name]

    def with_arguments(self, config: TrainConfig, network: str) -> TrainConfig:
        """The settings with the scheme's own arguments of a network, as far as the network has them."""
        known = network_named(network).parameters
        own = {name: value for name, value in self.arguments.items() if name in known}
        return configured(TrainConfig, config, {"arguments": {**own, **config.arguments}})


def _at(path: str) -> object:
    """What lies at a dotted path "package.module:name" inside this project."""
    module, _, name = path.partition(":")
    found: object = getattr(importlib.import_module(module), name)
    return found


def given_knobs(config: TrainConfig) -> dict[str, Any]:
    """{name: value} of the knobs of schemes that the settings do not leave alone."""
    values = {f.name: (getattr(config.schemes, f.name), f.default) for f in fields(SchemeConfig)}
    return {name: value for name, (value, default) in values.items() if value != default}
