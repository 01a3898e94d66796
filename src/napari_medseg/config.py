"""The knobs, each documented once under its field; tooltips, `--help` and the docs read that text.

All config classes are frozen and keyword-only, and valid once built. A class with many knobs holds them in groups:
fields that are config classes themselves. Users name a knob without its group (`epochs=3`, `--epochs 3`): `configured`
finds the group, and `knobs_of` lists all knobs of a class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from math import inf
from numbers import Integral, Real
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from napari_medseg.errors import InputError, UnknownKnobError, did_you_mean
from napari_medseg.registry.spec import PLAIN_RATE, Argument, shown
from napari_medseg.volume import name_key

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Device = str
Precision = Literal["auto", "fp32", "bf16"]
Backend = Literal["torch", "openvino"]
Preset = Literal["survey", "lits", "chaos"]
InferencePreset = Literal["auto", "exact", "balanced", "fast"]
Connectivity = Literal[6, 18, 26]
Consensus = Literal["none", "vote", "staple"]
TrainMode = Literal["auto", "2d", "2.5d", "triplanar", "3d"]
Cascade = Literal["none", "coarse-to-fine", "detect"]
FeatureLayer = Literal["fine", "middle", "deep"]
Fusion = Literal["input", "layer", "decision"]
Tracker = Literal["none", "tensorboard", "mlflow"]
Mirror = Literal["auto", "none", "all"]

C = TypeVar("C", bound="DataclassInstance")

_NUMBERS: Mapping[object, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        int: ((Integral,), "a whole number"),
        float: ((Real,), "a number"),
        int | None: ((Integral, NoneType), "a whole number"),
        float | None: ((Real, NoneType), "a number"),
    }
)
"""{type of a numeric field: (the types that its value may have, what messages call them)}."""


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise InputError(message)


def _require_valid(config: DataclassInstance) -> None:
    """Raise InputError unless each field holds what its annotation and its metadata say.

    A numeric field holds a number within its bounds ("ge", "gt", "le", "lt"), a Literal field one of its choices.
    """
    hints = get_type_hints(type(config))
    for f in fields(config):
        name, kind, value = f.name, hints[f.name], getattr(config, f.name)
        if kind in _NUMBERS:
            allowed, what = _NUMBERS[kind]
            _require(isinstance(value, allowed), f"{name} must be {what}; got {value!r}")
            if value is not None:
                _require(_within(value, f.metadata), f"{name} must {_bounds_in_words(f.metadata)}; got {value}")
        elif get_origin(kind) is Literal:
            *most, last = map(str, get_args(kind))
            _require(value in get_args(kind), f"{name} is {', '.join(most)} or {last}; got {value!r}")


def _within(value: float, bounds: Mapping[str, float]) -> bool:
    low, high = bounds.get("ge", -inf), bounds.get("le", inf)
    return low <= value <= high and bounds.get("gt", -inf) < value < bounds.get("lt", inf)


def _bounds_in_words(bounds: Mapping[str, float]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f"lie in {bounds['ge']} to {bounds['le']}"
    if "gt" in bounds and "lt" in bounds:
        return f"lie between {bounds['gt']} and {bounds['lt']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return "be " + " and ".join(f"{word} {bounds[key]}" for key, word in words.items() if key in bounds)


def _require_triple(name: str, value: tuple[float, ...] | None) -> None:
    _require(
        value is None or (len(value) == 3 and min(value) > 0),
        f"{name} needs three positive numbers (z, y, x); got {value}",
    )


def _is_threshold(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < 1


def _is_label(value: object) -> bool:
    return isinstance(value, Integral) and int(value) > 0


def _require_labels(labels: object) -> None:
    _require(
        labels is None or (isinstance(labels, (tuple, list)) and all(_is_label(k) for k in labels)),
        f"labels needs label ids above 0, such as (1, 2); got {labels!r}",
    )


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How a volume is segmented."""

    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    preset: InferencePreset = "auto"
    """exact (overlap 0.5), balanced and fast take fewer windows, and less time; auto: balanced where the model's
    validation lost at most 0.002 Dice by it, exact otherwise."""
    overlap: float | None = field(default=None, metadata={"ge": 0, "lt": 1, "step": 0.125})
    """Fraction of a window shared with its neighbour, blended as exact does; empty for that of the preset."""
    tta: bool = False
    """Average over mirror images too, along the axes that the model's training mirrored; a model whose makers do so
    needs no asking for exact and balanced."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: fp32 until the model states that bf16 is as good."""
    backend: Backend = "torch"
    """What runs the network: torch, or on a CPU openvino (the extra of that name), which is faster in napari for large
    windows; it converts the network before the first run, which takes some seconds."""
    batch_size: int = field(default=1, metadata={"ge": 1})
    """Windows that run through the network at once."""
    instances: Literal["auto", "none", "components", "distance"] = "auto"
    """Whether objects are numbered one by one in place of labels: auto, where the model was trained for it; none;
    components: connected parts; distance: parts that are cut where they are narrow."""
    missing: tuple[str, ...] = ()
    """Names of the model's channels that the image lacks; it then has the others, in the model's order."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """How an answer of a model is explained."""

    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    check: bool = False
    """Explain three networks of random weights too, and say how much the maps are alike; takes four times as long."""
    layer: FeatureLayer = "fine"
    """The features that grad-cam and grad-cam++ look at: fine (the last ones), middle, or deep (the coarsest)."""
    steps: int = field(default=16, metadata={"ge": 1, "le": 1024})
    """Images between grey and the image itself, for integrated-gradients."""
    occluder: int = field(default=8, metadata={"ge": 1, "le": 256})
    """Edge of the cube that occlusion covers, in voxels at the model's spacing; a small one takes long."""
    weighted: bool = True
    """Weigh attention, reads and shape maps by what they do to the score; without, they are shown as they are."""
    overlap: float = field(default=0.25, metadata={"ge": 0, "lt": 1, "step": 0.125})
    """Fraction of a window shared with its neighbour."""
    seed: int = 0
    """Of the random weights of the check."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class DoubtConfig:
    """How the doubts of a model are measured."""

    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    overlap: float = field(default=0.25, metadata={"ge": 0, "lt": 1, "step": 0.125})
    """Fraction of a window shared with its neighbour."""
    passes: int = field(default=8, metadata={"ge": 2, "le": 1024})
    """Passes through the network whose drop-out leaves out other features each time, for dropout."""
    seed: int = 0
    """Of what drop-out leaves out."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class SuggestConfig:
    """What is suggested to annotate next, and by what."""

    kind: Literal["slice", "case", "region"] = "slice"
    """slice: slices of any case; case: whole images; region: the largest places of doubt."""
    count: int = field(default=8, metadata={"ge": 1, "le": 100_000})
    """How many are suggested."""
    by: Literal["both", "doubt", "diversity"] = "both"
    """doubt: where the model is unsure; diversity: what differs most from the rest; both: of the half that is
    most unsure of what may be a label, what stands for the others, from images of which least is annotated."""
    axis: Literal["auto", "z", "y", "x"] = "auto"
    """The axis of the array along which slices are suggested; auto: that of the coarsest spacing, z among equals."""
    region_mm: float = field(default=10.0, metadata={"gt": 0, "le": 1000, "step": 1})
    """Edge of the cube that a region is, in mm."""
    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    overlap: float = field(default=0.25, metadata={"ge": 0, "lt": 1, "step": 0.125})
    """Fraction of a window shared with its neighbour."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """How long a training lasts: a number of epochs or of minutes; without either, 100 epochs."""

    epochs: int | None = field(default=None, metadata={"ge": 1})
    """Passes over the training cases; 100 where there is no budget in minutes either."""
    minutes: float | None = field(default=None, metadata={"gt": 0})
    """Wall time from the first step on, validation included; empty when the budget is in epochs."""
    checkpoint_minutes: float = field(default=1.0, metadata={"ge": 0, "step": 1})
    """Time between two states on disk, from which a training can be resumed; 0 saves one after every step."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(self.epochs is None or self.minutes is None, "give a budget in epochs or in minutes, not both")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """What a step of the training sees."""

    batch_size: int = field(default=2, metadata={"ge": 1})
    """Patches in a step."""
    patch_zyx: tuple[int, int, int] | None = None
    """Patch in voxels at the model's spacing; empty to derive it from the cases."""
    spacing_zyx_mm: tuple[float, float, float] | None = None
    """The model's spacing in mm; empty for the median of the cases."""
    foreground: float = field(default=0.67, metadata={"ge": 0, "le": 1, "step": 0.05})
    """Fraction of the patches centred on a label (drawn evenly over the labels); the rest lie anywhere."""
    hard_patches: float = field(default=0.0, metadata={"ge": 0, "le": 1, "step": 0.05})
    """Fraction of the patches centred where the network was wrong before, more of them on the cases that it knows
    least; 0 for none."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require_triple("patch_zyx", self.patch_zyx)
        _require_triple("spacing_zyx_mm", self.spacing_zyx_mm)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How a step changes the weights."""

    learning_rate: float | None = field(default=None, metadata={"gt": 0})
    """Peak learning rate of AdamW; by default the one that suits the network, or 0.001 from a model on."""
    weight_decay: float = field(default=1e-5, metadata={"ge": 0})
    """Weight decay of AdamW."""
    schedule: Literal["cosine", "poly"] = "cosine"
    """How the learning rate falls to zero over the budget, after a short warm-up."""
    gradient_clip: float = field(default=12.0, metadata={"gt": 0, "step": 1})
    """Largest gradient norm; larger ones are scaled down to it."""
    ema: float = field(default=0.0, metadata={"ge": 0, "lt": 1, "step": 0.01})
    """Decay of a moving average of the weights, which is then validated and kept, such as 0.99; 0 for no average."""
    adapt: Literal["all", "decoder", "low-rank"] = "all"
    """Which weights learn where a training starts from a model: all; decoder: those behind the encoder; low-rank:
    small adapters, which also become a file of their own."""
    rank: int = field(default=4, metadata={"ge": 1})
    """Rank of the adapters in low-rank."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(self.adapt == "low-rank" or self.rank == 4, "rank is of adapters: it needs adapt=low-rank")

    @property
    def peak(self) -> float:
        """The peak learning rate: the one that was given, or else the plain one."""
        return PLAIN_RATE if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How the patches are varied."""

    augment: bool = True
    """Random rotation, scaling, noise, blur, brightness, contrast and gamma, made on the device."""
    mirror: Mirror = "none"
    """Random mirroring of the patches: none; all: along each axis; auto: along those on which every label lies on both
    sides of the images' middle, so that no left kidney is shown as a right one."""
    elastic_mm: float = field(default=0.0, metadata={"ge": 0, "le": 100, "step": 1})
    """The farthest that a random elastic deformation moves a voxel, in a fifth of the patches; 0 for none."""
    modality_dropout: float = field(default=0.0, metadata={"ge": 0, "lt": 1, "step": 0.1})
    """Probability with which a channel of a patch is missing, never all of them: the model then segments images that
    lack a channel."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(self.augment or (self.mirror == "none" and not self.elastic_mm), "mirror and elastic_mm need augment")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised, and which voxels the loss and the validation count."""

    loss: str = "dice+ce"
    """A loss or a sum, such as dice+ce or 0.5*dice+focal, of: dice, ce, weighted_ce, balanced_ce, focal,
    generalised_dice, tversky, iou, lovasz, boundary, exp_log, sdf, cldice, ms_ssim, hdenseunet, smooth; or
    unet3plus."""
    class_weights: tuple[float, ...] | None = None
    """Weights of the background and of each label in the loss weighted_ce."""
    ignore_label: int | None = field(default=None, metadata={"ge": 1})
    """A label id whose voxels count in no loss and no metric: not annotated."""
    unlabelled_slices: Literal["background", "ignore"] = "background"
    """What slices without any label mean: background, or not annotated and ignored."""
    shapes: float = field(default=0.5, metadata={"ge": 0, "le": 1, "step": 0.1})
    """Weight of what lies between painted slices, as `propagate` and the network so far guess it; 0 for none."""
    weak: Literal["none", "scribbles", "boxes"] = "none"
    """What the labels are: none: masks; scribbles: strokes, and the rest is unknown; boxes: each connected part stands
    for its bounding box. What is unknown is learned from the image: see the loss smooth."""
    background_label: int | None = None
    """The id of strokes on the background, where the labels are scribbles."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(
            self.background_label is None or self.weak == "scribbles",
            "background_label is of strokes: it needs weak=scribbles",
        )
        weighted = "weighted_ce" in self.loss
        _require(
            weighted == (self.class_weights is not None),
            "class_weights and the loss weighted_ce go together: give both or neither",
        )
        _require(
            self.class_weights is None or all(w > 0 for w in self.class_weights),
            f"class_weights needs a positive number for the background and each label; got {self.class_weights}",
        )


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """On which cases the training is validated, and how often."""

    val: float = field(default=0.2, metadata={"ge": 0, "lt": 1, "step": 0.05})
    """Fraction of the cases, the last in sorted name order, kept for validation; 0 means none. Several cases of one
    patient stay together, where the data set says so (ACDC, BIDS, BraTS)."""
    validations: int = field(default=10, metadata={"ge": 0})
    """Validations on whole volumes, spread evenly over the budget."""
    decide_cleaning: bool = False
    """Decide on the validation cases which labels lose all but their largest part, and whose holes are filled; the
    model does so in use."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a training leaves to read beside its model."""

    report: bool = True
    """Write log.csv and report.html (curves, sample slices, scores of each label, plan) into the training's folder."""
    tracker: Tracker = "none"
    """Where others watch the numbers of the training: none, tensorboard or mlflow (extra "tracking")."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(self.report or self.tracker == "none", "a tracker goes with the report: leave report on")


@dataclass(frozen=True, kw_only=True)
class SchemeConfig:
    """How a scheme works. A knob is for some schemes, and refused by the others; left alone, it has their own value."""

    unlabelled_weight: float | None = field(default=None, metadata={"ge": 0, "step": 0.1})
    """Weight of what is learned from images without labels, beside that of the labels; empty for the scheme's own."""
    ramp: float | None = field(default=None, metadata={"gt": 0, "le": 1, "step": 0.1})
    """Share of the budget over which that weight rises; empty for the scheme's own."""
    confidence: float | None = field(default=None, metadata={"ge": 0, "lt": 1, "step": 0.05})
    """Least probability of a label that a network gives an image and then learns from; empty for the scheme's own."""
    rounds: int | None = field(default=None, metadata={"ge": 1})
    """How often images without labels are labelled anew, in the scheme self-training; empty for the scheme's own."""
    doubt_passes: int | None = field(default=None, metadata={"ge": 0})
    """Passes of the teacher, each with other noise, whose entropy says where it is sure enough to be followed; 0: it is
    followed everywhere; empty for the scheme's own."""
    critic_width: int | None = field(default=None, metadata={"ge": 1})
    """Features of the first level of a discriminator; empty for the scheme's own."""
    critic_weight: float | None = field(default=None, metadata={"ge": 0, "step": 0.1})
    """Weight of what a critic says of the label maps, in the scheme adversarial; empty for the scheme's own."""
    shape_weight: float | None = field(default=None, metadata={"ge": 0, "step": 0.01})
    """Weight of the distance of shapes' codes, in the scheme acnn; empty for the scheme's own."""
    first_share: float | None = field(default=None, metadata={"gt": 0, "lt": 1, "step": 0.05})
    """Share of the budget over which further networks are trained first; empty for the scheme's own."""
    made_share: float | None = field(default=None, metadata={"ge": 0, "lt": 1, "step": 0.1})
    """Share of the patches that are made up, or get a random contrast; empty for the scheme's own."""
    descent: Literal["auto", "adamw", "sgd"] = "auto"
    """How the segmenting network descends: adamw; sgd with momentum, at ten times the learning rate; auto: as the
    scheme was published where its own network is trained, else adamw."""
    translator: Literal["auto", "light", "paper"] = "auto"
    """Networks that translate images: light, which a CPU trains in minutes; paper, as published, for a GPU; auto:
    light."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is tried before a training, to find the plan that it follows."""

    search: float = field(default=0.0, metadata={"ge": 0, "step": 1})
    """Minutes in which other patches, sizes and options of the network are tried first, in short trainings judged by
    the validation cases; the best plan, which may be that of the cases, is then trained for the whole budget; 0 for
    none."""
    search_network: Literal["plan", "dints"] = "plan"
    """What is tried: plan: the network of the plan; dints: also a network whose paths and operations are found by
    gradient descent, in half of the minutes."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(
            self.search > 0 or self.search_network == "plan", "search_network is of a search: give minutes as search"
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained. `configured` builds one from knobs without their groups, as `ms.train` takes them."""

    seed: int = field(default=0, metadata={"ge": 0})
    """Seed of the weights, the patches and the augmentation."""
    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the hardware has it."""
    mode: TrainMode = "auto"
    """How the network sees a volume: 3d; 2d (slice by slice); 2.5d (adjacent slices as channels); triplanar (slices
    along each axis, averaged); auto: 3d where network and cases have three dimensions, else 2d."""
    slices: int = field(default=3, metadata={"ge": 3, "step": 2})
    """Adjacent slices that are the channels in mode 2.5d; odd."""
    cascade: Cascade = "none"
    """none; coarse-to-fine: a first network at low resolution, whose probabilities are channels of the second;
    detect: a first network finds boxes, the second segments inside them."""
    first_network: str = ""
    """The first network of a cascade; empty for the same as the second."""
    scheme: str = "supervised"
    """Way to train: supervised, from images and their labels; others learn from images without labels too, adapt to
    another contrast, tell objects apart, learn from the errors of a model, or train networks that take more than an
    image: see the guide "Which scheme when"."""
    objects: Literal["components", "ids"] = "components"
    """What one object is, for a scheme that learns objects: a connected part of a label, or all that has one id."""
    fusion: Fusion = "input"
    """Where the channels of an image meet: input: in the first convolution; layer: each has an encoder, and the decoder
    sees their mean at every skip; decision: each has a network, and their probabilities are averaged."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments of the network that differ from its defaults, by name; see NetworkSpec.parameters."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How long it lasts."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """What a step sees."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """How a step changes the weights."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How the patches are varied."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Which voxels count."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """On which cases it is validated, and how often."""
    reporting: ReportConfig = field(default_factory=ReportConfig)
    """What it leaves to read."""
    schemes: SchemeConfig = field(default_factory=SchemeConfig)
    """How the scheme works."""
    searching: SearchConfig = field(default_factory=SearchConfig)
    """What is tried before it."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(self.slices % 2 == 1 and self.slices > 1, f"slices must be an odd number above 1; got {self.slices}")
        _require(
            self.cascade != "detect" or self.loss.weak == "none",
            "a cascade that detects learns from masks: choose weak=none, or another cascade",
        )
        _require(
            not self.first_network or self.cascade != "none",
            f"first_network {self.first_network} is the first of a cascade: choose coarse-to-fine or detect",
        )
        _require(
            self.fusion == "input" or (self.cascade == "none" and self.mode != "2.5d"),
            f"fusion {self.fusion} takes channels apart, and a cascade and mode 2.5d add further ones: choose "
            f"fusion=input, or neither",
        )


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """Which definitions the metrics follow."""

    preset: Preset = "survey"
    """survey (6-neighbour surfaces, signed RVD), lits (its scorer's rules) or chaos (its scorer's rules)."""
    nsd_tolerance_mm: float = field(default=1.0, metadata={"ge": 0, "step": 0.5})
    """Distance in mm within which a surface voxel counts as right in NSD."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class InstancesConfig:
    """What an instance (a lesion) is, and when one of the prediction counts as one of the reference."""

    instances: Literal["components", "ids"] = "components"
    """components: the connected parts of each label; ids: every id of the label images is one object."""
    connectivity: Connectivity = 26
    """Neighbours of a voxel that belong to the same component: 6 (faces), 18 (and edges) or 26 (and corners)."""
    iou: tuple[float, ...] = (0.5,)
    """IoU above which two instances count as the same; several give a row each, the first decides the pairs shown."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(
            isinstance(self.iou, Sequence) and len(self.iou) > 0 and all(_is_threshold(t) for t in self.iou),
            f"iou needs one or more thresholds from 0 to below 1; got {self.iou}",
        )


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig:
    """How the objects in labels are told apart."""

    method: Literal["distance", "components"] = "distance"
    """distance: connected parts are cut where they are narrow, by a watershed on the distance to the border, or on the
    depths that a model of the scheme distance-map gives; components: connected parts as they are."""
    neck: float = field(default=0.8, metadata={"gt": 0, "le": 1, "step": 0.05})
    """Two parts are two objects where the neck between them is thinner than this fraction of the smaller one."""
    least_ml: float = field(default=0.0, metadata={"ge": 0, "step": 0.1})
    """Objects below this volume, in millilitres, are left out."""
    connectivity: Connectivity = 26
    """Neighbours of a voxel that belong to the same part: across faces (6), edges too (18), or corners too (26)."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How cases are summed up."""

    bootstrap: int = field(default=2000, metadata={"step": 500})
    """Resamples of the cases behind each confidence interval, 50 or more; 0 for no interval."""
    confidence: float = field(default=0.95, metadata={"gt": 0, "lt": 1, "step": 0.01})
    """Coverage of the confidence intervals."""
    seed: int = field(default=0, metadata={"ge": 0})
    """Seed of the resamples."""
    metrics: tuple[str, ...] | None = None
    """Columns of the scores by which two methods are compared, such as dice and nsd; empty for all that judge. Holm's
    correction is over these and the labels: the fewer they are, the sharper is each test."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require(
            self.bootstrap == 0 or self.bootstrap >= 50, f"bootstrap must be 0 or at least 50; got {self.bootstrap}"
        )
        _require(
            self.metrics is None or (isinstance(self.metrics, (tuple, list)) and len(self.metrics) > 0),
            f"metrics needs one or more names of columns, such as ('dice', 'nsd'); got {self.metrics!r}",
        )


@dataclass(frozen=True, kw_only=True)
class RatersConfig:
    """What several readers of the same images are used for."""

    consensus: Consensus = "none"
    """What the prediction is measured against where there are further readers: none: the reference alone; vote: what
    most of the reference and the readers say; staple: their consensus by STAPLE (needs SimpleITK)."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """How probabilities are held against what came true."""

    bins: int = field(default=15, metadata={"ge": 1})
    """Bins of equal width between 0 and 1 into which voxels are sorted by their confidence."""
    region: Literal["all", "foreground"] = "all"
    """all: every voxel; foreground: those that hold a label in the reference or where one is the most probable."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class PropagateConfig:
    """How a volume is filled from some painted slices."""

    method: Literal["auto", "geodesic", "interpolation", "memory", "learn"] = "auto"
    """geodesic: by shapes and image, at once; interpolation: by shapes alone; memory: by the memory network that is
    given; learn: by a small network that first learns the painted slices, the best from five slices on; auto: memory
    where a model is given, geodesic otherwise."""
    minutes: float = field(default=0.5, metadata={"gt": 0, "step": 0.25})
    """Wall time for which learn trains its network; more for a large or faint structure."""
    epochs: int | None = field(default=None, metadata={"ge": 1})
    """Passes over the painted part for which learn trains in place of minutes; a core makes about five a second. On a
    CPU the result is then the same each time."""
    seed: int = 0
    """Of the network that learns."""
    device: Device = "auto"
    """Where the network learns: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        _require_valid(self)


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Which steps make labels better. Steps that are on are done in this order."""

    labels: tuple[int, ...] | None = None
    """Ids of the labels that are changed; empty for all."""
    interpolate: Literal["none", "auto", "z", "y", "x"] = "none"
    """Fill in the slices between painted ones by their shapes, along this axis of the array; auto: each label along the
    axis on which it has most gaps, where it looks painted in single slices."""
    fill_holes: bool = False
    """Fill what a label encloses on all sides, where it is background."""
    smooth_mm: float = field(default=0.0, metadata={"ge": 0, "le": 100, "step": 0.5})
    """Smooth borders by a Gaussian of this standard deviation in mm; thinner parts vanish; 0 for none."""
    keep_topology: bool = False
    """Smooth without parting, joining or losing anything, and without making or closing a hole or a tunnel."""
    islands_ml: float = field(default=0.0, metadata={"ge": 0, "step": 0.1})
    """Remove the connected parts of a label that are smaller than this, in ml; 0 for none."""
    largest: bool = False
    """Keep the largest connected part of each label only."""
    connectivity: Connectivity = 26
    """Neighbours of a voxel that belong to the same part: 6 (faces), 18 (and edges) or 26 (and corners)."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require_labels(self.labels)


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How a refiner makes given labels better."""

    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    labels: tuple[int, ...] | None = None
    """Ids of the labels that are changed; empty for all that the refiner knows."""

    def __post_init__(self) -> None:
        _require_valid(self)
        _require_labels(self.labels)


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Which labels are taken for one before anything is measured."""

    merge: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Regions, such as {"liver": (1, 2)}: the labels in one become one label of this name; regions may share labels."""
    foreground: bool = False
    """Take all that is labelled for one label, whatever its ids."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "merge", _regions(self.merge))
        _require(not (self.merge and self.foreground), "merge and foreground exclude each other: give one of them")


def _regions(merge: object) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """{name: ids}, or such pairs, as pairs with sorted ids. Raises InputError for anything else."""
    found = []
    pairs: Any = merge.items() if isinstance(merge, Mapping) else merge
    for pair in pairs if isinstance(pairs, Iterable) and not isinstance(pairs, str) else [None]:
        name, ids = pair if isinstance(pair, tuple) and len(pair) == 2 else ("", ())
        ids = (ids,) if isinstance(ids, Integral) else ids
        whole = isinstance(ids, Iterable) and all(isinstance(i, Integral) and 0 < int(i) < 2**31 for i in ids)
        _require(
            isinstance(name, str) and bool(name) and whole and len(set(ids)) > 0,
            f'merge needs {{name: label ids above 0}}, such as {{"liver": (1, 2)}}; got {merge!r:.200}',
        )
        found.append((name, tuple(sorted({int(i) for i in ids}))))
    _require(len({name_key(name) for name, _ in found}) == len(found), f"merge names a region twice: {merge!r:.200}")
    return tuple(found)


@dataclass(frozen=True)
class Knob:
    """A field of a config class, or of a group in one, as users see it."""

    name: str
    """Unique in the class, so that users need not name the group."""
    kind: Any
    """Type of its values, as annotated."""
    default: Any
    doc: str
    """The text under the field."""
    group: str = ""
    """The field that holds the group; empty for a field of the class itself."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The field's own: bounds of its values ("ge", "gt", "le", "lt"), and the "step" of a widget."""


