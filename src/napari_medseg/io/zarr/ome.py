"""The OME-Zarr 0.4 and 0.5 metadata that say what lies where: JSON in, checked values out. No store is touched.

The reader is lenient where a volume can still be placed (a missing unit) and strict where it cannot; what we write is
built from the models of yaozarrs, which are strict.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from napari_medseg import geometry
from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.io.attributes import colour_of
from napari_medseg.io.stored import Stored
from napari_medseg.io.zarr.pyramid import Level
from napari_medseg.volume import MAX_LABEL, Colour

VERSIONS = ("0.4", "0.5")
_SPACE = "zyx"
_MILLIMETRES = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
    "nm": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
}


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

    @property
    def affine(self) -> FloatArray:
        """Index (z, y, x) -> (S, P, L): OME-Zarr says nothing about the patient, so z, y, x are taken to run so."""
        affine = np.diag([*(self.scale_mm.get(a, 1.0) for a in _SPACE), 1.0])
        affine[:3, 3] = [self.translation_mm.get(a, 0.0) for a in _SPACE]
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
    """What makes an image a label image; the names are properties that readers of others can show."""
    rows = [{"label-value": label, "name": name} for label, name in stored.labels.items()]
    colours = [{"label-value": label, "rgba": [*colour, 255]} for label, colour in stored.colours.items()]
    return {
        "version": "0.5",
        **({"properties": rows} if rows else {}),
        **({"colors": colours} if colours else {}),
    }


def _transforms(stored: Stored, level: Level, lead: int) -> list[Any]:
    """Scale and translation of a level: the centre of the whole volume lies in the right place along each array axis.

    OME-Zarr has no direction: positions along an array axis are measured along the world axis nearest to it, in the
    direction the array runs to.
    """
    from yaozarrs import v05

    grid = stored.grid
    axes, signs = geometry.nearest_axes(grid.affine)
    centre_world = grid.index_to_world((np.array(grid.shape) - 1) / 2)
    centre = centre_world[list(axes)] * signs
    spacing = np.array(grid.spacing)
    first = centre - spacing * (np.array(grid.shape) - 1) / 2
    # The mean of a block lies at the block's centre; a label is that of the block's first voxel.
    shift = np.zeros(3) if stored.is_labels else (np.array(level.scale) - 1) / 2 * spacing
    scale = spacing * level.scale
    return [
        v05.ScaleTransformation(scale=[1.0] * lead + scale.tolist()),
        v05.TranslationTransformation(translation=[0.0] * lead + (first + shift).tolist()),
    ]


def ome_part(group_attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The OME metadata of a group: under "ome" since 0.5, among the attributes before."""
    part = group_attributes.get("ome", group_attributes)
    return part if isinstance(part, dict) else {}


def parse_multiscale(ome: Mapping[str, Any], where: str) -> Multiscale:
    """The first multiscale image of a group. FileError for what cannot be placed; a warning where units are missing."""
    multiscales = ome.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise FileError(f"{where}: not an OME-Zarr image: its metadata has no list of multiscales")
    first = multiscales[0]
    version = str(ome.get("version", first.get("version", VERSIONS[0])))
    if version not in VERSIONS:
        raise FileError(f"{where}: OME-Zarr version {version:.20} is not known: {' and '.join(VERSIONS)} are read")
    axes = _axes(first, where)
    path, transforms = _finest(first, where)
    names = tuple(str(axis["name"]).lower() for axis in axes)
    scale, translation = _combined(transforms, first.get("coordinateTransformations", []), len(axes), where)
    unit = {name: _unit(axis, where) for name, axis in zip(names, axes, strict=True) if name in _SPACE}
    _warn_of_missing_units([n for n, u in unit.items() if u is None], where)
    mm = {name: 1.0 if factor is None else factor for name, factor in unit.items()}
    at = {name: names.index(name) for name in mm}
    return Multiscale(
        path,
        names,
        {name: scale[i] * mm[name] for name, i in at.items()},
        {name: translation[i] * mm[name] for name, i in at.items()},
    )


