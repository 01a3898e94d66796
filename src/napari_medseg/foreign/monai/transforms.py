"""MONAI's list of preprocessing as steps of a ModelSpec, in its order; a transform that is not known is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import Resolver
from napari_medseg.foreign.monai.arguments import OFF, Arguments
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
_LABEL = frozenset({"label"})
"""Keys of what a network learns from."""
_MERGES = frozenset({"ConcatItemsd", "scripts.my_transforms.ConcatImages"})
_OF_ALL = frozenset({"Orientationd", "Spacingd", "Resized", "CropForegroundd", *_MERGES})
"""Transforms that must be about all images at once, which stay on one grid."""
_PER_KEY = frozenset({"mode", "padding_mode", "align_corners", "scale_extent", "anti_aliasing", "anti_aliasing_sigma"})
"""Arguments of which a list holds one value for each key."""


@dataclass(frozen=True)
class Preprocessing:
    """How a bundle prepares images. Axes are MONAI's: the first runs to the first letter of the orientation."""

    orientation: str | None = None
    spacing_mm: Triple | None = None
    size: tuple[int, ...] | None = None
    """Voxels that images are resized to."""
    steps: tuple[Step, ...] = ()
    keys: tuple[str, ...] = ("image",)
    """Of the images: several until they are merged, then that of the one image."""
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
    if not isinstance(transforms, list):
        raise ModelFileError(f"{path}: preprocessing needs a list of transforms")
    read = [_read(path, resolver, listed) for listed in transforms]
    taken = [(name, transform) for name, transform in read if name not in _NEUTRAL and _is_on(resolver, transform)]
    unknown = next((name for name, _ in taken if name not in _TAKEN), None)
    if unknown is not None:
        raise NotSupportedError(
            f"{path}: the preprocessing with target {shown(unknown)} cannot be taken: known are "
            f"{', '.join(sorted(_NEUTRAL | set(_TAKEN)))}"
        )
    found = Preprocessing(keys=_image_keys(resolver, taken))
    for name, transform in taken:
        try:
            found = _after(found, name, _keys(resolver, transform), _arguments(resolver, name, transform))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:160]
            raise ModelFileError(f"{path}: the arguments of {name} cannot be taken: {reason}") from None
    return found


def _read(path: Path, resolver: Resolver, listed: Any) -> tuple[str, dict[str, Any]]:
    """(name, what the config says) of a transform."""
    transform = resolver.shallow("preprocessing", listed)
    target = transform.get("_target_") if isinstance(transform, dict) else None
    if not isinstance(target, str):
        raise ModelFileError(f"{path}: a transform of the preprocessing has no _target_")
    return named(target), transform


def _is_on(resolver: Resolver, transform: Mapping[str, Any]) -> bool:
    """Whether a transform is not switched off, and not about labels only."""
    of_labels = set(_keys(resolver, transform)) == _LABEL
    return not of_labels and not is_off(resolver, transform)


def is_off(resolver: Resolver, transform: Mapping[str, Any]) -> bool:
    """Whether a transform is switched off."""
    values = [resolver.shallow("a switch", transform.get(key)) for key in ("_disabled_", "disabled")]
    return any(value.strip().lower() == "true" if isinstance(value, str) else bool(value) for value in values)


