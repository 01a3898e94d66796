"""What a file holds, between the format that parsed it and the nouns. Values are checked here and nowhere else.

A format module gives and takes `Stored`. This module makes an image or labels of it, by the same rules for all formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.views import AxisView
from napari_medseg.errors import FileError, InputError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.volume import (
    MAX_LABEL,
    Colour,
    Grid,
    LazyArray,
    Outline,
    Segmentation,
    Volume,
    label_dtype,
    plain_channels,
)

Array = npt.NDArray[Any]

LABEL_ROUNDING = 1e-3
"""How far a label written as a float may lie from a whole number."""
_SHEAR = 1e-3
"""Cosine between two array axes; axes above it are called sheared."""
_EXTREME = 1e19
"""Largest intensity whose square fits single precision."""
_PLAUSIBLE_MM = (1e-3, 1e2)
"""Smallest and largest spacing in mm; outside, the unit is surely wrong."""
_MOST_LABELS = 256
"""Most different values that labels have."""
_MOST_CLASSES = 60
"""Values that make an array look like an image, if neighbours differ besides."""
_PLANES, _EDGE = 16, 256
"""Planes of labels that are looked at, and the edge of the part of each, in voxels."""
EXCHANGED = "are images and labels exchanged?"
_LOOKED_AT = 1 << 20
"""Voxels that are looked at for different values, evenly spaced in the array."""


@dataclass(frozen=True, eq=False)
class Stored:
    """An array with everything that its file says about it.

    data: (Z, Y, X), or (C, Z, Y, X) where the file has a channel axis; in memory, lazy or `Unread`.
    """

    data: LazyArray
    grid: Grid
    channels: tuple[str, ...] = ()
    """Channel names, where the file has them."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """{id: name}, where the file has them."""
    colours: Mapping[int, Colour] = field(default_factory=dict, kw_only=True)
    """{id: (red, green, blue)}, where the file has them."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """How the array was made; any value that JSON can hold."""
    is_labels: bool = False
    """When written: it holds labels. When read: the file says that it holds labels."""
    notes: tuple[str, ...] = ()
    """What the file does not say, and what the reader assumed instead."""
    source: Path | None = None
    """When written: the image that the labels belong to, for formats that refer to it."""


class Unread:
    """An array of which only shape and type are known: what a file's header says about its voxels."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: Any, /) -> Any:
        raise AssertionError("nothing is read from an outline")


def grid_of(path: str, shape: tuple[int, ...], affine: FloatArray) -> Grid:
    """The Grid of a file. Raises FileError for an impossible geometry; warns of an odd one."""
    try:
        grid = Grid((shape[-3], shape[-2], shape[-1]), affine)
    except InputError as error:
        raise FileError(f"{path}: its geometry cannot be used: {error}") from error
    cosines = grid.affine[:3, :3] / grid.spacing
    skew = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if skew > _SHEAR:
        angle = np.degrees(np.arccos(min(skew, 1.0)))
        warn(f"{path}: the axes are not orthogonal (sheared, {angle:.2f} degrees between two of them)")
    if not _PLAUSIBLE_MM[0] <= min(grid.spacing) <= max(grid.spacing) <= _PLAUSIBLE_MM[1]:
        warn(f"{path}: a spacing of {grid.spacing} mm is hardly true; is the unit wrong?")
    return grid


def to_volume(stored: Stored, name: str) -> Volume:
    """The image. In arrays in memory NaN and Inf become 0, with a warning; FileError where no voxel is finite."""
    data = stored.data
    if isinstance(data, np.ndarray) and data.size:
        data = _finite(data, name) if data.dtype.kind == "f" else data
        _warn_of_extremes(data, name)
    if stored.grid.shape == (1, 1, 1):
        warn(f"{name}: a single voxel, too small an image for any patch")
    data = with_channel_axis(data)
    return Volume(data, stored.grid, stored.channels, name=name, provenance=stored.provenance)


