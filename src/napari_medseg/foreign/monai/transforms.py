"""MONAI's list of preprocessing as steps of a ModelSpec, in its order; a transform that is not known is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import Resolver
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.models.pipeline import Method, Over, Step
from napari_medseg.registry import shown

_PACKAGES = ("monai.transforms.", "monai.apps.deepedit.transforms.")
_NEUTRAL = frozenset(
    (
        *("LoadImaged", "EnsureChannelFirstd", "AddChanneld", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced"),
        *("AsChannelFirstd", "SelectItemsd", "DeleteItemsd"),
    )
)
_GUIDANCE = frozenset(
    (
        "scripts.transforms.OrientationGuidanceMultipleLabelDeepEditd",
        "AddGuidanceFromPointsDeepEditd",
        "ResizeGuidanceMultipleLabelDeepEditd",
    )
)
"""Transforms of clicks. Without clicks their channels are 0."""
_UNUSED = frozenset({"device", "allow_missing_keys", "dtype", "reader", "meta_keys", "meta_key_postfix", "image_only"})
"""Arguments that change nothing here, and that bundles often compute."""


@dataclass(frozen=True)
class Preprocessing:
    """How a bundle prepares images. Axes are MONAI's: the first runs to the first letter of the orientation."""

    orientation: str | None = None
    spacing_mm: Triple | None = None
    size: tuple[int, ...] | None = None
    """Voxels that images are resized to."""
    steps: tuple[Step, ...] = ()
    merged: tuple[str, ...] = ()
    """The images that are merged into channels."""
    images: int | None = None
    """Channels that come from the image; the others are clicks. None: all."""
    notes: tuple[str, ...] = ()
    """How the preprocessing here differs, one line each."""

    def plus(self, *steps: Step) -> Preprocessing:
        """The same with further steps."""
        return replace(self, steps=(*self.steps, *steps))

    def sized(self, dims: int) -> Shape3 | None:
        """The size of a network of `dims` dimensions; 0 for the axis across slices."""
        if self.size is None:
            return None
        sizes = (*([0] * (3 - len(self.size))), *self.size) if dims == 2 else self.size
        if len(sizes) != 3:
            raise InputError(f"spatial_size needs {dims} numbers; got {shown(self.size)}")
        return sizes[0], sizes[1], sizes[2]


def preprocessing_of(path: Path, transforms: Any, resolver: Resolver | None = None) -> Preprocessing:
    """The preprocessing of a list of transforms.

    Raises ModelFileError or NotSupportedError, naming the first that cannot be taken.
    """
    resolver = resolver or Resolver(path, {})
    found = Preprocessing()
    if not isinstance(transforms, list):
        raise ModelFileError(f"{path}: preprocessing needs a list of transforms")
    for listed in transforms:
        transform = resolver.shallow("preprocessing", listed)
        target = transform.get("_target_") if isinstance(transform, dict) else None
        if not isinstance(target, str):
            raise ModelFileError(f"{path}: a transform of the preprocessing has no _target_")
        name = named(target)
        arguments = _arguments(resolver, name, transform)
        if arguments is None or name in _NEUTRAL:
            continue
        if name not in _TAKEN:
            raise NotSupportedError(
                f"{path}: the preprocessing with target {shown(name)} cannot be taken: known are "
                f"{', '.join(sorted(_NEUTRAL | set(_TAKEN)))}"
            )
        try:
            found = _TAKEN[name](found, arguments)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:160]
            raise ModelFileError(f"{path}: the arguments of {name} cannot be taken: {reason}") from None
    return found


def named(target: str) -> str:
    """A transform's name without MONAI's packages, and with the d that its variant for dictionaries ends with."""
    package = next((package for package in _PACKAGES if target.startswith(package)), "")
    name = target.removeprefix(package).rsplit(".", 1)[-1] if package else target
    for ending in ("Dict", "D"):
        if name.endswith(ending) and f"{name.removesuffix(ending)}d" in {*_NEUTRAL, *_TAKEN}:
            return f"{name.removesuffix(ending)}d"
    return name