def _keys(resolver: Resolver, transform: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a transform is about; none where it has none."""
    keys = resolver.deep("preprocessing", transform.get("keys_merge", transform.get("keys", [])))
    return tuple(str(key) for key in (keys if isinstance(keys, list) else [keys]))


def _image_keys(resolver: Resolver, taken: list[tuple[str, dict[str, Any]]]) -> tuple[str, ...]:
    """The keys of the images at first: those that are merged, or the only one."""
    keys = [(name, _keys(resolver, transform)) for name, transform in taken]
    merged = next((k for name, k in keys if name in _MERGES), ())
    others = [key for _, listed in keys for key in listed if key not in _LABEL]
    return merged or (("image",) if "image" in others else tuple(others[:1])) or ("image",)


def _after(found: Preprocessing, name: str, keys: tuple[str, ...], arguments: dict[str, Any]) -> Preprocessing:
    """The preprocessing with one more transform, which is about some of the images."""
    keys = keys or found.keys
    places = [keys.index(key) for key in found.keys if key in keys]
    if not places or (name in _OF_ALL and len(places) < len(found.keys)):
        raise ValueError(f"its keys are {_shown(keys)}, and those of the images {_shown(found.keys)}")
    arguments = {k: _of_images(k, v, places) for k, v in arguments.items()}
    make, known = _TAKEN[name]
    known.refuse_others(arguments)
    made = make(found, arguments)
    if len(found.keys) == 1:
        return made
    before = len(found.steps)
    channels = [found.keys.index(keys[place]) for place in places]
    steps = [alone for step in made.steps[before:] for alone in _each(step, channels, len(found.keys))]
    return replace(made, steps=(*found.steps, *steps))


def _shown(keys: tuple[str, ...]) -> str:
    return shown(", ".join(keys))


def _of_images(name: str, value: Any, places: list[int]) -> Any:
    """An argument, of which a list may hold one value for each key; only one that all images share is taken."""
    if name not in _PER_KEY or not isinstance(value, list) or not value:
        return value
    if len(value) == 1:
        return value[0]
    chosen = [value[place] for place in places if place < len(value)]
    if len(chosen) < len(places) or any(one != chosen[0] for one in chosen):
        raise ValueError(f"{name} must be the same for all images; got {shown(str(value))}")
    return chosen[0]


def _each(step: Step, channels: list[int], images: int) -> list[Step]:
    """A step of some of the images, before these are the channels of one: each has statistics of its own."""
    if step.kind in ("crop", "resample"):
        return [step]
    if step.channel:
        raise ValueError(f"each image has one channel; got {step.channel + 1}")
    alone = replace(step, channel=None, together=False)
    return [alone] if len(channels) == images else [replace(alone, channel=channel) for channel in channels]


def named(target: str) -> str:
    """A transform's name without MONAI's packages, and with the d that its variant for dictionaries ends with."""
    package = next((package for package in _PACKAGES if target.startswith(package)), "")
    name = target.removeprefix(package).rsplit(".", 1)[-1] if package else target
    for ending in ("Dict", "D"):
        if name.endswith(ending) and f"{name.removesuffix(ending)}d" in {*_NEUTRAL, *_TAKEN}:
            return f"{name.removesuffix(ending)}d"
    return name


def _arguments(resolver: Resolver, name: str, transform: dict[str, Any]) -> dict[str, Any]:
    """A transform's arguments, resolved; the function that selects a foreground is not."""
    if name in _GUIDANCE:
        return {}
    given = _TAKEN[name][1].given(transform)
    return {k: v if k == "select_fn" else resolver.deep("preprocessing", v) for k, v in given.items()}


def flag(value: Any) -> bool:
    """A truth, also where a bundle has written it as a text."""
    if value in ("True", "true"):
        return True
    if value in ("False", "false"):
        return False
    if not isinstance(value, bool | int | None):
        raise ValueError(f"true or false is expected; got {shown(value)}")
    return bool(value)


def _orientation(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    code = arguments["axcodes"]
    if not isinstance(code, str) or len(code) != 3:
        raise ValueError(f"axcodes needs three letters; got {shown(code)}")
    return replace(found, orientation=code.upper())


def _spacing(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    pixdim = arguments["pixdim"]
    values = [pixdim] * 3 if isinstance(pixdim, int | float) else pixdim
    if not isinstance(values, list) or len(values) not in (1, 2, 3):
        raise ValueError(f"pixdim needs three numbers; got {shown(pixdim)}")
    if arguments.get("mode", "bilinear") not in ("bilinear", "linear", 1):
        raise ValueError(f"only linear interpolation is taken; got {shown(arguments.get('mode'))}")
    _refuse_second(found)
    sizes = [float(v) for v in values] + [float(values[-1])] * (3 - len(values))
    kept = tuple(axis for axis, value in enumerate(sizes) if value <= 0)
    first, second, third = (1.0 if value <= 0 else value for value in sizes)
    step = Step(kind="resample", method="corners", kept_axes=kept)
    return replace(found, spacing_mm=(first, second, third)).plus(step)


def _resize(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    size, mode = arguments["spatial_size"], arguments.get("mode", "area")
    if not isinstance(size, list) or not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"spatial_size needs whole numbers; got {shown(size)}")
    if mode not in ("area", "bilinear", "trilinear", "linear"):
        raise ValueError(f"mode is area, bilinear or trilinear; got {shown(mode)}")
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
    if minv is None and maxv is None:
        factor = arguments.get("factor")
        return found if factor is None else found.plus(Step(kind="affine", factor=1 + float(factor), offset=0.0))
    minv, maxv = (0.0, 1.0) if minv is None or maxv is None else (minv, maxv)
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
    margin, chosen = arguments.get("margin", 0), arguments.get("select_fn")
    if isinstance(margin, list) and len(set(margin)) == 1:
        margin = margin[0]
    mode = arguments.get("mode", "constant")
    if (arguments.get("source_key", found.keys[0]),) != found.keys:
        raise ValueError(
            f"source_key must be the image, here {_shown(found.keys)}; got {shown(arguments['source_key'])}"
        )
    if chosen is not None and str(chosen).replace(" ", "") not in ("$lambdax:x>0", "$lambdax:(x>0)"):
        raise ValueError(f"only what is above 0 is a foreground that can be taken; got {shown(chosen)}")
    if isinstance(margin, list):
        raise ValueError(f"margin must be the same along all axes; got {shown(str(margin))}")
    clipped = flag(arguments.get("allow_smaller", False))
    if mode != "constant" and margin and not clipped:
        raise ValueError(f"a margin beyond the image holds 0; got the mode {shown(mode)}")
    return found.plus(Step(kind="crop", over="positive", margin=int(margin), clipped=clipped))


def _merge(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    if found.merged:
        raise ValueError("images are merged a second time")
    name = str(arguments.get("keys_out", arguments.get("name", "image")))
    note = f"the images {', '.join(found.keys)} are the channels, in that order; they must lie on one grid"
    return replace(found, keys=(name,), merged=found.keys, notes=(*found.notes, note))


def _guidance(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    note = "the model also takes clicks; here it segments without any"
    count = arguments.get("number_intensity_ch", 1)
    return replace(found, images=int(count), notes=(*found.notes, note))


def _nothing(found: Preprocessing, _: Mapping[str, Any]) -> Preprocessing:
    return found


_RAS = [["L", "R"], ["P", "A"], ["I", "S"]]
_TAKEN: Mapping[str, tuple[Callable[[Preprocessing, Mapping[str, Any]], Preprocessing], Arguments]] = {
    "Orientationd": (_orientation, Arguments.of("axcodes", as_closest_canonical=OFF, labels=(None, _RAS))),
    "Spacingd": (
        _spacing,
        Arguments.of(
            "pixdim mode align_corners ensure_same_shape",
            diagonal=OFF,
            padding_mode=("border", "reflection"),
            scale_extent=OFF,
            recompute_affine=OFF,
            min_pixdim=(None,),
            max_pixdim=(None,),
        ),
    ),
    "Resized": (
        _resize,
        Arguments.of("spatial_size mode anti_aliasing_sigma", align_corners=OFF, anti_aliasing=OFF, size_mode=("all",)),
    ),
    "ScaleIntensityd": (_scale, Arguments.of("minv maxv factor channel_wise")),
    "ScaleIntensityRanged": (_range, Arguments.of("a_min a_max b_min b_max clip")),
    "ScaleIntensityRangePercentilesd": (
        _percentiles,
        Arguments.of("lower upper b_min b_max clip relative channel_wise"),
    ),
    "NormalizeIntensityd": (_normalise, Arguments.of("subtrahend divisor nonzero channel_wise")),
    "ThresholdIntensityd": (_threshold, Arguments.of("threshold above cval")),
    "CropForegroundd": (
        _crop,
        Arguments.of(
            "source_key select_fn margin allow_smaller mode start_coord_key end_coord_key",
            channel_indices=(None,),
            k_divisible=(1, [1], [1, 1], [1, 1, 1]),
        ),
    ),
    **dict.fromkeys(_MERGES, (_merge, Arguments.of("keys_merge keys_out name", dim=(0,)))),
    "AddGuidanceSignalDeepEditd": (_guidance, Arguments.of("guidance sigma number_intensity_ch")),
    **dict.fromkeys(_GUIDANCE, (_nothing, Arguments.of())),
}
"""{transform: (what it adds, its arguments)}."""
