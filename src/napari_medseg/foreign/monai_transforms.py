"""MONAI's list of preprocessing as fields of a ModelSpec; a transform that is not known is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_medseg.errors import ModelFileError
from napari_medseg.geometry import Triple
from napari_medseg.models.spec import Normalisation
from napari_medseg.registry import shown

_PACKAGE = "monai.transforms."
_UNBOUNDED = 1e12
_NEUTRAL = frozenset(
    ("LoadImaged", "EnsureChannelFirstd", "AddChanneld", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced")
)


@dataclass(frozen=True)
class Preprocessing:
    """How a bundle prepares images. Axes are MONAI's: the first runs to the first letter of the orientation."""

    orientation: str | None = None
    spacing_mm: Triple | None = None
    normalisation: Normalisation = Normalisation(kind="none")  # noqa: RUF009  # frozen
    notes: tuple[str, ...] = ()
    """How the preprocessing here differs, one line each."""


def preprocessing_of(path: Path, transforms: Any) -> Preprocessing:
    """The preprocessing of a list of plain transforms; ModelFileError, naming the first that cannot be taken."""
    found = Preprocessing()
    if not isinstance(transforms, list):
        raise ModelFileError(f"{path}: preprocessing needs a list of transforms")
    for transform in transforms:
        if not isinstance(transform, dict) or not isinstance(transform.get("_target_"), str):
            raise ModelFileError(f"{path}: a transform of the preprocessing has no _target_")
        name = transform["_target_"].removeprefix(_PACKAGE)
        if name in _NEUTRAL or transform.get("disabled", False) or transform.get("keys") in ("label", ["label"]):
            continue
        if name not in _TAKEN:
            raise ModelFileError(
                f"{path}: the preprocessing with target {shown(name)} cannot be taken: known are "
                f"{', '.join(sorted(_NEUTRAL | set(_TAKEN)))}"
            )
        if found.normalisation.kind != "none" and name in _INTENSITY:
            raise ModelFileError(f"{path}: {name} after another intensity transform cannot be taken")
        try:
            found = _TAKEN[name](found, transform)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path}: the arguments of {name} cannot be taken: {str(error)[:120]}") from None
    return found


def _orientation(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    code = arguments["axcodes"]
    if not isinstance(code, str) or len(code) != 3:
        raise ValueError(f"axcodes needs three letters; got {shown(code)}")
    return replace(found, orientation=code.upper())


def _spacing(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    pixdim = arguments["pixdim"]
    values = [pixdim] * 3 if isinstance(pixdim, int | float) else pixdim
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"pixdim needs three numbers; got {shown(pixdim)}")
    first, second, third = (float(v) for v in values)
    return replace(found, spacing_mm=(first, second, third))


def _range(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """b_min + (x - a_min) / std, written as (x - mean) / std."""
    low, high = float(arguments["a_min"]), float(arguments["a_max"])
    b_min, b_max = (0.0 if arguments.get(k) is None else float(arguments[k]) for k in ("b_min", "b_max"))
    std = (high - low) / (b_max - b_min) if b_max > b_min else 1.0
    mean = low - b_min * std
    if not arguments.get("clip", False):
        low, high = -_UNBOUNDED, _UNBOUNDED
    rule = Normalisation(kind="clip_zscore", low=low, high=high, mean=mean, std=std)
    return replace(found, normalisation=rule)


def _normalise(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    mean, std = arguments.get("subtrahend"), arguments.get("divisor")
    if (mean is None) != (std is None):
        raise ValueError("subtrahend and divisor go together")
    if mean is not None:
        rule = Normalisation(kind="clip_zscore", low=-_UNBOUNDED, high=_UNBOUNDED, mean=mean, std=std)
        return replace(found, normalisation=rule)
    notes = list(found.notes)
    if arguments.get("nonzero", False):
        notes.append("intensities were normalised over voxels that are not 0; here over all voxels of the image")
    if not arguments.get("channel_wise", False):
        notes.append("intensities were normalised over all channels together; here each by itself")
    return replace(found, normalisation=Normalisation(kind="zscore"), notes=tuple(notes))


def _crop(found: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    return replace(found, notes=(*found.notes, "images were cropped to their foreground first; here they are not"))


_INTENSITY = frozenset({"ScaleIntensityRanged", "NormalizeIntensityd"})
_TAKEN: Mapping[str, Callable[[Preprocessing, Mapping[str, Any]], Preprocessing]] = {
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _range,
    "NormalizeIntensityd": _normalise,
    "CropForegroundd": _crop,
}
