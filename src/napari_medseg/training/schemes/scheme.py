"""What a way to train is: a `Scheme`, and the table of those that a user can name.

The loop, the checkpoints and the validation know this protocol only. A new scheme is a class of it and an entry of
`SCHEMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from napari_medseg.config import SchemeConfig, TrainConfig
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_medseg.training.patches import PatchBatch
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


Build = Callable[["Setup", "nn.Module"], Scheme]
"""(what stays the same, the network with its first weights) -> the scheme."""


@dataclass(frozen=True, kw_only=True)
class SchemeSpec:
    """A scheme by name: pure data, with the dotted path of its class."""

    name: str
    target: str
    """Dotted path "package.module:Class" inside this project, of a `Build`."""
    summary: str
    when: str = ""
    """When to use it, in one sentence."""
    reference: str = ""
    """Authors and place."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """{knob of SchemeConfig that the scheme uses: its own value of it}."""
    takes_unlabelled: bool = False
    """Whether a step also sees images without labels, as `PatchBatch.unlabelled`."""
    takes_target: bool = False
    """Whether a step also sees images of another domain, as `PatchBatch.target`. All images keep their intensities
    then: the scheme changes them itself. The last weights are kept, since labelled cases cannot judge them."""

    def build(self, setup: Setup, network: nn.Module) -> Scheme:
        """The scheme around a network."""
        module, _, name = self.target.partition(":")
        return cast("Build", getattr(importlib.import_module(module), name))(setup, network)


SCHEMES: Mapping[str, SchemeSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            SchemeSpec(
                name="supervised",
                target="napari_medseg.training.schemes.supervised:Supervised",
                summary="from images and their labels",
            ),
            SchemeSpec(
                name="adapt-statistics",
                target="napari_medseg.training.schemes.domain.statistics:AdaptStatistics",
                summary="for images of another scanner: with their histograms and their batch statistics",
                when="Where the same contrast looks a little different elsewhere; costs no time.",
                reference="Nyul and Udupa, MRM 1999; Li et al., Pattern Recognition 2018",
                takes_target=True,
            ),
            SchemeSpec(
                name="cyclegan",
                target="napari_medseg.training.schemes.domain.cyclegan:CycleGan",
                summary="for images of another contrast: on labelled images translated into it",
                when="Where labels are of one contrast or modality and the images to segment of another.",
                reference="Zhu et al., ICCV 2017, doi:10.1109/ICCV.2017.244",
                knobs={"translator": "light", "translating": 0.6},
                takes_target=True,
            ),
        )
    }
)
"""The schemes that a training can follow."""


def scheme_named(name: str, schemes: Mapping[str, SchemeSpec] = SCHEMES) -> SchemeSpec:
    """The scheme of that name; UnknownNameError lists the known ones."""
    if name not in schemes:
        raise UnknownNameError(f"unknown scheme {name!r}: {did_you_mean(name, schemes)}known are {', '.join(schemes)}")
    return schemes[name]


def require_taken(spec: SchemeSpec, unlabelled: object) -> None:
    """Raise InputError for images without labels that a scheme has no use for, and for their absence where it has."""
    if unlabelled and not spec.takes_unlabelled:
        raise InputError(f"scheme {spec.name} takes no unlabelled images: leave them out, or choose another scheme")
    if spec.takes_unlabelled and not unlabelled:
        raise InputError(f"scheme {spec.name} needs unlabelled images: give a folder of them, or choose another scheme")


def require_target(spec: SchemeSpec, target: object) -> None:
    """Raise InputError for images of another domain that a scheme has no use for, and for their absence."""
    if target and not spec.takes_target:
        raise InputError(
            f"scheme {spec.name} takes no target images: leave them out, or choose adapt-statistics or cyclegan"
        )
    if spec.takes_target and not target:
        raise InputError(f"scheme {spec.name} needs target images: give a folder of them, or choose another scheme")


def given_knobs(config: TrainConfig) -> dict[str, Any]:
    """{name: value} of the knobs of schemes that the settings do not leave alone."""
    values = {f.name: (getattr(config.schemes, f.name), f.default) for f in fields(SchemeConfig)}
    return {name: value for name, (value, default) in values.items() if value != default}


def require_used(spec: SchemeSpec, config: TrainConfig) -> None:
    """Raise InputError for a knob of schemes that this one does not use."""
    for name in given_knobs(config):
        if name not in spec.knobs:
            uses = f"its own are {', '.join(spec.knobs)}" if spec.knobs else "it has none of its own"
            raise InputError(f"scheme {spec.name} has no use for {name}: {uses}")
