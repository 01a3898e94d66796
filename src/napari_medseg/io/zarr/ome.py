"""The OME-Zarr 0.4 and 0.5 metadata that say what lies where: JSON in, checked values out. No store is touched.

The reader is lenient where a volume can still be placed (a missing unit) and strict where it cannot. The structures
below say what must be there, and msgspec checks it; keys that no structure names are passed over. What we write is
built from the models of yaozarrs, which are strict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

import numpy as np
from msgspec import Meta, Struct, ValidationError, convert

from napari_medseg import geometry
from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.io import units
from napari_medseg.io.attributes import colour_of
from napari_medseg.io.stored import Stored
from napari_medseg.io.zarr.pyramid import Level
from napari_medseg.volume import MAX_LABEL, Colour, Grid

VERSIONS = ("0.4", "0.5")
_SPACE = "zyx"
T = TypeVar("T")
_MISFITS = (ValidationError, UnicodeError)
"""The errors of msgspec; UnicodeError is for half a character, which JSON can hold."""
Direction = tuple[int, int]
"""The axis of (S, P, L) that an array axis runs along, and its sign."""
_TO_SPL: tuple[Direction, ...] = ((0, 1), (1, 1), (2, 1))
_BODY: Mapping[str, Direction] = {
    "inferior-to-superior": (0, 1),
    "caudal-to-cranial": (0, 1),
    "caudal-to-rostral": (0, 1),
    "anterior-to-posterior": (1, 1),
    "ventral-to-dorsal": (1, 1),
    "right-to-left": (2, 1),
    "superior-to-inferior": (0, -1),
    "cranial-to-caudal": (0, -1),
    "rostral-to-caudal": (0, -1),
    "posterior-to-anterior": (1, -1),
    "dorsal-to-ventral": (1, -1),
    "left-to-right": (2, -1),
}
"""{anatomical orientation of RFC-4: its direction}; those of limbs, such as proximal-to-distal, are not known."""


class _Ome(Struct):
    multiscales: Annotated[list[Any], Meta(min_length=1)]
    """Only the first is read."""
    version: str | float | None = None
    """Since 0.5."""


class _Version(Struct):
    version: str | float = VERSIONS[0]
    """Of a multiscale, before 0.5."""


class _Axis(Struct):
    name: str
    unit: str | None = None
    orientation: Any = None
    """Of a space axis, by RFC-4: {"type": "anatomical", "value": "left-to-right"}."""


class _Transform(Struct):
    type: str
    scale: list[float] = []
    translation: list[float] = []


class _Multiscale(Struct, rename={"transforms": "coordinateTransformations"}):
    axes: list[_Axis]
    datasets: Annotated[list[Any], Meta(min_length=1)]
    """The first, the finest, must be a _Dataset; the others are only looked at."""
    transforms: list[_Transform] = []


class _Dataset(Struct, rename={"transforms": "coordinateTransformations"}):
    path: str
    transforms: list[_Transform] = []


class _Name(Struct, rename={"label": "label-value"}):
    label: int
    name: str


class _Colour(Struct, rename={"label": "label-value"}):
    label: Annotated[int, Meta(ge=0, le=MAX_LABEL)]
    rgba: list[Any]


class _Channel(Struct):
    label: Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True)
class Multiscale:
    """The finest level of an image: where its array lies and what its axes mean."""

    path: str
    """Of the array, relative to the group."""
    axes: tuple[str, ...]
    """Names in array order, of t, c, z, y, x."""
    scale_mm: Mapping[str, float]
    """Per space axis."""
    translation_mm: Mapping[str, float]
    """Per space axis: position of the first voxel's centre."""
    levels: tuple[tuple[str, list[float]], ...] = ()
    """Path and own scale of each resolution level that is understood, the finest first."""

    directions: tuple[Direction, ...] = _TO_SPL
    """Of z, y and x."""

    @property
    def position(self) -> FloatArray:
        """(3,) translation in mm along z, y and x."""
        return np.array([self.translation_mm.get(name, 0.0) for name in _SPACE])

    @property
    def affine(self) -> FloatArray:
        """Index (z, y, x) -> (S, P, L). Each position along an axis is measured in the direction of the axis."""
        affine = np.zeros((4, 4))
        affine[3, 3] = 1.0
        for column, (name, (row, sign)) in enumerate(zip(_SPACE, self.directions, strict=True)):
            affine[row, column] = sign * self.scale_mm.get(name, 1.0)
            affine[row, 3] = sign * self.translation_mm.get(name, 0.0)
        return affine


def for_writing(stored: Stored, levels: Sequence[Level]) -> dict[str, Any]:
    """The "ome" attribute of a new 0.5 store with these levels, checked by the models of yaozarrs."""
    from yaozarrs import v05

    axes: list[Any] = [v05.SpaceAxis(name=name, unit="millimeter") for name in _SPACE]
    if not stored.is_labels:
        axes.insert(0, v05.ChannelAxis(name="c"))
    datasets = [
        v05.Dataset(path=str(number), coordinateTransformations=_transforms(stored, level, len(axes) - 3))
        for number, level in enumerate(levels)
    ]
    multiscale = v05.Multiscale(axes=axes, datasets=datasets, type="nearest" if stored.is_labels else "mean")
    image = v05.Image(version="0.5", multiscales=[multiscale])
    ome: dict[str, Any] = image.model_dump(mode="json", exclude_none=True)
    return {**ome, "image-label": _image_label(stored)} if stored.is_labels else ome


