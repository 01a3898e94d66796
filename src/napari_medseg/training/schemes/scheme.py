"""What a way to train is: a `Scheme`, and the table of those that a user can name.

The loop, the checkpoints and the validation know this protocol only. A new scheme is a class of it and an entry of
`SCHEMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from napari_medseg.config import SchemeConfig, TrainConfig, configured
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean
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

    def preparing(self, state: TrainState) -> str:
        """What the next step trains first, in words; empty where it is the network to keep."""


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
    learns: Learns = "labels"
    """What it makes of the labels, see `objects.cases_for`."""
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
                name="self-training",
                target="napari_medseg.training.schemes.semi.self_training:SelfTraining",
                summary="from sure labels that an average of the weights gives images without labels",
                when="Where a network of the labelled images alone is right on most of the others.",
                reference="Lee, ICML workshop 2013; Sohn et al., NeurIPS 2020",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 1.0, "ramp": 0.3, "confidence": 0.8},
            ),
            SchemeSpec(
                name="copy-paste",
                target="napari_medseg.training.schemes.semi.copy_paste:CopyPaste",
                summary="from mixtures of labelled images with others, both ways",
                when="Where very few images are labelled, and one looks much like another.",
                reference="Bai et al., CVPR 2023",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 0.5, "ramp": 0.3, "confidence": 0.0},
            ),
            SchemeSpec(
                name="sassnet",
                target="napari_medseg.training.schemes.semi.shape_aware:SASSNet",
                summary="a discriminator asks for outlines on other images like those on labelled ones",
                when="For one compact organ of a known shape, such as the left atrium, with hours to train.",
                reference="Li et al., MICCAI 2020, doi:10.1007/978-3-030-59710-8_54",
                takes_unlabelled=True,
                network="sassnet",
                arguments={"sdf": True},
                knobs={"unlabelled_weight": 0.01, "ramp": 1.0, "critic_width": 64, "descent": "auto"},
            ),
            SchemeSpec(
                name="canet",
                target="napari_medseg.training.schemes.semi.shape_aware:CANet",
                summary="as sassnet, with attention in the discriminator and a transformer in the network",
                when="As sassnet, where the outline needs the context of the whole volume, and there is a GPU.",
                reference="Zhao et al., Expert Systems with Applications 2023, doi:10.1016/j.eswa.2022.119105",
                takes_unlabelled=True,
                network="canet",
                arguments={"sdf": True},
                knobs={"unlabelled_weight": 0.01, "ramp": 1.0, "critic_width": 64, "descent": "auto"},
            ),
            SchemeSpec(
                name="memory",
                target="napari_medseg.training.schemes.guided.memory:MemoryClips",
                describe="napari_medseg.training.schemes.guided.described:of_memory",
                summary="a memory network that carries the mask of a slice to the next ones, from clips of slices",
                when="To fill volumes from painted slices, of objects that it was never trained for.",
                reference="Zhou et al., MICCAI 2021",
                network="mem3d",
                arguments={"width": 8, "blocks": (1, 1, 1), "key": 32, "value": 64, "decoder": 32, "aspp": False},
                takes="memory",
            ),
            SchemeSpec(
                name="clicks",
                target="napari_medseg.training.schemes.guided.clicks:SimulatedClicks",
                describe="napari_medseg.training.schemes.guided.described:of_clicks",
                summary="an R-Net that corrects labels by clicks, from simulated clicks on what a P-Net gets wrong",
                when="To correct labels of the structures in the cases by a few clicks.",
                reference="Wang et al., TPAMI 2018",
                network="deepigeos_rnet",
                takes="image+prompts",
            ),
            SchemeSpec(
                name="supervoxels",
                target="napari_medseg.training.schemes.guided.graph:Supervoxels",
                describe="napari_medseg.training.schemes.guided.described:of_graph",
                summary="a graph network on supervoxels, from the commonest label of each",
                when="For large images in which intensities tell the structures apart, and borders may be rough.",
                reference="Gao and Ji, ICML 2019",
                network="graph_unet",
                takes="graph",
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
                takes="instances",
            ),
            SchemeSpec(
                name="boundary-patch",
                target="napari_medseg.training.schemes.refiners:BoundaryPatch",
                summary="a refiner of boxes along boundaries, from the errors of the model that init names",
                learns_errors=True,
            ),
            SchemeSpec(
                name="point-rend",
                target="napari_medseg.training.schemes.refiners:PointRendScheme",
                summary="a refiner of single points, from the errors and the features of the model that init names",
                learns_errors=True,
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


def require_target(spec: SchemeSpec, target: object) -> None:
    """Raise InputError for images of another domain that a scheme has no use for, and for their absence."""
    if target and not spec.takes_target:
        raise InputError(
            f"scheme {spec.name} takes no target images: leave them out, or choose adapt-statistics or cyclegan"
        )
    if spec.takes_target and not target:
        raise InputError(f"scheme {spec.name} needs target images: give a folder of them, or choose another scheme")


def require_used(spec: SchemeSpec, config: TrainConfig) -> None:
    """Raise InputError for a knob of schemes that this one does not use."""
    for name in given_knobs(config):
        if name not in spec.knobs:
            uses = f"its own are {', '.join(spec.knobs)}" if spec.knobs else "it has none of its own"
            raise InputError(f"scheme {spec.name} has no use for {name}: {uses}")


def require_trains(scheme: SchemeSpec, network: str) -> None:
    """Raise UnknownNameError for an unknown network, InputError for one that the scheme does not train."""
    if network_named(network).takes == scheme.takes:
        return
    if scheme.takes != "image":
        raise InputError(f"scheme {scheme.name} trains {scheme.network}, not {network}: leave the network out")
    own = next(spec.name for spec in SCHEMES.values() if spec.takes == network_named(network).takes)
    raise InputError(f"network {network} is no network from image to labels: it is trained by scheme {own}")


def require_plain(scheme: SchemeSpec, config: TrainConfig, *, planned: bool) -> None:
    """Raise InputError for what goes with networks of an image alone. planned: whether a plan is given."""
    if scheme.takes in ("image", "instances"):
        return
    given = (
        ("a plan", planned),
        ("mode", config.mode != "auto"),
        ("cascade", config.cascade != "none"),
        ("adapt", config.optimiser.adapt != "all"),
        ("ema", config.optimiser.ema > 0),
    )
    for name, is_given in given:
        if is_given:
            raise InputError(f"scheme {scheme.name} has no use for {name}: leave it out")


def require_objects(spec: SchemeSpec, objects: str) -> None:
    """Raise InputError where it is said what an object is, and the scheme learns labels."""
    if objects != "components" and spec.learns == "labels":
        raise InputError(f"scheme {spec.name} learns labels: leave objects={objects} out, or choose another scheme")
