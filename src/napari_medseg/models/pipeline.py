"""How a model of another program prepares images, runs over them and finishes its outputs: frozen, closed, bounded.

A model of ours needs none of this: it is normalised by its rules, resampled, and its largest logit wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from napari_medseg.errors import InputError
from napari_medseg.models import checks
from napari_medseg.registry import shown

StepKind = Literal["affine", "clip", "minmax", "zscore", "percentiles", "threshold", "crop", "resample"]
Over = Literal["all", "nonzero", "filled", "positive"]
Method = Literal["corners", "extent", "area", "cubic"]
BroughtBack = Literal["logits", "probabilities", "labels"]
Blending = Literal["gaussian", "constant"]
Padding = Literal["zeros", "replicate"]
Positions = Literal["fixed", "even"]

MAX_STEPS = 64
MAX_REGIONS = 256
_DEFAULTS: dict[str, Any] = {
    "channel": None,
    "low": None,
    "high": None,
    "to_low": None,
    "to_high": None,
    "fill": None,
    "factor": None,
    "offset": None,
    "margin": 0,
    "over": "all",
    "together": False,
    "clipped": False,
    "method": None,
    "kept_axes": (),
}
_NEEDED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "affine": (frozenset({"factor", "offset"}), frozenset({"channel", "over"})),
    "clip": (frozenset(), frozenset({"channel", "low", "high"})),
    "minmax": (frozenset({"to_low", "to_high"}), frozenset({"channel", "together"})),
    "zscore": (frozenset(), frozenset({"channel", "together", "over"})),
    "percentiles": (
        frozenset({"low", "high", "to_low", "to_high"}),
        frozenset({"channel", "together", "clipped"}),
    ),
    "threshold": (frozenset({"fill"}), frozenset({"channel", "low", "high"})),
    "crop": (frozenset({"over"}), frozenset({"margin", "clipped"})),
    "resample": (frozenset({"method"}), frozenset({"kept_axes"})),
}
"""{kind: (fields that it needs, fields that it may have)}."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the preparation of an image. Raises InputError for fields that do not belong to its kind."""

    kind: StepKind
    """affine: times factor, plus offset; clip: to low and high; minmax: the image's own range to [to_low, to_high];
    zscore: mean 0 and deviation 1; percentiles: those at low and high to to_low and to_high; threshold: what is not
    above low (or not below high) becomes fill; crop: to the box of some voxels; resample: to the model's spacing or
    size."""
    channel: int | None = None
    """Of which channel, from 0; None: of every one."""
    low: float | None = None
    high: float | None = None
    to_low: float | None = None
    to_high: float | None = None
    fill: float | None = None
    factor: float | None = None
    offset: float | None = None
    margin: int = 0
    """Voxels added to every side of a crop; beyond the image they are 0."""
    over: Over = "all"
    """Which voxels count: nonzero: of the channel; filled: not 0 in any channel, holes filled; positive: above 0."""
    together: bool = False
    """Whether statistics are those of all channels at once."""
    clipped: bool = False
    """Whether values beyond the percentiles are set to the ends, or the margin of a crop ends with the image."""
    method: Method | None = None
    """corners: linear, the first voxel keeps its centre (MONAI's Spacing); extent: linear, over the same box (MONAI's
    Resize); area: means of the old voxels; cubic: splines over the same box, thick slices apart (nnU-Net)."""
    kept_axes: tuple[int, ...] = ()
    """Axes of the model, from 0, along which nothing is resampled."""

    def __post_init__(self) -> None:
        checks.choice("step kind", self.kind, get_args(StepKind))
        needed, may = _NEEDED[self.kind]
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            given = value != default or type(value) is not type(default)
            if given and name not in needed | may:
                raise InputError(f"a step {self.kind} takes no {name}; got {shown(value)}")
            if name in needed and value is None:
                raise InputError(f"a step {self.kind} needs {name}")
            if given:
                object.__setattr__(self, name, _checked(name, value))
        self._check_order()

    def _check_order(self) -> None:
        if self.kind == "crop" and self.over == "all":
            raise InputError("a step crop needs over: nonzero, filled or positive")
        if self.kind in ("clip", "threshold") and self.low is None and self.high is None:
            raise InputError(f"a step {self.kind} needs low or high")
        if self.kind == "percentiles":
            assert self.low is not None
            assert self.high is not None
            if not 0 <= self.low < self.high <= 100:
                raise InputError(f"percentiles need 0 <= low < high <= 100; got {self.low} and {self.high}")

    def document(self) -> dict[str, Any]:
        """As JSON has it: the kind, and the fields that are not left at their defaults."""
        given = {name: getattr(self, name) for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}}


def _checked(name: str, value: object) -> object:
    """A field's value, checked by its type."""
    if name in ("together", "clipped"):
        checks.flag(f"step {name}", value)
        return value
    if name == "over":
        checks.choice("step over", value, get_args(Over))
        return value
    if name == "method":
        checks.choice("step method", value, get_args(Method))
        return value
    if name == "channel":
        return checks.whole("step channel", value)
    if name == "margin":
        return checks.whole("step margin", value)
    if name == "kept_axes":
        return axes("kept_axes", value)
    return checks.number("step value", value)


def axes(what: str, value: object) -> tuple[int, ...]:
    """The value as some of the axes 0, 1, 2, ascending."""
    found = tuple(value) if isinstance(value, tuple | list) else (-1,)
    if not all(type(axis) is int and 0 <= axis <= 2 for axis in found) or sorted(set(found)) != list(found):
        raise InputError(f"{what} must be some of the axes 0, 1, 2, ascending; got {shown(value)}")
    return found