def _arguments(resolver: Resolver, name: str, transform: dict[str, Any]) -> dict[str, Any] | None:
    """A transform's arguments, resolved; None where it is off, or about labels only."""
    if name in _NEUTRAL or name in _GUIDANCE:
        return {}
    keys = resolver.deep("preprocessing", transform.get("keys"))
    if keys in ("label", ["label"]) or resolver.shallow("preprocessing", transform.get("disabled")):
        return None
    kept = {k: v for k, v in transform.items() if k not in _UNUSED and k not in ("keys", "_target_", "select_fn")}
    resolved: dict[str, Any] = resolver.deep("preprocessing", kept)
    if "select_fn" in transform:
        resolved["select_fn"] = transform["select_fn"]
    return resolved


def flag(value: Any) -> bool:
    """A truth, also where a bundle has written it as a text."""
    if value in ("True", "true"):
        return True
    if value in ("False", "false"):
        return False
    if not isinstance(value, bool | int | None):
        raise ValueError(f"true or false is expected; got {shown(value)}")
    return bool(value)


def _first(value: Any) -> Any:
    """A value for the image, where one is listed for each key."""
    return value[0] if isinstance(value, list) and value else value


def _orientation(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    code = arguments["axcodes"]
    if not isinstance(code, str) or len(code) != 3:
        raise ValueError(f"axcodes needs three letters; got {shown(code)}")
    return replace(found, orientation=code.upper())


def _spacing(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    pixdim = arguments["pixdim"]
    values = [pixdim] * 3 if isinstance(pixdim, int | float) else pixdim
    if not isinstance(values, list) or len(values) not in (2, 3):
        raise ValueError(f"pixdim needs three numbers; got {shown(pixdim)}")
    if _first(arguments.get("mode", "bilinear")) not in ("bilinear", "linear", 1):
        raise ValueError(f"only linear interpolation is taken; got {shown(arguments.get('mode'))}")
    _refuse_second(found)
    sizes = [float(v) for v in values] + [-1.0] * (3 - len(values))
    kept = tuple(axis for axis, value in enumerate(sizes) if value <= 0)
    first, second, third = (1.0 if value <= 0 else value for value in sizes)
    step = Step(kind="resample", method="corners", kept_axes=kept)
    return replace(found, spacing_mm=(first, second, third)).plus(step)


def _resize(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    size, mode = arguments["spatial_size"], _first(arguments.get("mode", "area"))
    if not isinstance(size, list) or not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"spatial_size needs whole numbers; got {shown(size)}")
    if mode not in ("area", "bilinear", "trilinear", "linear"):
        raise ValueError(f"mode is area, bilinear or trilinear; got {shown(mode)}")
    if (
        arguments.get("align_corners")
        or flag(arguments.get("anti_aliasing"))
        or arguments.get("size_mode", "all") != "all"
    ):
        raise ValueError("aligned corners, a filter, or the longest side cannot be taken")
    _refuse_second(found)
    method: Method = "area" if mode == "area" else "extent"
    return replace(found, size=tuple(size)).plus(Step(kind="resample", method=method))


def _refuse_second(found: Preprocessing) -> None:
    if any(step.kind == "resample" for step in found.steps):
        raise ValueError("images are resampled a second time")


def _range(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """(x - a_min) / (a_max - a_min), times b_max - b_min plus b_min where these are given."""
    low, high = float(arguments["a_min"]), float(arguments["a_max"])
    b_min, b_max = (None if arguments.get(k) is None else float(arguments[k]) for k in ("b_min", "b_max"))
    if high == low:
        return found.plus(Step(kind="affine", factor=1.0, offset=(b_min or 0.0) - low))
    scale = 1 if b_min is None or b_max is None else b_max - b_min
    factor = scale / (high - low)
    offset = (0.0 if b_min is None or b_max is None else b_min) - low * factor
    steps = [Step(kind="affine", factor=factor, offset=offset)]
    if flag(arguments.get("clip", False)):
        steps.append(Step(kind="clip", low=b_min, high=b_max))
    return found.plus(*steps)


def _scale(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    minv, maxv = arguments.get("minv", 0.0), arguments.get("maxv", 1.0)
    if minv is None or maxv is None:
        factor = arguments.get("factor")
        return found if factor is None else found.plus(Step(kind="affine", factor=1 + float(factor), offset=0.0))
    together = not flag(arguments.get("channel_wise", False))
    return found.plus(Step(kind="minmax", to_low=float(minv), to_high=float(maxv), together=together))


def _percentiles(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    lower, upper = float(arguments["lower"]), float(arguments["upper"])
    b_min, b_max = arguments["b_min"], arguments["b_max"]
    low, high = (0.0, 1.0) if b_min is None or b_max is None else (float(b_min), float(b_max))
    if flag(arguments.get("relative", False)):
        low, high = low + (high - low) * lower / 100, low + (high - low) * upper / 100
    step = Step(
        kind="percentiles",
        low=lower,
        high=upper,
        to_low=low,
        to_high=high,
        clipped=flag(arguments.get("clip", False)),
        together=not flag(arguments.get("channel_wise", False)),
    )
    return found.plus(step)


def _normalise(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    mean, std = arguments.get("subtrahend"), arguments.get("divisor")
    over: Over = "nonzero" if flag(arguments.get("nonzero", False)) else "all"
    if (mean is None) != (std is None):
        raise ValueError("subtrahend and divisor go together")
    if mean is None or std is None:
        together = not flag(arguments.get("channel_wise", False))
        return found.plus(Step(kind="zscore", together=together, over=over))
    if isinstance(mean, list) != isinstance(std, list):
        raise ValueError("subtrahend and divisor must both be numbers, or both be lists")
    if not isinstance(mean, list):
        return found.plus(_shift(None, mean, std, over))
    return found.plus(*(_shift(c, m, s, over) for c, (m, s) in enumerate(zip(mean, std, strict=True))))


def _shift(channel: int | None, mean: Any, std: Any, over: Any) -> Step:
    divisor = float(std) or 1.0
    return Step(kind="affine", channel=channel, factor=1 / divisor, offset=-float(mean) / divisor, over=over)


def _threshold(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    level, fill = float(arguments["threshold"]), float(arguments.get("cval", 0.0))
    if flag(arguments.get("above", True)):
        return found.plus(Step(kind="threshold", low=level, fill=fill))
    return found.plus(Step(kind="threshold", high=level, fill=fill))


def _crop(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    margin, chosen = _first(arguments.get("margin", 0)), arguments.get("select_fn")
    if chosen is not None and str(chosen).replace(" ", "") not in ("$lambdax:x>0", "$lambdax:(x>0)"):
        raise ValueError(f"only what is above 0 is a foreground that can be taken; got {shown(chosen)}")
    if arguments.get("k_divisible", 1) != 1 or arguments.get("channel_indices") is not None:
        raise ValueError("a crop to multiples of voxels, or by some channels, cannot be taken")
    clipped = flag(arguments.get("allow_smaller", False))
    return found.plus(Step(kind="crop", over="positive", margin=int(margin), clipped=clipped))


def _merge(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    keys = arguments.get("keys_merge", arguments.get("keys"))
    names = tuple(str(key) for key in keys) if isinstance(keys, list) else ()
    note = f"the images {', '.join(names)} are the channels, in that order; they must lie on one grid"
    return replace(found, merged=names, notes=(*found.notes, note))


def _guidance(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    note = "the model also takes clicks; here it segments without any"
    count = arguments.get("number_intensity_ch", 1)
    return replace(found, images=int(count), notes=(*found.notes, note))


def _nothing(found: Preprocessing, _: Mapping[str, Any]) -> Preprocessing:
    return found


_TAKEN: Mapping[str, Callable[[Preprocessing, Mapping[str, Any]], Preprocessing]] = {
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "Resized": _resize,
    "ScaleIntensityd": _scale,
    "ScaleIntensityRanged": _range,
    "ScaleIntensityRangePercentilesd": _percentiles,
    "NormalizeIntensityd": _normalise,
    "ThresholdIntensityd": _threshold,
    "CropForegroundd": _crop,
    "ConcatItemsd": _merge,
    "scripts.my_transforms.ConcatImages": _merge,
    "AddGuidanceSignalDeepEditd": _guidance,
    **dict.fromkeys(_GUIDANCE, _nothing),
}
