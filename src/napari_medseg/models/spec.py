"""What a model is, beside its weights: frozen values, valid once built, and the closed JSON schema of a model file."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, get_args

from napari_medseg import registry, strictjson
from napari_medseg.errors import InputError
from napari_medseg.geometry import AXIS_LETTERS, Shape3, Triple
from napari_medseg.registry import Argument, shown
from napari_medseg.volume import MAX_LABEL

SCHEMA = 1
MAX_JSON_BYTES = 4 * 2**20
MAX_CHANNELS = 64
MAX_LABELS = 4096
MAX_PATCH = 1024
_MAX_ROWS = 4 * MAX_LABELS
_MAX_INTENSITY = 1e12
_NAME, _LINE, _PROSE = 200, 1000, 20_000

Modality = Literal["CT", "MR", "other"]
NormalisationKind = Literal["none", "zscore", "clip_zscore"]
Mode = Literal["2d", "2.5d", "triplanar", "3d"]
Guide = Literal["channel", "boxes"]


@dataclass(frozen=True, kw_only=True)
class Channel:
    """An input channel of a model. Raises InputError for an empty name or another modality."""

    name: str
    """What the user is asked for: "T1", "portal venous"."""
    modality: Modality
    """CT (Hounsfield units), MR or other."""

    def __post_init__(self) -> None:
        _text("channel name", self.name, _NAME, shortest=1)
        _choice("channel modality", self.modality, ("CT", "MR", "other"))


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
        _choice("normalisation kind", self.kind, ("none", "zscore", "clip_zscore"))
        numbers = {name: getattr(self, name) for name in ("low", "high", "mean", "std")}
        if self.kind != "clip_zscore":
            if any(value is not None for value in numbers.values()):
                raise InputError(f"normalisation {self.kind} takes no low, high, mean or std; got {numbers}")
            return
        for name, value in numbers.items():
            number = _number(f"normalisation {name}", value, -_MAX_INTENSITY, _MAX_INTENSITY)
            object.__setattr__(self, name, number)
        if not self.low < self.high or not self.std > 0:  # type: ignore[operator]  # numbers, as just checked
            raise InputError(f"normalisation clip_zscore needs low < high and std > 0; got {numbers}")


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
    """Passes over the cases."""
    minutes: float = 0.0
    """Wall time."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that trained."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """Final validation scores by name."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "fingerprint", _table("training fingerprint", self.fingerprint, _any_number))
        set_(self, "validation", _table("training validation", self.validation, _any_number))
        set_(self, "versions", _table("training versions", self.versions, _version))
        set_(self, "cases", _whole("training cases", self.cases, 0, 10**9))
        set_(self, "seed", _whole("training seed", self.seed, 0, 2**63 - 1))
        set_(self, "epochs", _number("training epochs", self.epochs, 0, 1e9))
        set_(self, "minutes", _number("training minutes", self.minutes, 0, 1e9))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The model that looks first in a cascade, and how it guides the one that it belongs to.

    Raises InputError for a margin out of bounds, or a model that has a stage before it itself.
    """

    model: ModelSpec
    """Of its own spacing, patch and normalisation; it sees the same channels and axis order."""
    guide: Guide
    """channel: its foreground probabilities are further input channels, and windows in which it sees nothing are left
    out; boxes: only the boxes around what it finds are segmented."""
    margin_mm: float = 10.0
    """Added to every side of a box."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, ModelSpec) or self.model.first is not None:
            raise InputError(f"the first stage needs a ModelSpec without a stage before it; got {shown(self.model)}")
        _choice("guide", self.guide, get_args(Guide))
        object.__setattr__(self, "margin_mm", _number("margin_mm", self.margin_mm, 0, 1000))

    @property
    def channels(self) -> int:
        """The input channels that it adds."""
        return len(self.model.labels) if self.guide == "channel" else 0


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
    orientation: str | None = None
    """Axis order and directions of the training images ("SAR"); None: images are taken as stored."""
    normalisation: tuple[Normalisation, ...]
    """One per channel."""
    mode: Mode = "3d"
    """2d: slice by slice; 2.5d: adjacent slices as channels; triplanar: slices along each axis, averaged; 3d."""
    deep_supervision: bool
    """Whether the network was trained with logits of several scales."""
    first: Stage | None = None
    """The model that looks first, in a cascade; its tensors have names that start with "first:"."""
    bf16_ok: bool = False
    """Whether validation in bf16 was within 0.001 Dice of fp32."""
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
        set_(self, "channels", _items("channels", self.channels, Channel))
        set_(self, "normalisation", _items("normalisation", self.normalisation, Normalisation))
        set_(self, "labels", _labels(self.labels))
        set_(self, "patch_zyx", _triple("patch_zyx", self.patch_zyx, _patch_size))
        if self.spacing_zyx_mm is not None:
            set_(self, "spacing_zyx_mm", _triple("spacing_zyx_mm", self.spacing_zyx_mm, _millimetres))
        _orientation(self.orientation)
        _choice("mode", self.mode, get_args(Mode))
        for name in ("deep_supervision", "bf16_ok"):
            _flag(name, getattr(self, name))
        if not isinstance(self.first, Stage | None):
            raise InputError(f"first must be a Stage; got {type(self.first).__name__}")
        if not isinstance(self.training, TrainingRecord):
            raise InputError(f"training must be a TrainingRecord; got {type(self.training).__name__}")
        for name, longest in (("licence", _LINE), ("citation", _PROSE), ("description", _PROSE)):
            _text(name, getattr(self, name), longest)
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Raise InputError where the parts contradict each other."""
        channels, inputs, outputs = len(self.channels), self.arguments["in_channels"], self.arguments["out_channels"]
        slices = self.patch_zyx[0] if self.mode == "2.5d" else 1
        guides = self.first.channels if self.first else 0
        supervised = bool(self.arguments.get("deep_supervision", False))
        for ok, message in (
            (
                len(self.normalisation) == channels,
                f"{channels} channels need as many normalisations; got {len(self.normalisation)}",
            ),
            (
                inputs == (channels + guides) * slices,
                f"{channels + guides} channels in mode {self.mode} need in_channels {(channels + guides) * slices}; "
                f"got {inputs}",
            ),
            (
                outputs == len(self.labels) + 1,
                f"{len(self.labels)} labels and the background need out_channels {len(self.labels) + 1}; got {outputs}",
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

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The label id of each output channel: 0 for the background, then the ids ascending."""
        return (0, *self.labels)

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


def _document(spec: ModelSpec) -> dict[str, Any]:
    """The spec as JSON has it: without the key `first` where there is no such stage, as in files older than it."""
    plain: dict[str, Any] = _plain(spec)
    if spec.first is None:
        del plain["first"]
    else:
        plain["first"]["model"] = _document(spec.first.model)
    return plain


def _spec(document: object) -> ModelSpec:
    """A document without its schema number as a ModelSpec."""
    members = _members("the ModelSpec", ModelSpec, {"first": None, **_object("the ModelSpec", document)})
    members["channels"] = tuple(Channel(**_members("a channel", Channel, c)) for c in _list(members, "channels"))
    members["normalisation"] = tuple(
        Normalisation(**_members("a normalisation", Normalisation, n)) for n in _list(members, "normalisation")
    )
    members["labels"] = {_label_id(k): v for k, v in _object("labels", members["labels"]).items()}
    members["training"] = TrainingRecord(**_members("training", TrainingRecord, members["training"]))
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


def _list(members: dict[str, Any], name: str) -> list[Any]:
    value = members[name]
    if not isinstance(value, list) or len(value) > MAX_CHANNELS:
        raise InputError(f"{name} must be a JSON list of at most {MAX_CHANNELS}; got {shown(value)}")
    return value


def _label_id(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 10 and str(int(key)) == key):
        raise InputError(f"label ids must be whole numbers; got {shown(key)}")
    return int(key)


def _arguments(network: str, arguments: object) -> Mapping[str, Argument]:
    """All arguments, checked by the registry; a file older than an argument gets its default."""
    _text("network", network, _NAME, shortest=1)
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise InputError(f"arguments must be a table by name; got {shown(arguments)}")
    unknown = sorted(set(arguments) & {"preset"})
    if unknown:
        raise InputError("arguments hold no preset, only what it stands for")
    return MappingProxyType(registry.network(network).arguments(**arguments))


def _items(what: str, value: object, kind: type) -> tuple[Any, ...]:
    items = tuple(value) if isinstance(value, tuple | list) else ()
    if not 1 <= len(items) <= MAX_CHANNELS or not all(isinstance(item, kind) for item in items):
        raise InputError(f"{what} must hold 1 to {MAX_CHANNELS} of {kind.__name__}; got {shown(value)}")
    return items


def _labels(value: object) -> Mapping[int, str]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_LABELS:
        raise InputError(f"labels must hold 1 to {MAX_LABELS} names by id; got {shown(value)}")
    labels = {_whole("label id", label, 1, MAX_LABEL): name for label, name in value.items()}
    for label, name in labels.items():
        _text(f"name of label {label}", name, _NAME, shortest=1)
    return MappingProxyType(dict(sorted(labels.items())))


def _table(what: str, value: object, check: Callable[[str, object], Any]) -> Mapping[str, Any]:
    """A read-only copy of {text: checked value}."""
    if not isinstance(value, Mapping) or len(value) > _MAX_ROWS:
        raise InputError(f"{what} must be a table of at most {_MAX_ROWS} rows; got {shown(value)}")
    for key in value:
        _text(f"name in {what}", key, _NAME, shortest=1)
    return MappingProxyType({key: check(f"{what} {key}", item) for key, item in value.items()})


def _triple(what: str, value: object, check: Callable[[str, object], Any]) -> tuple[Any, Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise InputError(f"{what} needs three numbers (z, y, x); got {shown(value)}")
    z, y, x = (check(what, v) for v in value)
    return z, y, x


def _orientation(value: object) -> None:
    letters = [{positive, negative} for positive, negative in AXIS_LETTERS]
    if value is not None and not (
        isinstance(value, str) and len(value) == 3 and all(sum(c in pair for c in value) == 1 for pair in letters)
    ):
        raise InputError(f"orientation needs one letter each of S/I, P/A and L/R, such as SPL; got {shown(value)}")


def _patch_size(what: str, value: object) -> int:
    return _whole(what, value, 1, MAX_PATCH)


def _millimetres(what: str, value: object) -> float:
    return _number(what, value, 0.001, 1000)


def _any_number(what: str, value: object) -> float:
    return _number(what, value, -1e300, 1e300)


def _version(what: str, value: object) -> str:
    return _text(what, value, _NAME)


def _flag(what: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{what} must be true or false; got {shown(value)}")


def _choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{what} is one of {', '.join(choices)}; got {shown(value)}")


def _text(what: str, value: object, longest: int, *, shortest: int = 0) -> str:
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise InputError(f"{what} must be a text of {shortest} to {longest} characters; got {shown(value)}")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c != "\n" for c in value):
        raise InputError(f"{what} must hold no control characters; got {shown(value)}")
    return value


def _number(what: str, value: object, low: float, high: float) -> float:
    number = _as_float(value)
    if not low <= number <= high:
        raise InputError(f"{what} must be a number from {low:g} to {high:g}; got {shown(value)}")
    return number


def _as_float(value: object) -> float:
    """NaN for what is no number, so that no bounds hold; JSON's whole numbers can be longer than any float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _whole(what: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InputError(f"{what} must be a whole number from {low} to {high}; got {shown(value)}")
    return int(value)