@dataclass(frozen=True, kw_only=True)
class Region:
    """One output channel of a network whose outputs overlap: a region of its own, above a half or not."""

    name: str
    label: int
    """The id that its voxels get in the one label map; 0: none, as for a region of background."""
    rank: int
    """Where regions overlap, the label of the highest rank stays."""

    def __post_init__(self) -> None:
        checks.text("region name", self.name, "label name")
        object.__setattr__(self, "label", checks.whole("region label", self.label))
        object.__setattr__(self, "rank", checks.whole("region rank", self.rank))


@dataclass(frozen=True, kw_only=True)
class Output:
    """How the network's outputs become labels. Raises InputError for values out of bounds."""

    regions: tuple[Region, ...] = ()
    """One per output channel, where they overlap (sigmoid); empty: one label per voxel (softmax)."""
    brought_back: BroughtBack = "logits"
    """What is interpolated back to the image's grid; labels: the nearest."""
    largest: tuple[tuple[int, ...], ...] = ()
    """Of each group of labels the largest connected component (26 neighbours) is kept."""
    largest_regions: tuple[tuple[int, ...], ...] = ()
    """The same of each group of regions, by their channels from 0, before they become one label map."""

    def __post_init__(self) -> None:
        regions = tuple(self.regions) if isinstance(self.regions, tuple | list) else (None,)
        if len(regions) > MAX_REGIONS or not all(isinstance(region, Region) for region in regions):
            raise InputError(f"regions must hold at most {MAX_REGIONS} Region; got {shown(self.regions)}")
        object.__setattr__(self, "regions", regions)
        checks.choice("brought_back", self.brought_back, get_args(BroughtBack))
        object.__setattr__(self, "largest", _groups("largest", "label id", self.largest))
        object.__setattr__(self, "largest_regions", _groups("largest_regions", "region channel", self.largest_regions))


def _groups(name: str, what: str, value: object) -> tuple[tuple[int, ...], ...]:
    """The value as groups of whole numbers, none of them empty."""
    groups = value if isinstance(value, tuple | list) else (None,)
    if len(groups) > checks.MAX_LABELS or not all(isinstance(group, tuple | list) and group for group in groups):
        raise InputError(f"{name} must hold groups of {what}s; got {shown(value)}")
    return tuple(tuple(checks.whole(what, number) for number in group or ()) for group in groups)


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """How the source program moves its window over an image. Raises InputError for values out of bounds."""

    overlap: float | None = None
    """Fraction of a window shared with its neighbour; None: as the run says."""
    blending: Blending = "gaussian"
    """How a window's voxels are weighted: gaussian: most in the middle; constant: all alike."""
    padding: Padding = "zeros"
    """What lies around an image smaller than the window."""
    positions: Positions = "fixed"
    """fixed: steps of one length, the last window moved inwards; even: as many windows, evenly spaced, and weighted as
    nnU-Net does."""

    def __post_init__(self) -> None:
        if self.overlap is not None:
            object.__setattr__(self, "overlap", checks.number("sliding overlap", self.overlap))
        checks.choice("blending", self.blending, get_args(Blending))
        checks.choice("padding", self.padding, get_args(Padding))
        checks.choice("positions", self.positions, get_args(Positions))


PLAIN_OUTPUT, PLAIN_SLIDING = Output(), Sliding()
"""What a model of ours has."""


def steps_of(value: object) -> tuple[Step, ...]:
    """The value as steps, of which one at most resamples."""
    found = tuple(value) if isinstance(value, tuple | list) else (None,)
    if len(found) > MAX_STEPS or not all(isinstance(step, Step) for step in found):
        raise InputError(f"steps must hold at most {MAX_STEPS} Step; got {shown(value)}")
    if sum(step.kind == "resample" for step in found) > 1:
        raise InputError("steps hold two that resample: a model has one spacing")
    return found


def read_step(document: Mapping[str, Any]) -> Step:
    """A step of a JSON document; InputError for unknown fields."""
    _refuse_unknown("a step", document, ("kind", *_DEFAULTS))
    members: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
    return Step(kind=members.pop("kind", None), **members)


def read_output(document: Mapping[str, Any]) -> Output:
    """An output of a JSON document; InputError for unknown fields."""
    _refuse_unknown("output", document, [f.name for f in fields(Output)])
    members = dict(document)
    if "regions" in members:
        listed = members["regions"] if isinstance(members["regions"], list) else [None]
        if not all(isinstance(r, dict) and set(r) == {f.name for f in fields(Region)} for r in listed):
            raise InputError("regions must be JSON objects with name, label and rank")
        members["regions"] = tuple(Region(**region) for region in listed if region)
    return Output(**members)


def read_sliding(document: Mapping[str, Any]) -> Sliding:
    """A sliding of a JSON document; InputError for unknown fields."""
    _refuse_unknown("sliding", document, [f.name for f in fields(Sliding)])
    return Sliding(**document)


def _refuse_unknown(what: str, document: Mapping[str, Any], known: Any) -> None:
    if not isinstance(document, Mapping):
        raise InputError(f"{what} must be a JSON object; got {shown(document)}")
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InputError(f"{what} has an unknown key {shown(unknown[0])}: known are {', '.join(known)}")