def _image_label(stored: Stored) -> dict[str, Any]:
    """The part that makes an image a label image; other programs show its properties, the names."""
    rows = [{"label-value": label, "name": name} for label, name in stored.labels.items()]
    colours = [{"label-value": label, "rgba": [*colour, 255]} for label, colour in stored.colours.items()]
    return {
        "version": "0.5",
        **({"properties": rows} if rows else {}),
        **({"colors": colours} if colours else {}),
    }


def _transforms(stored: Stored, level: Level, lead: int) -> list[Any]:
    """Scale and translation of a level."""
    from yaozarrs import v05

    spacing = np.array(stored.grid.spacing)
    first = first_position(stored.grid)
    # A mean lies at the centre of its block. A label is that of the block's first voxel, and lies there.
    shift = np.zeros(3) if stored.is_labels else (np.array(level.scale) - 1) / 2 * spacing
    scale = spacing * level.scale
    return [
        v05.ScaleTransformation(scale=[1.0] * lead + scale.tolist()),
        v05.TranslationTransformation(translation=[0.0] * lead + (first + shift).tolist()),
    ]


def first_position(grid: Grid) -> FloatArray:
    """(3,) position in mm of the first voxel along each array axis: the centre of the volume is in its place.

    OME-Zarr has no direction. A position along an array axis is measured along the nearest world axis, in the direction
    of the array.
    """
    axes, signs = geometry.nearest_axes(grid.affine)
    to_centre = (np.array(grid.shape) - 1) / 2
    centre = grid.index_to_world(to_centre)[list(axes)] * signs
    return np.asarray(centre - np.array(grid.spacing) * to_centre)


