"""What a way to train is: a `Scheme`, and the table of those that a user can name.

The loop, the checkpoints and the validation know this protocol only. A new scheme is a class of it and an entry of
`SCHEMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from napari_medseg.errors import InputError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

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
    learns: Learns = "labels"
    """What it makes of the labels, see `objects.cases_for`; objects need a network that finds them."""

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
                name="distance-map",
                target="napari_medseg.training.schemes.supervised:Supervised",
                summary="from how deep each voxel lies in its object, which tells objects apart that touch",
                when="Where objects of a kind touch along much of their border, such as nuclei.",
                learns="depths",
            ),
            SchemeSpec(
                name="mask-rcnn",
                target="napari_medseg.training.schemes.mask_rcnn:MaskRCNNScheme",
                summary="from objects one by one, each with a box and a mask",
                when="Where objects overlap or differ in class, and there are many to learn from.",
                reference="He et al., ICCV 2017, doi:10.1109/ICCV.2017.322",
                learns="objects",
                network="mask_rcnn",
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


def require_objects(spec: SchemeSpec, objects: str) -> None:
    """Raise InputError where it is said what an object is, and the scheme learns labels."""
    if objects != "components" and spec.learns == "labels":
        raise InputError(f"scheme {spec.name} learns labels: leave objects={objects} out, or choose another scheme")
