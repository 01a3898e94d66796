"""How labels are made better: by a model of kind "refiner" and its network, or by steps that a model asks for.

The steps are a list of `CleanConfig`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_medseg import registry
from napari_medseg.config import CleanConfig, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.models import checks
from napari_medseg.registry import shown

if TYPE_CHECKING:
    from torch import nn

    from napari_medseg.models.spec import ModelSpec

MAX_CLEANING = 64
"""Longest list."""
GIVEN, REFINED = "dice mean as given", "dice mean"
"""Rows of a refiner's validation: the mean Dice of the labels that it was given, and of what it made of them."""
RefiningMethod = Literal["boundary-patch", "point-rend"]


@dataclass(frozen=True, kw_only=True)
class Refining:
    """Raises InputError for values out of bounds, or that do not belong to the method."""

    method: RefiningMethod
    """boundary-patch: the network sees the image and the labels of a box; point-rend: it sees the image, and a point
    head decides single voxels from its features and the labels around."""
    overlap: float = 0.55
    """Of two boxes along a boundary that share more than this (intersection over union), one is left out."""
    layer: str = ""
    """point-rend: the layer of the network whose input the point head reads."""
    features: int = 0
    """point-rend: channels of that input."""
    halvings: int = 0
    """point-rend: how often the labels are halved before points bring them back to their size."""
    share: float = 0.0
    """point-rend: voxels of each size that the point head decides: the least certain ones."""
    model: str = ""
    """SHA-256 of the model whose errors it has learned; empty in files older than this."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        checks.choice("refining method", self.method, get_args(RefiningMethod))
        set_(self, "overlap", checks.number("refining overlap", self.overlap))
        checks.text("refining layer", self.layer)
        checks.text("refining model", self.model)
        set_(self, "features", checks.whole("refining features", self.features))
        set_(self, "halvings", checks.whole("refining halvings", self.halvings))
        set_(self, "share", checks.number("refining share", self.share))
        given = (self.layer != "", self.features > 0, self.halvings > 0, self.share > 0)
        if any(given) != all(given) or any(given) != (self.method == "point-rend"):
            raise InputError("layer, features, halvings and share are all of point-rend, which needs them")


def network_of(spec: ModelSpec) -> nn.Module:
    """The torch module that a model's tensors belong to, with its first weights."""
    network = registry.network(spec.network).build_from(spec.arguments)
    if spec.refines is None or spec.refines.method == "boundary-patch":
        return network
    from napari_medseg.architectures.points import PointRend

    dims = spec.arguments["spatial_dims"]
    assert isinstance(dims, int), "the registry checked it"
    return PointRend(
        network,
        layer=spec.refines.layer,
        features=spec.refines.features,
        classes=spec.outputs,
        spatial_dims=dims,
        halvings=spec.refines.halvings,
        share=spec.refines.share,
    )


def no_better(spec: ModelSpec) -> list[str]:
    """A line for a refiner whose validation found it no better than what it was given; empty for others."""
    scores = spec.training.validation
    if spec.refines is None or GIVEN not in scores or scores[REFINED] > scores[GIVEN]:
        return []
    return [
        f"the validation found the refiner no better than what it was given: mean Dice {scores[REFINED]:.4f} after, "
        f"{scores[GIVEN]:.4f} before; train it longer, or leave it out"
    ]


def cleaning_of(value: object, labels: Container[int]) -> tuple[CleanConfig, ...]:
    """The value as such a list. Raises InputError for anything else, and for labels that are not among `labels`."""
    found = tuple(value) if isinstance(value, tuple | list) else (None,)
    if len(found) > MAX_CLEANING or not all(isinstance(one, CleanConfig) for one in found):
        raise InputError(f"cleaning must hold at most {MAX_CLEANING} CleanConfig; got {shown(value)}")
    for one in found:
        assert isinstance(one, CleanConfig), "as just checked"
        if one.interpolate != "none":
            raise InputError("cleaning of a model interpolates nothing: that is for slices that somebody painted")
        if any(label not in labels for label in one.labels or ()):
            raise InputError(f"cleaning names a label that is not among the labels: {shown(one.labels)}")
    return found


def cleaning_document(config: CleanConfig) -> dict[str, Any]:
    """As JSON has it: the knobs that are not left at their defaults."""
    values = {name: (getattr(config, name), knob.default) for name, knob in knobs_of(CleanConfig).items()}
    changed = {name: value for name, (value, default) in values.items() if value != default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def read_cleaning(document: Mapping[str, Any]) -> CleanConfig:
    """The steps of a JSON document; InputError for unknown knobs and values out of bounds."""
    known = knobs_of(CleanConfig)
    for name, value in document.items():
        if name not in known:
            raise InputError(f"cleaning has an unknown key {shown(name)}: known are {', '.join(known)}")
        if isinstance(known[name].default, bool) and not isinstance(value, bool):
            raise InputError(f"cleaning {name} must be true or false; got {shown(value)}")
    labels = document.get("labels")
    return CleanConfig(**{**document, "labels": tuple(labels) if isinstance(labels, list) else labels})