def coarser_levels(ome: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Path and own scale of each level but the finest, as far as they can be understood: they are only looked at."""
    datasets = [d for d in ome["multiscales"][0]["datasets"][1:] if isinstance(d, dict)]
    return [(str(d.get("path", "")), own_scale(d)) for d in datasets]


def own_scale(dataset: Mapping[str, Any]) -> list[float]:
    """The scale of a level without that of the whole image; empty where it is not understood."""
    transforms = dataset.get("coordinateTransformations")
    scales = [t.get("scale") for t in transforms if isinstance(t, dict)] if isinstance(transforms, list) else []
    found = [s for s in scales if isinstance(s, list) and all(_is_finite(v) and v > 0 for v in s)]
    return found[0] if found else []


def label_names(ome: Mapping[str, Any]) -> dict[int, str]:
    """The names of labels in the image-label metadata of others; empty where there are none."""
    image_label = ome.get("image-label")
    properties = image_label.get("properties") if isinstance(image_label, dict) else None
    rows = [row for row in properties if isinstance(row, dict)] if isinstance(properties, list) else []
    return {
        int(row["label-value"]): str(row["name"])
        for row in rows
        if "name" in row and isinstance(row.get("label-value"), int)
    }


def label_colours(ome: Mapping[str, Any]) -> dict[int, Colour]:
    """The colours of labels in the image-label metadata of others; empty where there are none."""
    image_label = ome.get("image-label")
    listed = image_label.get("colors") if isinstance(image_label, dict) else None
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    found = {r["label-value"]: colour_of(r.get("rgba")) for r in rows if isinstance(r.get("label-value"), int)}
    return {label: colour for label, colour in found.items() if colour is not None and 0 <= label <= MAX_LABEL}


def channel_names(ome: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The channel labels in the omero metadata of others; empty where they do not fit."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or len(channels) != count:
        return ()
    names = tuple(str(c.get("label", "")) if isinstance(c, dict) else "" for c in channels)
    return names if all(names) else ()


def _axes(multiscale: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    axes = multiscale.get("axes")
    if not isinstance(axes, list) or not all(isinstance(axis, dict) and "name" in axis for axis in axes):
        raise FileError(f"{where}: its metadata names no axes, so that z, y and x are unknown")
    names = [str(axis["name"]).lower() for axis in axes]
    if len(set(names)) != len(names) or not set(names) <= set("tczyx") or not {"y", "x"} <= set(names):
        raise FileError(f"{where}: its axes are {', '.join(names):.100}: expected z, y and x, and t or c at most once")
    return axes


def _finest(multiscale: Mapping[str, Any], where: str) -> tuple[str, list[Any]]:
    """Path and transformations of the first dataset."""
    datasets = multiscale.get("datasets")
    if not isinstance(datasets, list) or not datasets or not isinstance(datasets[0], dict):
        raise FileError(f"{where}: its metadata lists no datasets (resolution levels)")
    path = str(datasets[0].get("path", ""))
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or PurePosixPath(path).is_absolute() or "\\" in path:
        raise FileError(f"{where}: the path of its first dataset, {path!r:.100}, leads outside of the store")
    transforms = datasets[0].get("coordinateTransformations")
    if not isinstance(transforms, list) or not transforms:
        warn(f"{where}: no scale is stored, so that the spacing is unknown; 1 is taken")
        return path, []
    return path, transforms


def _combined(own: list[Any], common: Any, ndim: int, where: str) -> tuple[list[float], list[float]]:
    """Scale and translation after the dataset's transformations and then those of the whole multiscale."""
    scale, translation = np.ones(ndim), np.zeros(ndim)
    for transform in [*own, *(common if isinstance(common, list) else [])]:
        kind = transform.get("type") if isinstance(transform, dict) else None
        if kind not in ("scale", "translation", "identity"):
            raise NotSupportedError(f"{where}: a coordinate transformation of type {kind!r:.50} is not read")
        if kind == "identity":
            continue
        values = _numbers(transform.get(kind), ndim, str(kind), where)
        scale, translation = (
            (scale * values, translation * values) if kind == "scale" else (scale, translation + values)
        )
    return scale.tolist(), translation.tolist()


def _numbers(values: Any, ndim: int, kind: str, where: str) -> FloatArray:
    if not isinstance(values, list) or len(values) != ndim:
        raise FileError(
            f"{where}: its {kind} must have a length of {ndim}, one number for each of the axes; got {values!s:.100}"
        )
    if not all(_is_finite(v) for v in values):
        raise FileError(f"{where}: its {kind} must hold finite numbers; got {values!s:.100}")
    if kind == "scale" and min(values) <= 0:
        raise FileError(f"{where}: its scale (spacing) must be positive; got {values!s:.100} (zero or negative)")
    return np.asarray(values, dtype=float)


def _is_finite(value: Any) -> bool:
    """Of JSON, whose whole numbers may have any number of digits."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _unit(axis: Mapping[str, Any], where: str) -> float | None:
    """What one unit is in mm; None where it is missing."""
    unit = axis.get("unit")
    if unit is None:
        return None
    if not isinstance(unit, str) or unit not in _MILLIMETRES:
        raise FileError(
            f"{where}: axis {axis['name']} has the unit {unit!r:.50}: expected one of {', '.join(_MILLIMETRES)}"
        )
    return _MILLIMETRES[unit]


def _warn_of_missing_units(names: list[str], where: str) -> None:
    if names:
        warn(f"{where}: no unit is stored for the axes {', '.join(names)}; mm are taken")