def to_outline(stored: Stored, name: str, *, as_labels: bool) -> Outline:
    """The image or labels without their voxels. Raises InputError for labels of several channels."""
    count = int(stored.data.shape[0]) if len(stored.data.shape) == 4 else 1
    if as_labels:
        _require_one_channel(count, name)
    return Outline(
        grid=stored.grid,
        dtype=np.dtype(stored.data.dtype),
        channels=stored.channels or plain_channels(count),
        is_labels=as_labels or stored.is_labels,
        labels=stored.labels,
        name=name,
        provenance=stored.provenance,
        notes=stored.notes,
    )


def to_segmentation(stored: Stored, name: str, path: str = "") -> Segmentation:
    """The labels. Raises InputError for several channels, fractions, NaN, and ids outside 0 .. 2^31 - 1.

    path: where they lie, for messages; by default these say the name.
    """
    told = path or name
    data = stored.data
    if len(data.shape) == 4:
        _require_one_channel(data.shape[0], told)
        data = data[0] if isinstance(data, np.ndarray) else AxisView(data, (1, 2, 3), {0: 0})
    if np.dtype(data.dtype).kind == "f":
        data = _whole_numbers(np.asarray(data), told)
    elif isinstance(data, np.ndarray) and data.size:
        check_ids(data, told, f": {EXCHANGED}")
    colours, provenance = stored.colours, stored.provenance
    return Segmentation(data, stored.grid, stored.labels, name=name, colours=colours, provenance=provenance)


def from_noun(x: Volume | Segmentation) -> Stored:
    """An image or labels on the way to a file; channel names are kept where somebody gave them."""
    if isinstance(x, Volume):
        channels = () if x.channels == plain_channels(len(x.channels)) else x.channels
        return Stored(x.data, x.grid, channels, provenance=x.provenance)
    return Stored(x.data, x.grid, (), x.labels, x.provenance, is_labels=True, colours=x.colours)


def in_memory(stored: Stored, path: Path) -> Array:
    """The array as a file takes it: native byte order, bool as uint8, 64-bit labels in the smallest type.

    path: what is written, for messages. Raises InputError for label ids outside 0 .. 2^31 - 1.
    """
    array = np.asarray(stored.data)
    if stored.is_labels:
        check_ids(array, str(path))
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if stored.is_labels and array.dtype.itemsize == 8:
        return array.astype(label_dtype(int(array.max(initial=0))))
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def with_channel_axis(data: LazyArray) -> LazyArray:
    """(Z, Y, X) becomes (1, Z, Y, X) without a copy; (C, Z, Y, X) stays as it is."""
    if len(data.shape) == 4:
        return data
    if isinstance(data, np.ndarray):
        return data[None]
    return AxisView(data, (None, 0, 1, 2))


