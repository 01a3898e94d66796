"""What a form offers for a scheme, and what a training still lacks. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping

from napari_medseg.config import SchemeConfig, knobs_of
from napari_medseg.models.file import Model
from napari_medseg.models.several import Ensemble, ModelSet
from napari_medseg.registry import network as network_named
from napari_medseg.training.schemes.scheme import SchemeSpec

KINDS = (
    "From images and labels",
    "With images without labels",
    "For another scanner or contrast",
    "Objects one by one",
    "Refiners of a model",
    "Other networks",
)
"""Headings under which schemes are listed."""
_OF_PLAIN = ("mode", "slices", "cascade", "first_network", "fusion", "modality_dropout", "ema")
"""Knobs of networks from an image alone to its labels."""
_OF_MODEL = ("mode", "slices", "cascade", "first_network", "fusion", "spacing_zyx_mm")
"""Knobs that a model to start from decides."""


def kind_of(scheme: SchemeSpec) -> str:
    """The heading under which a scheme is listed."""
    plain, unlabelled, target, objects, refiners, others = KINDS
    if scheme.takes_unlabelled:
        return unlabelled
    if scheme.takes_target:
        return target
    if scheme.learns != "labels":
        return objects
    if scheme.learns_errors:
        return refiners
    return plain if scheme.takes == "image" else others


def decides_network(scheme: SchemeSpec, *, starts: bool) -> bool:
    """Whether the scheme decides which network is trained, or the model that the training starts from."""
    return starts or scheme.learns_errors or scheme.takes != "image"


def idle_knobs(scheme: SchemeSpec, *, starts: bool, several_channels: bool) -> frozenset[str]:
    """The knobs of `TrainConfig` without a use: the training would refuse them, or they would change nothing."""
    plain = scheme.takes == "image" and not scheme.learns_errors
    idle = {name for name in knobs_of(SchemeConfig) if name not in scheme.knobs}
    if scheme.takes not in ("image", "instances"):
        idle.update(_OF_PLAIN)
    if not plain or not several_channels:
        idle.update(("fusion", "modality_dropout"))
    if starts:
        idle.update((*_OF_MODEL, "search", "search_network"))
    if not (starts and plain):
        idle.update(("adapt", "rank"))
    if scheme.takes_target or scheme.learns_errors or scheme.learns != "labels":
        idle.update(("cascade", "first_network"))
    if scheme.learns_errors or scheme.learns != "labels":
        idle.update(("weak", "background_label"))
    if scheme.takes == "memory":  # it has a loss of its own
        idle.update(("loss", "class_weights"))
    if scheme.learns == "labels":
        idle.add("objects")
    if not scheme.is_plain:
        idle.update(("hard_patches", "search", "search_network"))
    return frozenset(idle)


def idle_beside(values: Mapping[str, object]) -> frozenset[str]:
    """The knobs that others leave without a use. values: {knob: value} of those others."""
    used = {
        "slices": values["mode"] == "2.5d",
        "first_network": values["cascade"] != "none",
        "rank": values["adapt"] == "low-rank",
        "search": values["cascade"] == "none",
        "search_network": values["cascade"] == "none" and bool(values["search"]),
        "class_weights": "weighted_ce" in str(values["loss"]),
        "background_label": values["weak"] == "scribbles",
    }
    return frozenset(name for name, is_used in used.items() if not is_used)


def lacking(
    scheme: SchemeSpec, *, starts: bool, start: Model | ModelSet | None, unlabelled: object, target: object
) -> str:
    """What a training waits for, in one line; empty where it can begin.

    starts: whether a model to start from is chosen; start: that model, None until it is read. unlabelled, target: the
    images that are chosen.
    """
    if starts and start is None:
        return "Waits for the model to start from."
    if scheme.learns_errors and start is None:
        return "Waits for a model to start from: the scheme learns from its errors."
    if scheme.takes_unlabelled and not unlabelled:
        return "Waits for images without labels: a folder, or a layer."
    if scheme.takes_target and not target:
        return "Waits for images of the other scanner or contrast: a folder, or a layer."
    return "" if start is None else _unfit(scheme, start)


def _unfit(scheme: SchemeSpec, start: Model | ModelSet) -> str:
    """Why no training of the scheme starts from a model, in one line; empty where one does."""
    if isinstance(start, ModelSet):
        return "A set of models is chosen: start from one of its models."
    if start.spec.refines is not None:
        return f"{start.path.stem} is a refiner: start from a model that segments."
    if scheme.learns_errors:
        return ""
    if isinstance(start, Ensemble):
        return "Several folds are chosen: start from one of them."
    if network_named(start.spec.network).takes != scheme.takes:
        trained = f"trains {scheme.network}" if scheme.takes != "image" else "trains networks from image to labels"
        return f"The scheme {trained}, {start.path.stem} is of network {start.spec.network}: choose another of the two."
    return ""