@functools.cache
def knobs_of(kind: type) -> Mapping[str, Knob]:
    """The knobs of a config class by name, with those of its groups in place of the groups."""
    docs, hints, found = field_docs(kind), get_type_hints(kind), {}
    plain = [f for f in fields(kind) if _group_class(f) is None]
    own = {f.name: Knob(f.name, hints[f.name], _default(f), docs[f.name], "", f.metadata) for f in plain}
    for f in fields(kind):
        group = _group_class(f)
        if group is None:
            found[f.name] = own[f.name]
        else:  # a field of the class itself goes before one of that name in a group
            within = {name: replace(knob, group=f.name) for name, knob in knobs_of(group).items()}
            found |= {name: knob for name, knob in within.items() if name not in own}
    return MappingProxyType(found)


def configured(kind: type[C], config: C | None, knobs: Mapping[str, Any]) -> C:
    """The config with some knobs set anew; without a config, the defaults of `kind` with these knobs.

    Raises UnknownKnobError for a knob that the class does not have, InputError for a value out of bounds, or a config
    of another class.
    """
    if config is not None and not isinstance(config, kind):
        raise InputError(f"config must be a {kind.__name__}; got {type(config).__name__}")
    known = knobs_of(kind)
    changes: dict[str, dict[str, Any]] = {}
    for name, value in knobs.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise UnknownKnobError(f"{kind.__name__} has no knob {shown(name)}: {hint}its knobs are {', '.join(known)}")
        changes.setdefault(known[name].group, {})[name] = value
    config = kind() if config is None else config
    own = changes.pop("", {})
    groups = {group: replace(getattr(config, group), **values) for group, values in changes.items()}
    return replace(config, **own, **groups)


@functools.cache
def field_docs(config: type) -> dict[str, str]:
    """The text under each field of a config class of a module: {field: text}, with the fields of a group in its place.

    A field without a text is a defect (KeyError).
    """
    body = _classes_of(config.__module__)[config.__name__]
    docs: dict[str, str] = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[node.target.id] = " ".join(str(after.value.value).split())
    found: dict[str, str] = {}
    for f in fields(config):
        group = _group_class(f)
        found |= {f.name: docs[f.name]} if group is None else field_docs(group)
    return found


@functools.cache
def _classes_of(module: str) -> Mapping[str, ast.ClassDef]:
    """The classes of a module by name. Its source is parsed once for all of them: that takes a tenth of a second."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return MappingProxyType({node.name: node for node in tree.body if isinstance(node, ast.ClassDef)})


def _group_class(f: Field[Any]) -> type | None:
    """The config class that a field holds; None for a plain field."""
    factory: object = f.default_factory
    return factory if isinstance(factory, type) and is_dataclass(factory) else None


def _default(f: Field[Any]) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()
