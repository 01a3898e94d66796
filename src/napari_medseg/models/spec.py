"""What a model is, beside its weights: frozen values, valid once built, and their JSON document in a model file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from napari_medseg import registry, strictjson
from napari_medseg.config import CleanConfig
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.models import checks
from napari_medseg.models.pipeline import (
    PLAIN_OUTPUT,
    PLAIN_SLIDING,
    Output,
    Sliding,
    Step,
    read_output,
    read_sliding,
    read_step,
    steps_of,
)
from napari_medseg.models.recipe import PLAIN_RECIPE, Recipe
from napari_medseg.models.refining import Refining, cleaning_document, cleaning_of, read_cleaning
from napari_medseg.models.trust import PLAIN_TRUST, Trust, read_trust
from napari_medseg.registry import Argument, shown

SCHEMA = 1
"""Version of the document; others are refused."""
MAX_JSON_BYTES = 4 * 2**20
"""Longest document."""

Modality = Literal["CT", "MR", "other"]
NormalisationKind = Literal["none", "zscore", "clip_zscore"]
Mode = Literal["2d", "2.5d", "triplanar", "3d"]
Guide = Literal["channel", "boxes", "labels"]
MISSING = "modality_dropout"
"""Under which the fingerprint of a training says how often a channel was missing."""
PATIENTS = "patients"
"""Under which it says how many patients the cases show, where that is fewer."""
PRESETS: tuple[Literal["exact"], Literal["balanced"], Literal["fast"]] = ("exact", "balanced", "fast")
"""How the inference trades time for Dice, the slowest first."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """An input channel of a model. Raises InputError for an empty name or another modality."""

    name: str
    """What the user is asked for: "T1", "portal venous"."""
    modality: Modality
    """CT (Hounsfield units), MR or other."""

    def __post_init__(self) -> None:
        checks.text("channel name", self.name)
        checks.choice("channel modality", self.modality, get_args(Modality))


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """How a channel's intensities are brought to the network. Raises InputError where kind and numbers do not agree."""

    kind: NormalisationKind
    """none; zscore: mean and deviation of the whole image; clip_zscore: the model's numbers below, in that order."""
    low: float | None = None
    """Intensities below are set to it."""
    high: float | None = None
    """Intensities above are set to it."""
    mean: float | None = None
    """Subtracted after clipping."""
    std: float | None = None
    """Divided by, last."""

    def __post_init__(self) -> None:
        checks.choice("normalisation kind", self.kind, get_args(NormalisationKind))
        numbers = {name: getattr(self, name) for name in ("low", "high", "mean", "std")}
        if self.kind != "clip_zscore":
            if any(value is not None for value in numbers.values()):
                raise InputError(f"normalisation {self.kind} takes no low, high, mean or std; got {numbers}")
            return
        for name, value in numbers.items():
            object.__setattr__(self, name, checks.number(f"normalisation {name}", value))
        if not self.low < self.high or not self.std > 0:  # type: ignore[operator]  # numbers, as just checked
            raise InputError(f"normalisation clip_zscore needs low < high and std > 0; got {numbers}")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the training images were like, on the model's axes. Raises InputError for values out of bounds."""

    intensity: tuple[tuple[float, float], ...]
    """Per channel the lowest and the highest of the images' percentiles 1 and 99."""
    spacing_zyx_mm: tuple[Triple, Triple]
    """The finest and the coarsest spacing along each axis."""
    extent_zyx_mm: Triple
    """The smallest extent along each axis."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        given = self.intensity if isinstance(self.intensity, tuple | list) else ()
        pairs = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in given)
        ranges = checks.items("training intensity", pairs, tuple)
        set_(self, "intensity", tuple(checks.pair("training intensity", r, checks.number) for r in ranges))
        low, high = checks.pair("training spacing", self.spacing_zyx_mm, lambda what, value: value)
        spacings = (checks.triple("training spacing", value, checks.number) for value in (low, high))
        set_(self, "spacing_zyx_mm", tuple(spacings))
        set_(self, "extent_zyx_mm", checks.triple("training extent", self.extent_zyx_mm, checks.number))


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Where the weights come from. Raises InputError for numbers that are negative or not finite."""

    fingerprint: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the training data by name: what planning derived the settings from."""
    cases: int = 0
    """Cases trained on."""
    seed: int = 0
    """Seed of the training."""
    epochs: float = 0.0
    """Passes of the network over the cases; what was trained before it, such as an autoencoder, is not counted."""
    minutes: float = 0.0
    """Wall time."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that trained."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """Final validation scores by name."""
    seen: Seen | None = None
    """What the training images were like; None in files older than this, and from other programs."""
    presets: Mapping[str, float] = field(default_factory=dict)
    """Mean Dice of the validation with each preset of the inference; empty in files older than this."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "fingerprint", checks.table("training fingerprint", self.fingerprint, checks.number))
        set_(self, "validation", checks.table("training validation", self.validation, checks.number))
        set_(self, "presets", checks.table("training presets", self.presets, checks.number))
        for name in self.presets:
            checks.choice("preset", name, PRESETS)
        set_(self, "versions", checks.table("training versions", self.versions, checks.text))
        set_(self, "cases", checks.whole("training cases", self.cases))
        set_(self, "seed", checks.whole("training seed", self.seed))
        set_(self, "epochs", checks.number("training epochs", self.epochs))
        set_(self, "minutes", checks.number("training minutes", self.minutes))
        if not isinstance(self.seen, Seen | None):
            raise InputError(f"training seen must be a Seen; got {type(self.seen).__name__}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The model that looks first in a cascade, and how it guides the one that it belongs to.

    Raises InputError for a margin out of bounds, or a model that has a stage before it itself.
    """

    model: ModelSpec
    """Of its own spacing, patch and normalisation; it sees the same channels and axis order."""
    guide: Guide
    """channel: its foreground probabilities are further input channels, and windows in which it sees nothing are left
    out; boxes: only the boxes around what it finds are segmented; labels: as channel, with 1 for its label and 0 for
    the others, and no window left out (nnU-Net)."""
    margin_mm: float = 10.0
    """Added to every side of a box."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, ModelSpec) or self.model.first is not None:
            raise InputError(f"the first stage needs a ModelSpec without a stage before it; got {shown(self.model)}")
        checks.choice("guide", self.guide, get_args(Guide))
        object.__setattr__(self, "margin_mm", checks.number("margin_mm", self.margin_mm))

    @property
    def channels(self) -> int:
        """The input channels that it adds."""
        return 0 if self.guide == "boxes" else len(self.model.labels)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that is needed to use the weights rightly.

    Raises InputError where a value is out of bounds or two of them disagree, UnknownNameError for an unknown network.
    """

    network: str
    """A name in the registry."""
    arguments: Mapping[str, Argument]
    """The network's arguments; those left out have their defaults."""
    channels: tuple[Channel, ...]
    """Input channels, in order."""
    labels: Mapping[int, str]
    """{id: name}, ids > 0: output channel 0 is the background, channel i + 1 the i-th smallest id."""
    patch_zyx: Shape3
    """Patch of the training in voxels of the model's spacing; z is 1 in mode 2d, the number of slices in mode 2.5d."""
    spacing_zyx_mm: Triple | None = None
    """Spacing that images are resampled to, in mm; None: the network takes them at their own."""
    size_zyx: Shape3 | None = None
    """Size in voxels that images are resampled to, instead of a spacing; 0: that axis stays as it is."""
    orientation: str | None = None
    """Axis order and directions of the training images ("SAR"), or an order of the axes as they are stored ("xyz");
    None: images are taken as stored."""
    normalisation: tuple[Normalisation, ...]
    """One per channel; none where there are steps."""
    steps: tuple[Step, ...] = ()
    """How the source program prepares images, in its order; empty: normalised, then resampled."""
    output: Output = PLAIN_OUTPUT
    """How the network's outputs become labels."""
    sliding: Sliding = PLAIN_SLIDING
    """How the source program moves its window."""
    mode: Mode = "3d"
    """2d: slice by slice; 2.5d: adjacent slices as channels; triplanar: slices along each axis, averaged; 3d."""
    deep_supervision: bool
    """Whether the network was trained with logits of several scales."""
    first: Stage | None = None
    """The model that looks first, in a cascade; its tensors have names that start with "first:"."""
    refines: Refining | None = None
    """How it makes given labels better, where it is of kind "refiner"; such a model does not segment."""
    cleaning: tuple[CleanConfig, ...] = ()
    """Steps that make the labels of a run better once all are there, in this order; see `clean`."""
    bf16_ok: bool = False
    """Whether validation in bf16 was within 0.001 Dice of fp32."""
    recipe: Recipe = PLAIN_RECIPE
    """How its makers run it on an image; where there are steps, they say how it is resampled and normalised."""
    trust: Trust = PLAIN_TRUST
    """How far its probabilities and labels can be believed, as its validation measured it."""
    training: TrainingRecord = field(default_factory=TrainingRecord)
    licence: str = ""
    """Licence of the weights."""
    citation: str = ""
    """What to cite."""
    description: str = ""
    """For the user, in a few sentences."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "arguments", _arguments(self.network, self.arguments))
        set_(self, "channels", checks.items("channels", self.channels, Channel))
        set_(self, "normalisation", checks.items("normalisation", self.normalisation, Normalisation))
        set_(self, "labels", checks.labels(self.labels))
        set_(self, "patch_zyx", checks.triple("patch_zyx", self.patch_zyx, checks.whole))
        if self.spacing_zyx_mm is not None:
            set_(self, "spacing_zyx_mm", checks.triple("spacing_zyx_mm", self.spacing_zyx_mm, checks.number))
        if self.size_zyx is not None:
            set_(self, "size_zyx", checks.triple("size_zyx", self.size_zyx, checks.whole))
        checks.orientation(self.orientation)
        set_(self, "steps", steps_of(self.steps))
        for name, kind in (("output", Output), ("sliding", Sliding)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be a {kind.__name__}; got {type(getattr(self, name)).__name__}")
        checks.choice("mode", self.mode, get_args(Mode))
        for name in ("deep_supervision", "bf16_ok"):
            checks.flag(name, getattr(self, name))
        if not isinstance(self.first, Stage | None):
            raise InputError(f"first must be a Stage; got {type(self.first).__name__}")
        if not isinstance(self.refines, Refining | None):
            raise InputError(f"refines must be a Refining; got {type(self.refines).__name__}")
        set_(self, "cleaning", cleaning_of(self.cleaning, self.labels))
        if not isinstance(self.training, TrainingRecord):
            raise InputError(f"training must be a TrainingRecord; got {type(self.training).__name__}")
        if not isinstance(self.recipe, Recipe):
            raise InputError(f"recipe must be a Recipe; got {type(self.recipe).__name__}")
        if not isinstance(self.trust, Trust):
            raise InputError(f"trust must be a Trust; got {type(self.trust).__name__}")
        for name in ("licence", "citation", "description"):
            checks.text(name, getattr(self, name))
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Raise InputError where the parts contradict each other."""
        channels, inputs, outputs = len(self.channels), self.arguments["in_channels"], self.arguments["out_channels"]
        slices = self.patch_zyx[0] if self.mode == "2.5d" else 1
        guides = self.first.channels if self.first else 0
        if self.refines is not None and self.refines.method == "boundary-patch":
            guides = len(self.labels)
        wanted = registry.network(self.network).inputs_for((channels + guides) * slices)
        supervised = bool(self.arguments.get("deep_supervision", False))
        for ok, message in (
            (
                len(self.normalisation) == channels,
                f"{channels} channels need as many normalisations; got {len(self.normalisation)}",
            ),
            (
                inputs == wanted,
                f"{channels + guides} channels in mode {self.mode} need in_channels {wanted}; got {inputs}",
            ),
            (
                outputs == self.outputs,
                f"{len(self.labels)} labels and the background need out_channels {self.outputs}; got {outputs}"
                if not self.output.regions
                else f"{self.outputs} regions need as many out_channels; got {outputs}",
            ),
            *self._agreement_of_pipeline(),
            (
                self.refines is None or (self.first is None and not self.has_pipeline and self.mode in ("2d", "3d")),
                "a refiner is one network of slices or volumes, without a stage before it and steps of another program",
            ),
            (
                self.arguments["spatial_dims"] == (3 if self.mode == "3d" else 2),
                f"mode {self.mode} does not go with spatial_dims {self.arguments['spatial_dims']}",
            ),
            (
                self.first is None
                or (self.first.model.channels, self.first.model.orientation) == (self.channels, self.orientation),
                "the first stage needs the same channels and orientation",
            ),
            (
                self.training.seen is None or len(self.training.seen.intensity) == channels,
                f"{channels} channels need as many training intensities",
            ),
            (self.mode != "2d" or self.patch_zyx[0] == 1, f"mode 2d needs a patch with z = 1; got {self.patch_zyx}"),
            (
                self.mode != "2.5d" or self.patch_zyx[0] % 2 == 1,
                f"mode 2.5d needs a patch with an odd z, a slice in the middle of its neighbours; got {self.patch_zyx}",
            ),
            (
                self.deep_supervision == supervised,
                f"deep_supervision is {self.deep_supervision} but the network's argument says {supervised}",
            ),
        ):
            if not ok:
                raise InputError(message)

    def _agreement_of_pipeline(self) -> tuple[tuple[bool, str], ...]:
        """What steps, output and the rest must agree on, with the messages."""
        ids = {0, *self.labels}
        resampled = any(step.kind == "resample" for step in self.steps)
        steps_decide = (self.recipe.resampling, self.recipe.statistics) == ("linear", "image")
        return (
            (
                not self.steps or steps_decide,
                "steps say how an image is resampled and normalised: the recipe of such a model holds mirrors only",
            ),
            (
                not self.has_pipeline or self.first is None or self.first.guide == "labels",
                "a cascade with steps, outputs or windows of another program needs the guide labels",
            ),
            (
                not self.steps or all(rule.kind == "none" for rule in self.normalisation),
                "a model with steps has its normalisation among them",
            ),
            (
                self.spacing_zyx_mm is None or self.size_zyx is None,
                "a model is resampled to a spacing or to a size, not to both",
            ),
            (self.size_zyx is None or resampled, "a size needs a step that resamples"),
            (
                not self.steps or resampled == (self.spacing_zyx_mm is not None or self.size_zyx is not None),
                "a step that resamples needs a spacing or a size, and the other way round",
            ),
            (
                all(step.channel is None or step.channel < len(self.channels) for step in self.steps),
                f"a step is of a channel that is not there: there are {len(self.channels)}",
            ),
            (
                all(region.label in ids for region in self.output.regions),
                "a region has a label that is not among the labels",
            ),
            (
                all(label in ids for group in self.output.largest for label in group),
                "largest names a label that is not among the labels",
            ),
            (
                all(k < len(self.output.regions) for group in self.output.largest_regions for k in group),
                "largest_regions names a channel that is no region",
            ),
        )

    @property
    def label_ids(self) -> tuple[int, ...]:
        """0 for the background, then the label ids ascending; without regions, those of the output channels."""
        return (0, *self.labels)

    @property
    def outputs(self) -> int:
        """How many output channels the network has."""
        return len(self.output.regions) or 1 + len(self.labels)

    @property
    def kind(self) -> Literal["segmenter", "refiner"]:
        """What it is for: labels of an image, or better labels in place of given ones."""
        return "segmenter" if self.refines is None else "refiner"

    @property
    def has_pipeline(self) -> bool:
        """Whether steps, outputs or windows are those of another program."""
        plain = (self.steps, self.output, self.sliding) == ((), PLAIN_OUTPUT, PLAIN_SLIDING)
        return not plain or (self.first is not None and (self.first.guide == "labels" or self.first.model.has_pipeline))

    def to_json(self) -> str:
        """The document that a model file carries; InputError where it is too long for one."""
        text = json.dumps({"schema": SCHEMA, **_document(self)}, allow_nan=False, ensure_ascii=False)
        if len(text.encode()) > MAX_JSON_BYTES:
            raise InputError(f"the ModelSpec of {len(text.encode())} bytes is too long: at most {MAX_JSON_BYTES}")
        return text

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """The ModelSpec of a document in the closed schema.

        Raises InputError for what is not JSON, unknown or missing keys, and values the class refuses;
        UnknownNameError for an unknown network.
        """
        if len(text) > MAX_JSON_BYTES:
            raise InputError(f"the ModelSpec is too long: at most {MAX_JSON_BYTES} bytes")
        try:
            document = strictjson.parse(text)
        except ValueError as error:
            raise InputError(f"the ModelSpec is not JSON: {error}") from None
        if not isinstance(document, dict) or type(document.get("schema")) is not int or document["schema"] != SCHEMA:
            raise InputError(f"the ModelSpec needs schema {SCHEMA}; a newer napari-medseg may read others")
        del document["schema"]
        return _spec(document)

    def __reduce__(self) -> tuple[Callable[[str], ModelSpec], tuple[str]]:
        # Read-only mappings cannot be pickled; finished events carry a Model between our own processes.
        return type(self).from_json, (self.to_json(),)


