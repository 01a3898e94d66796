"""The knobs, each documented once under its field; tooltips, `--help` and the docs read that text.

All are frozen and keyword-only, and valid once built.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from textwrap import dedent
from types import MappingProxyType, NoneType
from typing import Literal, get_args, get_type_hints

from napari_medseg.errors import InputError
from napari_medseg.registry.spec import Argument

Device = str
Precision = Literal["auto", "fp32", "bf16"]
Preset = Literal["survey", "lits", "chaos"]
Connectivity = Literal[6, 18, 26]
Consensus = Literal["none", "vote", "staple"]
TrainMode = Literal["auto", "2d", "2.5d", "triplanar", "3d"]
Cascade = Literal["none", "coarse-to-fine", "detect"]


#: {type of a numeric field: (the types that its value may have, what messages call them)}
_NUMBERS: Mapping[object, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        int: ((Integral,), "a whole number"),
        float: ((Real,), "a number"),
        int | None: ((Integral, NoneType), "a whole number"),
        float | None: ((Real, NoneType), "a number"),
    }
)


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise InputError(message)


def _require_numbers(config: object) -> None:
    """Raise InputError unless each field that is a number holds one."""
    for name, kind in get_type_hints(type(config)).items():
        if kind in _NUMBERS:
            allowed, what = _NUMBERS[kind]
            value = getattr(config, name)
            _require(isinstance(value, allowed), f"{name} must be {what}; got {value!r}")


def _is_threshold(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < 1


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How a volume is segmented."""

    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    overlap: float = field(default=0.5, metadata={"ge": 0, "lt": 1, "step": 0.125})
    """Fraction of a window shared with its neighbour; more is smoother and slower."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: fp32 until the model states that bf16 is as good."""
    batch_size: int = field(default=1, metadata={"ge": 1})
    """Windows that run through the network at once."""

    def __post_init__(self) -> None:
        _require_numbers(self)
        _require(0 <= self.overlap < 1, f"overlap must be at least 0 and below 1; got {self.overlap}")
        _require(self.precision in ("auto", "fp32", "bf16"), f"precision is auto, fp32 or bf16; got {self.precision!r}")
        _require(self.batch_size >= 1, f"batch_size must be at least 1; got {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained. A budget in epochs or minutes ends the training; without either, 100 epochs."""

    epochs: int | None = None
    """Passes over the training cases; 100 where there is no budget in minutes either."""
    minutes: float | None = None
    """Wall time of the whole training, reading and validation included; empty when the budget is in epochs."""
    val: float = 0.2
    """Fraction of the cases, the last in sorted name order, kept for validation; 0 means none."""
    seed: int = 0
    """Seed of the weights, the patches and the augmentation."""
    device: Device = "auto"
    """Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1 or mps."""
    batch_size: int = 2
    """Patches in a step."""
    patch_zyx: tuple[int, int, int] | None = None
    """Patch in voxels at the model's spacing; empty to derive it from the cases."""
    spacing_zyx_mm: tuple[float, float, float] | None = None
    """The model's spacing in mm; empty for the median of the cases."""
    mode: TrainMode = "auto"
    """How the network sees a volume: 3d; 2d (slice by slice); 2.5d (adjacent slices as channels); triplanar (slices
    along each axis, averaged); auto: 3d where network and cases have three dimensions, else 2d."""
    slices: int = 3
    """Adjacent slices that are the channels in mode 2.5d; odd."""
    cascade: Cascade = "none"
    """none; coarse-to-fine: a first network at low resolution, whose probabilities are channels of the second;
    detect: a first network finds boxes, the second segments inside them."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments of the network that differ from its defaults, by name; see NetworkSpec.parameters."""
    first_network: str = ""
    """The first network of a cascade; empty for the same as the second."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-5
    """Weight decay of AdamW."""
    schedule: Literal["cosine", "poly"] = "cosine"
    """How the learning rate falls to zero over the budget, after a short warm-up."""
    gradient_clip: float = 12.0
    """Largest gradient norm; larger ones are scaled down to it."""
    foreground: float = 0.67
    """Fraction of the patches centred on a label (drawn evenly over the labels); the rest lie anywhere."""
    augment: bool = True
    """Random rotation, scaling, noise, blur, brightness, contrast and gamma, made on the device."""
    mirror: bool = False
    """Random mirroring too; leave off where labels are sided (left and right kidney)."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the hardware has it."""
    ignore_label: int | None = None
    """A label id whose voxels count in no loss and no metric: not annotated."""
    unlabelled_slices: Literal["background", "ignore"] = "background"
    """What slices without any label mean: background, or not annotated and ignored."""
    validations: int = 10
    """Validations on whole volumes, spread evenly over the budget."""

    def __post_init__(self) -> None:
        _require_numbers(self)
        _require(self.epochs is None or self.minutes is None, "give a budget in epochs or in minutes, not both")
        _require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1; got {self.epochs}")
        _require(self.minutes is None or self.minutes > 0, f"minutes must be above 0; got {self.minutes}")
        _require(0 <= self.val < 1, f"val must be at least 0 and below 1; got {self.val}")
        _require(self.seed >= 0, f"seed must be at least 0; got {self.seed}")
        _require(self.batch_size >= 1, f"batch_size must be at least 1; got {self.batch_size}")
        _require(self.learning_rate > 0, f"learning_rate must be above 0; got {self.learning_rate}")
        _require(0 <= self.foreground <= 1, f"foreground must lie in 0 to 1; got {self.foreground}")
        _require(self.schedule in ("cosine", "poly"), f"schedule is cosine or poly; got {self.schedule!r}")
        _require(self.precision in ("auto", "fp32", "bf16"), f"precision is auto, fp32 or bf16; got {self.precision!r}")
        _require(self.slices % 2 == 1 and self.slices > 1, f"slices must be an odd number above 1; got {self.slices}")
        for name, value, choices in (
            ("mode", self.mode, get_args(TrainMode)),
            ("cascade", self.cascade, get_args(Cascade)),
        ):
            _require(value in choices, f"{name} is one of {', '.join(choices)}; got {value!r}")
        _require(
            not self.first_network or self.cascade != "none",
            f"first_network {self.first_network} is the first of a cascade: choose coarse-to-fine or detect",
        )
        _require(self.validations >= 0, f"validations must be at least 0; got {self.validations}")
        for name, triple in (("patch_zyx", self.patch_zyx), ("spacing_zyx_mm", self.spacing_zyx_mm)):
            _require(
                triple is None or (len(triple) == 3 and min(triple) > 0),
                f"{name} needs three positive numbers (z, y, x); got {triple}",
            )


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """Which definitions the metrics follow."""

    preset: Preset = "survey"
    """survey (6-neighbour surfaces, signed RVD), lits (its scorer's rules) or chaos (its scorer's rules)."""
    nsd_tolerance_mm: float = field(default=1.0, metadata={"ge": 0, "step": 0.5})
    """Distance in mm within which a surface voxel counts as right in NSD."""

    def __post_init__(self) -> None:
        _require_numbers(self)
        _require(self.preset in ("survey", "lits", "chaos"), f"preset is survey, lits or chaos; got {self.preset!r}")
        _require(self.nsd_tolerance_mm >= 0, f"nsd_tolerance_mm must be at least 0; got {self.nsd_tolerance_mm}")


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
        _require(self.instances in ("components", "ids"), f"instances is components or ids; got {self.instances!r}")
        _require(self.connectivity in (6, 18, 26), f"connectivity is 6, 18 or 26; got {self.connectivity}")
        _require(
            isinstance(self.iou, Sequence) and len(self.iou) > 0 and all(_is_threshold(t) for t in self.iou),
            f"iou needs one or more thresholds from 0 to below 1; got {self.iou}",
        )


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How cases are summed up."""

    bootstrap: int = 2000
    """Resamples of the cases behind each confidence interval, 50 or more; 0 for no interval."""
    confidence: float = 0.95
    """Coverage of the confidence intervals."""
    seed: int = 0
    """Seed of the resamples."""
    metrics: tuple[str, ...] | None = None
    """Columns of the scores by which two methods are compared, such as dice and nsd; empty for all that judge. Holm's
    correction is over these and the labels: the fewer they are, the sharper is each test."""

    def __post_init__(self) -> None:
        _require_numbers(self)
        _require(
            self.bootstrap == 0 or self.bootstrap >= 50, f"bootstrap must be 0 or at least 50; got {self.bootstrap}"
        )
        _require(0 < self.confidence < 1, f"confidence must lie between 0 and 1; got {self.confidence}")
        _require(self.seed >= 0, f"seed must be at least 0; got {self.seed}")
        _require(
            self.metrics is None or (isinstance(self.metrics, (tuple, list)) and len(self.metrics) > 0),
            f"metrics needs one or more names of columns, such as ('dice', 'nsd'); got {self.metrics!r}",
        )


@dataclass(frozen=True, kw_only=True)
class ReadersConfig:
    """What several readers of the same images are used for."""

    consensus: Consensus = "none"
    """What the prediction is measured against where there are further readers: none: the reference alone; vote: what
    most of the reference and the readers say; staple: their consensus by STAPLE (needs SimpleITK)."""

    def __post_init__(self) -> None:
        _require(self.consensus in get_args(Consensus), f"consensus is none, vote or staple; got {self.consensus!r}")


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """How probabilities are held against what came true."""

    bins: int = 15
    """Bins of equal width between 0 and 1 into which voxels are sorted by their confidence."""
    region: Literal["all", "foreground"] = "all"
    """all: every voxel; foreground: those that hold a label in the reference or where one is the most probable."""

    def __post_init__(self) -> None:
        _require_numbers(self)
        _require(self.bins >= 1, f"bins must be at least 1; got {self.bins}")
        _require(self.region in ("all", "foreground"), f"region is all or foreground; got {self.region!r}")


@functools.cache
def field_docs(config: type) -> dict[str, str]:
    """The text under each field of a config class: {field: text}. A field without one is a defect (KeyError)."""
    body = ast.parse(dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[node.target.id] = " ".join(str(after.value.value).split())
    return {f.name: docs[f.name] for f in fields(config)}
