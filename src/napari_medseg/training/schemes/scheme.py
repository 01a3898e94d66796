"""What a way to train is: a `Scheme`, and the table of those that a user can name.

The loop, the checkpoints and the validation know this protocol only. A new scheme is a class of it and an entry of
`SCHEMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from napari_medseg.config import SchemeConfig, TrainConfig, configured
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean
from napari_medseg.registry import network as network_named
from napari_medseg.registry.spec import Argument

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_medseg.events import MadeUp
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


@runtime_checkable
class Prepares(Protocol):
    """A scheme that first trains other networks than the one to keep, which is not validated meanwhile."""

    def preparing(self, state: TrainState) -> str:
        """What the next step trains first, in words; empty where it is the network to keep."""


@runtime_checkable
class MakesUp(Protocol):
    """A scheme that makes patches up."""

    def made_up(self, batch: PatchBatch, state: TrainState) -> tuple[MadeUp, ...]:
        """Some of them, for the report. batch: the last one."""


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
    network: str = ""
    """The network that is trained where none is named; empty for the default one."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments of networks that have them, where the settings give none."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """{knob of `SchemeConfig` that the scheme uses: its own value}; it refuses the others."""
    from_labels: bool = False
    """Whether it trains without any image too."""

    def build(self, setup: Setup, network: nn.Module) -> Scheme:
        """The scheme around a network."""
        module, _, name = self.target.partition(":")
        return cast("Build", getattr(importlib.import_module(module), name))(setup, network)

    def knob(self, config: TrainConfig, name: str) -> Any:
        """The value of a knob: that of the settings, or the scheme's own where they leave it alone."""
        return getattr(config.schemes, name) if name in given_knobs(config) else self.knobs[name]

    def with_arguments(self, config: TrainConfig, network: str) -> TrainConfig:
        """The settings with the scheme's own arguments of a network, as far as the network has them."""
        known = network_named(network).parameters
        own = {name: value for name, value in self.arguments.items() if name in known}
        return configured(TrainConfig, config, {"arguments": {**own, **config.arguments}})


SCHEMES: Mapping[str, SchemeSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            SchemeSpec(
                name="supervised",
                target="napari_medseg.training.schemes.supervised:Supervised",
                summary="from images and their labels",
                when="Where all images are labelled, or the others are of another kind.",
            ),
            SchemeSpec(
                name="mean-teacher",
                target="napari_medseg.training.schemes.semi.mean_teacher:MeanTeacher",
                summary="an average of the weights teaches on images without labels",
                when="The first to try where few of many images of a kind are labelled.",
                reference="Tarvainen and Valpola, NeurIPS 2017; Yu et al., MICCAI 2019",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 1.0, "ramp": 0.3, "doubt_passes": 0},
            ),
            SchemeSpec(
                name="synthesis",
                target="napari_medseg.training.schemes.made.synthesis:Synthesis",
                summary="from made-up images of the labels, in any contrast; no image is needed",
                when="Where there are label maps but no images, or the images to segment have any contrast.",
                reference="Billot et al., Medical Image Analysis 2023",
                from_labels=True,
                knobs={"made_share": 0.5},
            ),
            SchemeSpec(
                name="adversarial",
                target="napari_medseg.training.schemes.made.adversarial:Adversarial",
                summary="also to be taken for a person by a critic of label maps",
                when="Where single voxels are right and the shapes are not.",
                reference="Luc et al., NIPS Workshop on Adversarial Training 2016",
                knobs={"critic_weight": 0.1},
            ),
            SchemeSpec(
                name="acnn",
                target="napari_medseg.training.schemes.made.acnn:ShapePrior",
                summary="also to find shapes that an autoencoder of the label maps knows",
                when="Where artefacts or low contrast hide a part of organs whose shape varies little.",
                reference="Oktay et al., IEEE TMI 2018",
                knobs={"shape_weight": 0.01, "first_share": 0.15},
            ),
            SchemeSpec(
                name="cgan",
                target="napari_medseg.training.schemes.made.cgan:ConditionalGan",
                summary="also from label maps and images that further networks make up",
                when="Where few cases are labelled and there are no others; try stronger augmentation first.",
                reference="Isola et al., CVPR 2017; Guibas et al., 2017",
                knobs={"made_share": 0.5, "first_share": 0.3},
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


def given_knobs(config: TrainConfig) -> dict[str, Any]:
    """{name: value} of the knobs of schemes that the settings do not leave alone."""
    values = {f.name: (getattr(config.schemes, f.name), f.default) for f in fields(SchemeConfig)}
    return {name: value for name, (value, default) in values.items() if value != default}


def require_taken(spec: SchemeSpec, unlabelled: object) -> None:
    """Raise InputError for images without labels that a scheme has no use for, and for their absence where it has."""
    if unlabelled and not spec.takes_unlabelled:
        raise InputError(f"scheme {spec.name} takes no unlabelled images: leave them out, or choose another scheme")
    if spec.takes_unlabelled and not unlabelled:
        raise InputError(f"scheme {spec.name} needs unlabelled images: give a folder of them, or choose another scheme")


def require_used(spec: SchemeSpec, config: TrainConfig) -> None:
    """Raise InputError for a knob of schemes that this one does not use."""
    for name in given_knobs(config):
        if name not in spec.knobs:
            uses = f"its own are {', '.join(spec.knobs)}" if spec.knobs else "it has none of its own"
            raise InputError(f"scheme {spec.name} has no use for {name}: {uses}")