def ome_part(group_attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The OME metadata of a group: under "ome" since 0.5, among the attributes before."""
    part = group_attributes.get("ome", group_attributes)
    return part if isinstance(part, dict) else {}


def parse_multiscale(part: Mapping[str, Any], where: str) -> Multiscale:
    """The first multiscale image of a group. FileError for what cannot be placed; a warning where units are missing."""
    ome = _as(_Ome, part, where, "")
    first, at_first = ome.multiscales[0], " in multiscales[0]"
    _check_version(ome.version or _as(_Version, first, where, at_first).version, where)
    image = _as(_Multiscale, first, where, at_first)
    names = _axis_names(image, where)
    finest = _as(_Dataset, image.datasets[0], where, f"{at_first}.datasets[0]")
    _check_path(finest.path, where)
    if not finest.transforms:
        warn(f"{where}: no scale is stored, so that the spacing is unknown; 1 is taken")
    scale, translation = _combined([*finest.transforms, *image.transforms], len(names), where)
    mm = _millimetres(image, where)
    return Multiscale(
        finest.path,
        names,
        {name: scale[names.index(name)] * factor for name, factor in mm.items()},
        {name: translation[names.index(name)] * factor for name, factor in mm.items()},
        tuple((level.path, _own_scale(level)) for level in _understood(_Dataset, image.datasets)),
        _directions(image, where),
    )


def label_names(ome: Mapping[str, Any]) -> dict[int, str]:
    """The names of labels in the image-label metadata of others; empty where there are none."""
    return {row.label: row.name for row in _understood(_Name, _inside(ome, "image-label", "properties"))}


def label_colours(ome: Mapping[str, Any]) -> dict[int, Colour]:
    """The colours of labels in the image-label metadata of others; empty where there are none."""
    rows = _understood(_Colour, _inside(ome, "image-label", "colors"))
    found = {row.label: colour_of(row.rgba) for row in rows}
    return {label: colour for label, colour in found.items() if colour is not None}


def channel_names(ome: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The channel labels in the omero metadata of others; empty unless each of the `count` channels has one."""
    channels = _inside(ome, "omero", "channels")
    names = tuple(channel.label for channel in _understood(_Channel, channels))
    return names if len(names) == len(channels) == count else ()


def _as(kind: type[T], content: object, where: str, at: str) -> T:
    """JSON as a structure; FileError names the part that is missing or of another type."""
    try:
        return convert(content, kind)
    except _MISFITS as error:
        raise FileError(f"{where}: its OME metadata are not those of an image{at}: {error}") from error


def _understood(kind: type[T], rows: Sequence[object]) -> list[T]:
    """The rows that have a structure; the others are passed over."""
    found = []
    for row in rows:
        with suppress(*_MISFITS):
            found.append(convert(row, kind))
    return found


def _inside(ome: Mapping[str, Any], key: str, list_key: str) -> list[Any]:
    """A list inside an object of the metadata; empty where there is none."""
    part = ome.get(key)
    rows = part.get(list_key) if isinstance(part, dict) else None
    return rows if isinstance(rows, list) else []


def _check_version(version: str | float, where: str) -> None:
    if str(version) not in VERSIONS:
        raise FileError(f"{where}: OME-Zarr version {version!s:.20} is not known: {' and '.join(VERSIONS)} are read")


def _axis_names(image: _Multiscale, where: str) -> tuple[str, ...]:
    names = tuple(axis.name.lower() for axis in image.axes)
    if len(set(names)) != len(names) or not set(names) <= set("tczyx") or not {"y", "x"} <= set(names):
        raise FileError(f"{where}: its axes are {', '.join(names):.100}: expected z, y and x, and t or c at most once")
    return names


def _check_path(path: str, where: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or PurePosixPath(path).is_absolute() or "\\" in path:
        raise FileError(f"{where}: the path of its first dataset, {path!r:.100}, leads outside of the store")


def _combined(transforms: Sequence[_Transform], ndim: int, where: str) -> tuple[list[float], list[float]]:
    """Scale and translation of all transformations, applied in their order: the dataset's, then the whole image's."""
    scale, translation = np.ones(ndim), np.zeros(ndim)
    for transform in transforms:
        if transform.type == "scale":
            factors = _numbers(transform.scale, ndim, "scale", where)
            if factors.min() <= 0:
                raise FileError(f"{where}: its scale (spacing) must be positive; got {transform.scale!s:.100}")
            scale, translation = scale * factors, translation * factors
        elif transform.type == "translation":
            translation = translation + _numbers(transform.translation, ndim, "translation", where)
        elif transform.type != "identity":
            raise NotSupportedError(f"{where}: a coordinate transformation of type {transform.type!r:.50} is not read")
    return scale.tolist(), translation.tolist()


def _numbers(values: list[float], ndim: int, kind: str, where: str) -> FloatArray:
    if len(values) != ndim:
        raise FileError(
            f"{where}: its {kind} must have a length of {ndim}, one number for each of the axes; got {values!s:.100}"
        )
    if not all(map(math.isfinite, values)):
        raise FileError(f"{where}: its {kind} must hold finite numbers; got {values!s:.100}")
    return np.asarray(values, dtype=float)


def _own_scale(dataset: _Dataset) -> list[float]:
    """The scale of a level without that of the whole image; empty where it has none."""
    scales = (t.scale for t in dataset.transforms if t.scale and all(0 < v < math.inf for v in t.scale))
    return next(scales, [])


def _millimetres(image: _Multiscale, where: str) -> dict[str, float]:
    """What one unit along each space axis is in mm; a missing unit is taken as mm, with a warning."""
    named = {axis.name.lower(): axis.unit for axis in image.axes if axis.name.lower() in _SPACE}
    found = {name: 1.0 if unit is None else units.millimetres(unit) for name, unit in named.items()}
    for name, length in found.items():
        if length is None:
            raise FileError(
                f"{where}: axis {name} has the unit {named[name]!r:.50}: expected a length, such as micrometer or "
                f"millimeter"
            )
    missing = [name for name, unit in named.items() if unit is None]
    if missing:
        warn(f"{where}: no unit is stored for the axes {', '.join(missing)}; mm are taken")
    return {name: length for name, length in found.items() if length is not None}


def _directions(image: _Multiscale, where: str) -> tuple[Direction, ...]:
    """The direction of each of z, y, x in the body: as stated, else S, P, L with a warning where others are stated.

    A space axis that the image does not have gets the direction that is left. FileError where two axes run along the
    same line of the body.
    """
    axes = {axis.name.lower(): axis.orientation for axis in image.axes if axis.name.lower() in _SPACE}
    known = {name: _BODY.get(_orientation_of(value)) for name, value in axes.items()}
    stated = {name: direction for name, direction in known.items() if direction is not None}
    if not stated:
        if any(value is not None for value in axes.values()):
            warn(f"{where}: the orientation of its axes is not known; z, y, x are taken to run to S, P, L")
        return _TO_SPL
    usual = {name: _TO_SPL[_SPACE.index(name)] for name in axes if name not in stated}
    found = {**stated, **usual}
    if len({line for line, _ in found.values()}) < len(found):
        said = ", ".join(f"{name} {_orientation_of(value)}" for name, value in axes.items())
        raise FileError(f"{where}: two of its axes run along the same line of the body: {said:.200}")
    if usual:
        names = ", ".join(usual)
        warn(f"{where}: the orientation of the axes {names} is missing or not known; they are taken to run to S, P, L")
    left = iter(sorted({0, 1, 2} - {line for line, _ in found.values()}))
    return tuple(found[name] if name in found else (next(left), 1) for name in _SPACE)


def _orientation_of(orientation: object) -> str:
    """The value of an anatomical orientation, lower case; empty if none is stated."""
    if isinstance(orientation, dict):
        orientation = orientation.get("value") if orientation.get("type", "anatomical") == "anatomical" else None
    return orientation.lower() if isinstance(orientation, str) else ""