_LATER = ("first", "refines", "cleaning", "size_zyx", "steps", "output", "sliding", "recipe", "trust")
_ABSENT: Mapping[str, Any] = MappingProxyType({f.name: f.default for f in fields(ModelSpec) if f.name in _LATER})
"""Keys that older files do not have, with what their absence means."""


def _document(spec: ModelSpec) -> dict[str, Any]:
    """The spec as JSON has it: without the keys that files older than them lack, where they say nothing."""
    plain: dict[str, Any] = _plain(spec)
    plain["steps"] = [step.document() for step in spec.steps]
    plain["cleaning"] = [cleaning_document(config) for config in spec.cleaning]
    for name, default in _ABSENT.items():
        if getattr(spec, name) == default:
            del plain[name]
    if "output" in plain and not spec.output.largest_regions:
        del plain["output"]["largest_regions"]
    for key in ("seen", "presets"):
        if not getattr(spec.training, key):
            del plain["training"][key]
    if spec.first is not None:
        plain["first"]["model"] = _document(spec.first.model)
    return plain


def _spec(document: object) -> ModelSpec:
    """A document without its schema number as a ModelSpec."""
    given = _object("the ModelSpec", document)
    members = _members("the ModelSpec", ModelSpec, {**_ABSENT, **given})
    for name, read in _READERS.items():
        if name in given:
            members[name] = read(members[name])
    members["channels"] = tuple(
        Channel(**_members("a channel", Channel, c)) for c in _list("channels", members["channels"])
    )
    members["normalisation"] = tuple(
        Normalisation(**_members("a normalisation", Normalisation, n))
        for n in _list("normalisation", members["normalisation"])
    )
    members["labels"] = {_label_id(k): v for k, v in _object("labels", members["labels"]).items()}
    training = _members(
        "training", TrainingRecord, {"seen": None, "presets": {}, **_object("training", members["training"])}
    )
    if training["seen"] is not None:
        training["seen"] = Seen(**_members("seen", Seen, training["seen"]))
    members["training"] = TrainingRecord(**training)
    if members["refines"] is not None:
        refines = {"model": "", **_object("refines", members["refines"])}
        members["refines"] = Refining(**_members("refines", Refining, refines))
    if members["first"] is not None:
        stage = _members("first", Stage, members["first"])
        if isinstance(stage["model"], dict) and stage["model"].get("first") is not None:
            raise InputError("the first stage has a stage before it: a cascade has two")
        members["first"] = Stage(**{**stage, "model": _spec(stage["model"])})
    return ModelSpec(**members)


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts with text keys, tuples as lists."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _object(what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object; got {shown(value)}")
    return value


