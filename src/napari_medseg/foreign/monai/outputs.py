"""MONAI's inferer and list of postprocessing as windows and outputs of a ModelSpec."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import Resolver
from napari_medseg.foreign.expressions import chosen_by_channels
from napari_medseg.foreign.monai.arguments import OFF, Arguments
from napari_medseg.foreign.monai.transforms import flag, is_off, named
from napari_medseg.models.pipeline import BroughtBack, Output, Region, Sliding
from napari_medseg.registry import shown

_NEUTRAL = frozenset(
    (
        *("SaveImaged", "EnsureTyped", "ToTensord", "CastToTyped", "ToDeviced", "CopyItemsd", "DeleteItemsd"),
        *("SplitDimd", "SqueezeDimd", "EnsureChannelFirstd", "ToNumpyd", "Lambdad", "MeanEnsembled"),
    )
)
_ARGUMENTS = {
    "Activationsd": Arguments.of("sigmoid softmax", other=(None,), dim=(0,)),
    "AsDiscreted": Arguments.of(
        "argmax to_onehot threshold threshold_values n_classes num_classes",  # the last three of MONAI before 1.0
        logit_thresh=(0.5,),
        rounding=(None, "torchrounding"),
        dim=(0,),
        keepdim=(True,),
    ),
    "KeepLargestConnectedComponentd": Arguments.of("applied_labels is_onehot independent connectivity num_components"),
}
_INFERER = Arguments.of(
    "roi_size sw_batch_size overlap mode padding_mode cval sw_device progress cache_roi_weight_map cpu_thresh "
    "buffer_steps buffer_dim spatial_dim",
    sigma_scale=(0.125, [0.125], [0.125] * 2, [0.125] * 3),
    with_coord=OFF,
)


@dataclass(frozen=True)
class Kept:
    """That only the largest component of something is kept."""

    numbers: tuple[int, ...]
    """Of labels, or of channels that overlap; empty for all but 0."""
    each: bool
    """Whether of each by itself, or of all together."""
    in_map: bool
    """Whether the bundle has made one label map before."""


@dataclass(frozen=True)
class Postprocessing:
    """What a bundle does with the outputs of its network."""

    sigmoid: bool = False
    brought_back: BroughtBack | None = None
    """None: nothing is brought back, since nothing was resampled."""
    is_discrete: bool = False
    is_active: bool = False
    kept: tuple[Kept, ...] = ()
    order: tuple[tuple[int, int], ...] = ()
    """(channel, label), the strongest first, where the bundle says how regions become one label map."""
    notes: tuple[str, ...] = ()


def postprocessing_of(path: Path, resolver: Resolver, transforms: Any) -> Postprocessing:
    """The outputs of a list of transforms; raises ModelFileError or NotSupportedError for what cannot be taken."""
    found = Postprocessing()
    for listed in transforms if isinstance(transforms, list) else []:
        transform = resolver.shallow("postprocessing", listed)
        target = transform.get("_target_") if isinstance(transform, dict) else None
        if not isinstance(target, str):
            raise ModelFileError(f"{path}: a transform of the postprocessing has no _target_")
        if is_off(resolver, transform):
            continue
        try:
            found = _after(found, named(target), transform, resolver)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{path}: the arguments of {shown(target)} cannot be taken: {error}") from None
    return found


def _after(found: Postprocessing, name: str, transform: Mapping[str, Any], resolver: Resolver) -> Postprocessing:
    def given(key: str, default: Any = None) -> Any:
        return resolver.deep("postprocessing", transform.get(key, default))

    if name in _ARGUMENTS:
        known = _ARGUMENTS[name]
        known.refuse_others({k: v if k in known.known else given(k) for k, v in known.given(transform).items()})
    if name == "Activationsd":
        sigmoid = flag(_one(given("sigmoid", False)))
        return replace(found, sigmoid=found.sigmoid or sigmoid, is_active=True)
    if name == "AsDiscreted":
        threshold = _one(given("threshold"))
        if threshold is not None and threshold not in (0.5, True, False):
            raise ValueError(f"the threshold {shown(threshold)} is not 0.5")
        return replace(found, is_discrete=True)
    if name == "Invertd" and found.brought_back is None:
        way: BroughtBack = "labels" if found.is_discrete else "probabilities" if found.is_active else "logits"
        nearest = flag(_one(given("nearest_interp", True)))
        note = (
            ()
            if nearest or not found.is_discrete
            else ("the bundle interpolates label numbers; here the nearest label is taken",)
        )
        note = (
            note
            if found.is_discrete or not nearest
            else ("the bundle takes the nearest of its outputs; here they are interpolated",)
        )
        return replace(found, brought_back=way, notes=(*found.notes, *note))
    if name == "KeepLargestConnectedComponentd":
        if given("num_components", 1) != 1:
            told = f"the bundle keeps the {shown(given('num_components'))} largest components; here all are kept"
            return replace(found, notes=(*found.notes, told))
        return _largest(found, given("applied_labels"), given("independent", True), given("connectivity"))
    if name == "Lambdad":
        text = transform.get("func")
        order = chosen_by_channels(text[1:]) if isinstance(text, str) and text.startswith("$") else None
        return replace(found, order=tuple(order)) if order else found
    if name in _NEUTRAL or name == "Invertd":
        return found
    return replace(found, notes=(*found.notes, f"the postprocessing {name} is left out"))


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _largest(found: Postprocessing, labels: Any, independent: Any, connectivity: Any) -> Postprocessing:
    listed = labels if isinstance(labels, list) else [] if labels is None else [labels]
    if not all(type(label) is int for label in listed):
        raise ValueError(f"applied_labels must be whole numbers; got {shown(labels)}")
    notes = found.notes
    if connectivity not in (None, 3):
        notes = (*notes, "components are connected by faces only in the bundle; here by corners too")
    kept = Kept(tuple(listed), flag(independent), in_map=bool(found.order))
    return replace(found, kept=(*found.kept, kept), notes=notes)


def output_of(after: Postprocessing, names: Mapping[int, str], outputs: int) -> tuple[dict[int, str], Output]:
    """({label id: name}, output) of a network of `outputs` channels. names: of the channels.

    Raises NotSupportedError for a single channel that is no region.
    """
    brought_back = after.brought_back or ("probabilities" if after.is_active else "logits")
    if not after.sigmoid:
        if outputs < 2:
            raise NotSupportedError("one output channel that is no region (sigmoid) cannot be taken")
        labels = {k: names.get(k) or f"class {k}" for k in range(1, outputs)}
        return labels, Output(brought_back=brought_back, largest=_groups(after.kept, labels))
    first = 1 if names.get(0, "").lower() == "background" and outputs > 1 else 0
    chosen = {channel: label for channel, label in after.order if channel < outputs} or {
        k: k + 1 - first for k in range(first, outputs)
    }
    ranks = {channel: len(after.order) - i for i, (channel, _) in enumerate(after.order)} or {k: k for k in chosen}
    named_ = {k: names.get(k) or f"region {k + 1}" for k in range(outputs)}
    regions = tuple(Region(name=named_[k], label=chosen.get(k, 0), rank=ranks.get(k, 0)) for k in range(outputs))
    labels = {label: named_[channel] for channel, label in chosen.items()}
    if brought_back == "labels":
        brought_back = "probabilities"
    in_map = [kept for kept in after.kept if kept.in_map or outputs == 1]
    return labels, Output(
        regions=regions,
        brought_back=brought_back,
        largest=_groups(in_map, labels),
        largest_regions=_groups([kept for kept in after.kept if kept not in in_map], range(outputs)),
    )


def _groups(listed: Iterable[Kept], known: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """The groups of labels, or of channels, of which the largest component is kept."""
    groups: list[tuple[int, ...]] = []
    for kept in listed:
        numbers = tuple(k for k in kept.numbers or known if k in known and (kept.numbers or k))
        groups += [(k,) for k in numbers] if kept.each else [numbers]
    return tuple(group for group in groups if group)


def sliding_of(path: Path, inferer: Any) -> tuple[Sliding, list[int] | None, int | None, tuple[str, ...]]:
    """(sliding, roi_size, axis across slices, notes) of an inferer; None for what it does not say."""
    table = inferer if isinstance(inferer, dict) else {}
    kind = str(table.get("_target_", "SlidingWindowInferer")).rsplit(".", 1)[-1]
    if kind == "SimpleInferer":
        return Sliding(), None, None, ("the bundle sees the whole image at once; here in windows where it is larger",)
    if kind not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer"):
        raise NotSupportedError(f"{path}: the inferer {shown(kind)} cannot be taken: SlidingWindowInferer can")
    overlap, mode, padding = (
        table.get("overlap", 0.25),
        table.get("mode", "constant"),
        table.get("padding_mode", "constant"),
    )
    notes = []
    given = _INFERER.given(table)
    try:
        _INFERER.refuse_others({k: v for k, v in given.items() if mode == "gaussian" or k != "sigma_scale"})
    except ValueError as error:
        raise ModelFileError(f"{path}: the arguments of {kind} cannot be taken: {error}") from None
    if not isinstance(overlap, int | float) or isinstance(overlap, bool) or not 0 <= overlap < 0.95:
        raise ModelFileError(f"{path}: the inferer's overlap must lie in 0 to 0.95; got {shown(overlap)}")
    if mode not in ("constant", "gaussian"):
        raise ModelFileError(f"{path}: the inferer's mode is constant or gaussian; got {shown(mode)}")
    if padding not in ("constant", "replicate"):
        notes.append(f"images smaller than the window are padded by {padding}; here with zeros")
    if table.get("cval", 0) not in (0, 0.0):
        notes.append("images smaller than the window are padded with another value; here with zeros")
    roi = table.get("roi_size")
    roi = [roi] * 3 if type(roi) is int else roi
    sizes = list(roi) if isinstance(roi, list) and all(type(n) is int and 0 < n <= 1024 for n in roi) else None
    if sizes is None:
        notes.append("the bundle's windows have no size that is taken; here they have the usual one")
    sliding = Sliding(overlap=float(overlap), blending=mode, padding="replicate" if padding == "replicate" else "zeros")
    axis = table.get("spatial_dim", 0) if kind == "SliceInferer" else None
    if axis is not None and axis not in (0, 1, 2):
        raise ModelFileError(f"{path}: the inferer's spatial_dim is 0, 1 or 2; got {shown(axis)}")
    return sliding, sizes, axis, tuple(notes)
