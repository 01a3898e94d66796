"""The ways to explain, as a table. Pure data: no torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from napari_medseg.errors import UnknownNameError, did_you_mean
from napari_medseg.registry import shown

Combining = Literal["sum", "mean"]
Takes = Literal["image", "memory"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to explain."""

    name: str
    """As scripts and the command line know it."""
    title: str
    """As a list of choices shows it."""
    means: str
    """What a high value says, in one sentence."""
    means_not: str
    """What it does not say, in one sentence."""
    signed: bool = False
    """Whether values below zero speak against the label."""
    combining: Combining = "sum"
    """How the maps of overlapping windows become one. sum: of shares of the score, which add up; mean: of
    values that describe all of a window."""
    takes: Takes = "image"
    """The kind of network that is explained."""
    source: str = ""
    """Authors, place and year."""

    @property
    def colormap(self) -> str:
        """The name of napari's colour map that suits it: two colours around zero for signed maps."""
        return "PiYG" if self.signed else "inferno"

    @property
    def sentence(self) -> str:
        """What the map means, and what it does not."""
        return f"{self.means} {self.means_not}"


_TABLE = (
    Method(
        name="grad-cam",
        title="Grad-CAM",
        means="Bright where features that raise the label's score are active.",
        means_not="It is as coarse as the layer that it looks at, and it does not show edges.",
        combining="mean",
        source="Selvaraju et al., ICCV 2017; Vinogradova et al., AAAI 2020 (for labels)",
    ),
    Method(
        name="grad-cam++",
        title="Grad-CAM++",
        means="As Grad-CAM, with places weighted one by one, so that several objects show beside each other.",
        means_not="Its weights are derived for an exponential score: trust its places, and not its values.",
        combining="mean",
        source="Chattopadhyay et al., WACV 2018",
    ),
    Method(
        name="cam",
        title="CAM (last layer)",
        means="The evidence for the label that the last layer adds up, voxel by voxel.",
        means_not="It shows what the network says at each voxel, and not which voxels made it say so.",
        combining="mean",
        source="Zhou et al., CVPR 2016",
    ),
    Method(
        name="gradient",
        title="Gradient",
        means="Bright where a small change of the voxel changes the label's score most.",
        means_not="It says nothing of the direction, and where more of something changes nothing it is dark.",
        source="Simonyan et al., ICLR workshop 2014",
    ),
    Method(
        name="guided-backprop",
        title="Guided backpropagation",
        means="Bright where a brighter voxel raises the score through units that are active and helpful themselves.",
        means_not="It is sharp because it follows edges, and it may hardly depend on the label: look at the check.",
        source="Springenberg et al., ICLR workshop 2015",
    ),
    Method(
        name="integrated-gradients",
        title="Integrated gradients",
        means="The share of each voxel in the score, beside an image of one grey; the shares sum up to the difference.",
        means_not="Another grey gives other shares, and a voxel with a share of zero may be seen.",
        signed=True,
        source="Sundararajan et al., ICML 2017",
    ),
    Method(
        name="occlusion",
        title="Occlusion",
        means="How much the score falls where a cube of the image is covered by grey; below zero it rises.",
        means_not="The network never saw covers, and two places that can replace each other both look unimportant.",
        signed=True,
        source="Zeiler and Fergus, ECCV 2014",
    ),
    Method(
        name="attention",
        title="Attention gates",
        means="Bright where the network's own attention lets through what raises the label's score.",
        means_not="Attention without its effect on the score is no reason: unweighted, it is the same for every label.",
        source="Oktay et al., MIDL 2018; weighted as Chefer et al., CVPR 2021",
    ),
    Method(
        name="shape",
        title="Shape stream",
        means="Bright where borders that SAUNet's shape stream sees change the label's score, up or down.",
        means_not="It shows borders only: what the texture stream sees inside of them is not in it.",
        source="Sun et al., MIDL 2020",
    ),
    Method(
        name="memory-read",
        title="Memory reads",
        means="Bright where, in the annotated slices, the memory network found what raises the object's score.",
        means_not="It is as coarse as the memory, and what the slice itself says is not in it.",
        takes="memory",
        source="Zhou et al., MICCAI 2021; weighted as Chefer et al., CVPR 2021",
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _TABLE})
"""{name: the way to explain}, the one to try first first."""


def method_of(name: str) -> Method:
    """The method of that name; UnknownNameError lists the choices."""
    if name not in METHODS:
        hint, choices = did_you_mean(name, METHODS), ", ".join(METHODS)
        raise UnknownNameError(f"unknown method {shown(name)}: {hint}choose one of {choices}")
    return METHODS[name]