def _members(what: str, cls: type, value: object) -> dict[str, Any]:
    """A JSON object with exactly the fields of a class."""
    members, names = _object(what, value), [f.name for f in fields(cls)]
    unknown, missing = sorted(set(members) - set(names)), [n for n in names if n not in members]
    if unknown:
        raise InputError(f"{what} has an unknown key {shown(unknown[0])}: known are {', '.join(names)}")
    if missing:
        raise InputError(f"{what} lacks the key {missing[0]}")
    return dict(members)


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > checks.MAX_CHANNELS:
        raise InputError(f"{name} must be a JSON list of at most {checks.MAX_CHANNELS}; got {shown(value)}")
    return value


_READERS: Mapping[str, Callable[[object], Any]] = MappingProxyType(
    {
        "steps": lambda value: tuple(read_step(_object("a step", step)) for step in _list("steps", value)),
        "output": lambda value: read_output(_object("output", value)),
        "sliding": lambda value: read_sliding(_object("sliding", value)),
        "recipe": lambda value: Recipe(**_members("recipe", Recipe, value)),
        "trust": lambda value: read_trust(_object("trust", value)),
        "cleaning": lambda value: tuple(read_cleaning(_object("cleaning", one)) for one in _list("cleaning", value)),
    }
)
"""{key that older files lack: how its JSON is read}."""


def _label_id(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 10 and str(int(key)) == key):
        raise InputError(f"label ids must be whole numbers; got {shown(key)}")
    return int(key)


def _arguments(network: str, arguments: object) -> Mapping[str, Argument]:
    """All arguments, checked by the registry; a file older than an argument gets its default."""
    checks.text("network", network)
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise InputError(f"arguments must be a table by name; got {shown(arguments)}")
    unknown = sorted(set(arguments) & {"preset"})
    if unknown:
        raise InputError("arguments hold no preset, only what it stands for")
    return MappingProxyType(registry.network(network).arguments(**arguments))