def looks_like_labels(data: LazyArray) -> bool:
    """Whether an array could be labels by its values alone: few, whole numbers, none negative."""
    flat = np.asarray(data[...]).ravel()
    values = np.unique(flat[:: max(1, flat.size // _LOOKED_AT)])
    whole = values.dtype.kind in "uib" or bool((values == np.rint(values)).all())
    return whole and 0 < len(values) <= _MOST_LABELS and bool(values[0] >= 0)


def cut_short(path: Path, expected: int, there: int) -> FileError:
    """What to raise where a file holds fewer bytes of voxels than its header says."""
    return FileError(f"{path}: the voxels are cut short (truncated): {expected} bytes expected, at most {there} there")


def looks_like_an_image(data: LazyArray) -> bool:
    """Whether whole numbers (Z, Y, X) that should be labels are intensities: many values, and neighbours that differ.

    Looked at are evenly spaced planes, of each the middle: an image has more than 60 values above 0, and of the
    neighbours that both lie above 0 more than three quarters differ, for its noise makes them so (93 % and more in CT,
    MR and microscopy). Labels, however many, lie in areas: of atlases and dense superpixels w voxels wide one neighbour
    in w differs (49 % at 2), and in maps of separate objects none does, however small they are: few of their voxels
    have such a neighbour, where most of an image's have two.
    """
    planes, rows, columns = data.shape
    step = max(1, -(-planes // _PLANES))
    middle = tuple(slice(max(0, n - _EDGE) // 2, max(0, n - _EDGE) // 2 + _EDGE) for n in (rows, columns))
    ids, labelled, differ, pairs = set[int](), 0, 0, 0
    for z in range((planes % step) // 2, planes, step):
        plane = np.asarray(data[(z, *middle)])
        ids.update(np.unique(plane[plane > 0]).tolist())
        labelled += int(np.count_nonzero(plane > 0))
        for one, next_ in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            both = (one > 0) & (next_ > 0)
            pairs += int(both.sum())
            differ += int((both & (one != next_)).sum())
    return len(ids) > _MOST_CLASSES and labelled <= 2 * pairs and 4 * differ > 3 * pairs


def image_for_labels(labels: Segmentation, path: str | Path) -> str:
    """What is said of labels that look like an image, which lie at `path`; "" for others."""
    if not looks_like_an_image(labels.data):
        return ""
    return (
        f"{path}: it looks like an image, not like labels: many values, and nearly all neighbours differ: {EXCHANGED}"
    )


def _finite(data: Array, name: str) -> Array:
    """The array with NaN and Inf set to 0, and a warning where there are some."""
    # Minimum and maximum pass NaN on: the usual finite image needs no mask.
    if np.isfinite(data.min()) and np.isfinite(data.max()):
        return data
    bad = ~np.isfinite(data)
    count = int(bad.sum())
    if count == data.size:
        raise FileError(f"{name}: no voxel is finite (all are NaN or Inf)")
    warn(f"{name}: {count} voxels are NaN or Inf; they are read as 0")
    return np.where(bad, np.zeros((), data.dtype), data)


def _warn_of_extremes(data: Array, name: str) -> None:
    """Warn of values that single or double precision cannot hold: results computed from them are wrong."""
    if data.dtype.kind == "f":
        if max(abs(float(data.min())), abs(float(data.max()))) > _EXTREME:
            warn(f"{name}: extreme intensities, {data.min():.3g} to {data.max():.3g}: sums over them overflow")
    elif data.dtype.itemsize == 8 and max(abs(int(data.min())), abs(int(data.max()))) > 2**53:
        warn(f"{name}: values of type {data.dtype} beyond 2^53 lose digits: out of the range of double precision")


def _whole_numbers(data: Array, name: str) -> Array:
    """Float labels as integers. Raises InputError where they are not whole."""
    if not np.isfinite(data).all():
        raise InputError(
            f"{name}: labels must be whole numbers; {int((~np.isfinite(data)).sum())} voxels are NaN or Inf"
        )
    rounded = np.rint(data)
    off = np.abs(data - rounded).max(initial=0)
    if off > LABEL_ROUNDING:
        count = int((np.abs(data - rounded) > LABEL_ROUNDING).sum())
        raise InputError(
            f"{name}: labels must be whole numbers; {count} voxels have fractions (an image, or labels that were "
            f"interpolated): {EXCHANGED} Else threshold or round them first"
        )
    check_ids(rounded, name, f": {EXCHANGED}")
    if off > 0:
        warn(f"{name}: labels are not exactly whole numbers (off by up to {off:.1e}); they are rounded")
    return rounded.astype(label_dtype(int(rounded.max(initial=0))))


def _require_one_channel(count: int, name: str) -> None:
    if count != 1:
        raise InputError(f"{name}: labels have one channel; got {count} channels: split them first")


def check_ids(data: Array, name: str, hint: str = "") -> None:
    """Raise InputError for ids outside 0 .. 2^31 - 1. No voxel is looked at where the type holds none.

    hint: what may be wrong, at the end of the message.
    """
    if data.dtype.kind == "b" or (data.dtype.kind == "u" and data.dtype.itemsize < 4):
        return
    low, high = data.min(initial=0), data.max(initial=0)
    if low < 0 or high > MAX_LABEL:
        raise InputError(
            f"{name}: label ids must lie in 0 to {MAX_LABEL}; got {low:.0f} to {high:.0f} (negative or too large){hint}"
        )
