"""OME-Zarr: images and labels on the disk that are opened and not read. 0.4 and 0.5 are read, 0.5 is written.

OME-Zarr has a scale and a translation per axis only. The full affine, the provenance and whether a store is complete
lie beside them, in the attribute `napari_medseg` of the group; this reader prefers that attribute.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import BaseZarrError, ZarrUserWarning
from zarr.storage import LocalStore

from napari_medseg import geometry
from napari_medseg.arrays.views import AxisView
from napari_medseg.errors import FileError, InputError, MedsegError, NotSupportedError, warn
from napari_medseg.geometry import FloatArray, Shape3
from napari_medseg.io import attributes, choice
from napari_medseg.io.attributes import KEY, Attributes
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.disk import files, locks
from napari_medseg.io.stored import Stored, check_ids, grid_of, with_channel_axis
from napari_medseg.io.zarr import metadata, pyramid
from napari_medseg.io.zarr.array import StoredArray, open_array
from napari_medseg.io.zarr.ome import (
    Multiscale,
    channel_names,
    first_position,
    for_writing,
    label_colours,
    label_names,
    ome_part,
    parse_multiscale,
)
from napari_medseg.volume import MAX_LABEL, Grid, LazyArray, label_dtype

CHUNKS: Shape3 = (64, 64, 64)
"""Default chunk (z, y, x): small enough for a window of a network, large enough for the file system."""
_WRITE_ALL: Any = {"write_empty_chunks": True}
"""Chunks of background are written too, so that a missing chunk was never computed."""
_SCRATCH = "scratch.partial"
"""What a killed run may leave in a store; the next one removes it."""
_LISTED = 5
"""The most images that a message names."""
_LEVELS = 3
_LOOKED = 500
"""The most groups that are looked at for images."""
_UNREADABLE = (KeyError, ValueError, TypeError, OverflowError, AttributeError, OSError, BaseZarrError)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of numpy and zarr about odd metadata: the values that come of them are checked here."""
    with warnings.catch_warnings(), np.errstate(invalid="ignore", over="ignore"):
        warnings.simplefilter("ignore", ZarrUserWarning)
        yield


@_quiet()
def load(path: Path, *, as_labels: bool) -> Stored:
    """The image of a store, or its labels: those at the root, or the only ones in its labels group.

    `STORE#3` is one point of a time series. Raises FileError for what is not OME-Zarr, InputError where the store holds
    several label images or time points and the path chooses none.
    """
    path, part = choice.split(path)
    files.status_of(path)
    if metadata.is_array(path):
        return _plain_array(_opened(path, path), path)
    node = _open(path)
    content = dict(node.attrs)
    ome = ome_part(content)
    labels = _names_of_labels(path) if as_labels and "image-label" not in ome else []
    if len(labels) == 1:
        return load(path / "labels" / (f"{labels[0]}#{part}" if part else labels[0]), as_labels=True)
    if labels:
        names = ", ".join(str(path / "labels" / name) for name in labels)
        raise InputError(f"{path}: it holds {len(labels)} label images: name one of {names}")
    return _image(node, content, path, part)


def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, which opens the array and decodes none of it."""
    return load(path, as_labels=as_labels)


def save(path: Path, stored: Stored, *, chunks: Shape3 = CHUNKS) -> None:
    """Write an image (c, z, y, x) or labels (z, y, x) as OME-Zarr 0.5 with a pyramid, atomically.

    An existing store is replaced if it is ours and of the same kind; FileError otherwise. Raises InputError for label
    ids outside 0 .. 2^31 - 1.
    """
    _check_replaceable(path, is_labels=stored.is_labels)
    levels = pyramid.plan(stored.grid.shape, stored.grid.spacing)
    data, dtype = _as_written(stored)
    channels = 1 if stored.is_labels else with_channel_axis(stored.data).shape[0]
    size = sum(_bytes(level.shape, dtype) for level in levels) * channels
    with files.replacing(path, size, by_folder=True) as temporary:
        arrays = _create(temporary, stored, levels, dtype, chunks=chunks)
        check = partial(check_ids, name=str(path)) if stored.is_labels else None
        pyramid.copy_blocks(data, arrays[0], check)
        for level, fine, coarse in zip(levels[1:], arrays, arrays[1:], strict=False):
            pyramid.reduce_blocks(fine, coarse, level.factors, is_labels=stored.is_labels)
        _mark_complete(temporary)


@contextmanager
def filling_labels(
    path: str | Path,
    grid: Grid,
    labels: Mapping[int, str],
    *,
    dtype: npt.DTypeLike,
    chunks: Shape3 = CHUNKS,
    provenance: Mapping[str, object] | None = None,
    resume: bool = False,
) -> Iterator[zarr.Array[Any]]:
    """An OME-Zarr 0.5 label image on the grid, to be filled inside: the array (z, y, x), of zeros. See `filling`."""
    empty = np.broadcast_to(np.zeros((), dtype), grid.shape)
    stored = Stored(empty, grid, (), labels, provenance or {}, is_labels=True)
    with filling(path, stored, chunks=chunks, resume=resume) as array:
        yield array


@contextmanager
def filling(
    path: str | Path, stored: Stored, *, chunks: Shape3 = CHUNKS, resume: bool = False
) -> Iterator[zarr.Array[Any]]:
    """An OME-Zarr 0.5 image, to be filled inside: the array, of zeros. stored: its grid and names; no voxel is read.

    The store is marked as incomplete until the end. Work that is broken off leaves its voxels in the store, unless the
    disk is full. A complete store of ours at `path` stays until the new one is complete. Chunks of background are
    written too, so that a missing chunk was never computed. Raises FileError where something else is at `path`, another
    process writes there, or the disk is full.

    A caller that keeps a journal in the folder (`journal_of`) can be resumed after any end: with `resume` the array is
    as it was left. The journal is removed when the store is complete. Without one there is nothing to resume.
    """
    path, dtype = Path(path), np.dtype(stored.data.dtype)
    with locks.locked(path):
        _check_replaceable(path, is_labels=stored.is_labels)
        place = locks.partial_beside(path) if _is_complete(path) else path
        journal = place / locks.JOURNAL
        size = int(np.prod(stored.data.shape, dtype=object)) * dtype.itemsize
        try:
            with files.os_errors_as_file_errors(path, place, size):
                if not (resume and journal.is_file()):
                    _create_empty(place, stored, dtype, chunks)
                for torn in list(place.rglob("*.partial")):  # what was being written when a run was killed
                    locks.remove(torn)
                array = zarr.open_array(place / "0", mode="r+").with_config(_WRITE_ALL)
                yield array
                _mark_complete(place)
                if place != path:
                    files.put(place, path)
                    _follow(array, path)
                (path / locks.JOURNAL).unlink(missing_ok=True)
        finally:
            if place != path and not journal.is_file():
                locks.remove(place)


def has_begun(path: Path) -> bool:
    """Whether there is something to resume at a path: a store with a journal."""
    return any((place / locks.JOURNAL).is_file() for place in (path, locks.partial_beside(path)))


def journal_of(array: zarr.Array[Any]) -> Path:
    """Where the journal of an array that is being filled lies; the file is the caller's to write."""
    store = array.store
    assert isinstance(store, LocalStore), "opened by a path"
    return store.root.parent / locks.JOURNAL


@contextmanager
def scratch_like(array: Any) -> Iterator[Any]:
    """An array of zeros like one that is being filled, gone afterwards: in its store, or in memory as it is."""
    store = array.store if isinstance(array, zarr.Array) else None
    if not isinstance(store, LocalStore):
        yield np.zeros(array.shape, array.dtype)
        return
    place = store.root.parent / _SCRATCH  # a run that continues removes it
    try:
        yield zarr.create_array(place, shape=array.shape, chunks=array.chunks, dtype=array.dtype)
    finally:
        locks.remove(place)


def _create_empty(path: Path, stored: Stored, dtype: np.dtype[Any], chunks: Shape3) -> None:
    level = pyramid.Level(stored.grid.shape, (1, 1, 1), (1, 1, 1))
    size = int(np.prod(stored.data.shape, dtype=object)) * dtype.itemsize
    with files.replacing(path, size, by_folder=True) as temporary:
        _create(temporary, stored, [level], dtype, chunks=chunks)


def _follow(array: zarr.Array[Any], path: Path) -> None:
    """Have an array, which its caller keeps, read from the new place of its store."""
    store = array.store
    assert isinstance(store, LocalStore), "opened by a path"
    store.root = path / "0"


def _bytes(shape: Shape3, dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def is_unfinished(path: Path) -> bool:
    """Whether a store of ours is at the path whose last voxel was not written."""
    return metadata.is_group(path) and not _is_complete(path)


def _is_complete(path: Path) -> bool:
    """Whether a store of ours is at the path and not marked as incomplete."""
    if not path.exists():
        return False
    own = _open(path).attrs.get(KEY)
    return isinstance(own, dict) and own.get("complete") is not False


def _mark_complete(path: Path) -> None:
    """Mark a store of ours: every voxel is computed."""
    group = _open(path, mode="r+")
    own: Any = group.attrs[KEY]
    group.attrs[KEY] = {**own, "complete": True}


def _open(path: Path, mode: Any = "r") -> zarr.Group:
    files.status_of(path)
    metadata.check_node(path)
    try:
        # A group may hold copies of the metadata of its nodes. They are not used: only each node's own were checked.
        return zarr.open_group(path, mode=mode, use_consolidated=False)
    except _UNREADABLE as error:
        raise FileError(f"{path}: not an OME-Zarr, or its zarr metadata is damaged: {error!s:.200}") from error


def _image(group: zarr.Group, content: Mapping[str, Any], path: Path, part: str) -> Stored:
    ome = ome_part(content)
    if "multiscales" not in ome:
        images = _images_below(path)
        if images:
            raise ChoiceError(
                f"{path}: a collection of images, such as a plate, where one image is expected: name one of "
                f"{', '.join(images[:_LISTED])}{', ...' if images[_LISTED:] else ''}",
                images,
            )
        inside = ", ".join(sorted(group.group_keys()))
        raise FileError(
            f"{path}: a zarr group without an OME-Zarr image (no multiscales); groups in it: {inside or 'none':.200}"
        )
    multiscale = parse_multiscale(ome, str(path))
    where = path / multiscale.path
    if not metadata.is_array(where):
        raise FileError(f"{path}: the array of its first dataset, {multiscale.path!r:.100}, is missing or damaged")
    array = _opened(where, path)
    _warn_of_odd_levels(array, multiscale, path)
    own = content.get(KEY)
    if not (isinstance(own, dict) and own.get("complete") is False):  # an incomplete store has a warning of its own
        _warn_of_missing_chunks(array, path)
    return _placed(array, multiscale, content, path, part)


def _images_below(path: Path) -> list[str]:
    """The images in a group of groups, at most three levels down (row, well and field of a plate), in natural order.

    The folders between may have no metadata.
    """
    found: list[str] = []
    places, looked = [path], 0
    for _ in range(_LEVELS):
        below = []
        for folder in (f for place in places for f in _folders_in(place)):
            looked += 1
            if looked > _LOOKED:
                return found
            if metadata.is_group(folder) and "multiscales" in ome_part(dict(_open(folder).attrs)):
                found.append(str(folder))
            elif not metadata.is_array(folder):
                below.append(folder)
        places = below
    return found


def _folders_in(path: Path) -> list[Path]:
    try:
        return sorted((f for f in path.iterdir() if f.is_dir()), key=_natural)
    except OSError as error:
        raise FileError(f"{path}: cannot be opened: {error.strerror}") from error


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Orders 2 before 10."""
    return tuple((int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", path.name))


def _opened(where: Path, path: Path) -> StoredArray:
    """An array of a store. FileError names the store where it is damaged."""
    try:
        return open_array(where)
    except MedsegError:
        raise
    except _UNREADABLE as error:
        raise FileError(f"{path}: its zarr metadata is damaged: {error!s:.200}") from error


def _warn_of_missing_chunks(array: StoredArray, path: Path) -> None:
    missing = array.missing_chunks()
    if missing:
        warn(
            f"{path}: {len(missing)} chunks are missing ({missing[0]}{', ...' if missing[1:] else ''}) and read as "
            f"{array.fill_value}: background that was not written, or an incomplete copy"
        )


def _warn_of_odd_levels(array: StoredArray, multiscale: Multiscale, path: Path) -> None:
    """Warn if a coarser level does not cover the box of the finest; only the finest is read."""
    (_, first), *coarser = multiscale.levels
    for name, scale in coarser:
        shape = metadata.shape_of(path / name) if Path(name).name == name else None
        if shape is None or not len(shape) == len(scale) == len(first) == len(array.shape):
            continue
        apart = np.abs(np.multiply(shape, scale) - np.multiply(array.shape, first))
        if np.any(apart > 1.001 * np.array(scale)):
            warn(f"{path}: level {name:.50} of the pyramid has a shape {shape} that does not fit that of the finest")


def _plain_array(array: StoredArray, path: Path) -> Stored:
    """An array without OME metadata around it: its last axes are z, y, x, and its spacing is unknown."""
    count = len(array.shape)
    if count not in (3, 4):
        raise NotSupportedError(f"{path}: a zarr array of {count} axes, shape {array.shape}: expected (z, y, x)")
    _warn_of_missing_chunks(array, path)
    axes = ("c", "z", "y", "x")[4 - count :]
    placed = _placed(array, Multiscale("", axes, {}, {}), {}, path)
    return replace(placed, notes=("a plain zarr array: spacing and orientation are unknown; 1 mm is taken",))


def _placed(
    array: StoredArray, multiscale: Multiscale, content: Mapping[str, Any], path: Path, part: str = ""
) -> Stored:
    """The array with its grid and names.

    Where the group has our attribute, its affine and channels are taken; a scale, a position and names of labels that
    a later tool has changed go before.
    """
    ome = ome_part(content)
    data = _in_order(array, multiscale.axes, path, part)
    own, affine = _own(content, multiscale, path)
    grid = grid_of(str(path), data.shape, affine)
    if isinstance(content.get(KEY), dict):
        grid = _moved(grid, multiscale, path)
    count = data.shape[0] if len(data.shape) == 4 else 1
    channels = own.channels or channel_names(ome, count)
    labels = label_names(ome) or own.labels
    colours = label_colours(ome) or own.colours
    return Stored(data, grid, channels, labels, own.provenance, is_labels="image-label" in ome, colours=colours)


def _in_order(array: StoredArray, axes: tuple[str, ...], path: Path, part: str) -> LazyArray:
    """The array as (c, z, y, x) or (z, y, x): itself if it is stored so, else a lazy view."""
    if len(array.shape) != len(axes):
        raise FileError(f"{path}: {len(axes)} axes ({', '.join(axes)}) are named for an array of shape {array.shape}")
    if 0 in array.shape:
        raise FileError(f"{path}: an array without voxels, shape {array.shape}")
    point = 0
    if "t" in axes and array.shape[axes.index("t")] > 1:
        what = f"a time series, shape ({', '.join(axes)}) = {array.shape}"
        point = choice.point(path, part, array.shape[axes.index("t")], what)
    else:
        choice.refuse_part(path, part)
    if axes in (("z", "y", "x"), ("c", "z", "y", "x")):
        return array
    wanted = [axis for axis in "czyx" if axis in axes]
    stored_order = [axis for axis in axes if axis in wanted]
    if stored_order != wanted:
        warn(f"{path}: the axes are stored in the order {', '.join(axes)}; they are read in the order z, y, x")
    lead = ("c",) if "c" in axes else ()
    order = [axes.index(axis) if axis in axes else None for axis in (*lead, "z", "y", "x")]
    return AxisView(array, order, {axes.index("t"): point} if "t" in axes else {})


def _own(content: Mapping[str, Any], multiscale: Multiscale, path: Path) -> tuple[Attributes, FloatArray]:
    """Our attribute and affine; the affine of the scale if a later tool has changed that and left our attribute."""
    own = content.get(KEY)
    if not isinstance(own, dict):
        return Attributes(), multiscale.affine
    if own.get("complete") is False:
        warn(f"{path}: the segmentation was not finished: voxels that were not reached are 0")
    attributes_ = attributes.from_json_object(own, str(path))
    affine = _as_affine(own.get("affine"), path)
    if not np.allclose(geometry.spacing_of(affine), geometry.spacing_of(multiscale.affine), rtol=0.01):
        warn(
            f"{path}: the scale was changed after napari-medseg wrote it; the scale is used and the orientation is lost"
        )
        return attributes_, multiscale.affine
    return attributes_, affine


def _moved(grid: Grid, multiscale: Multiscale, path: Path) -> Grid:
    """The grid of our affine, moved with a position that a later tool has changed."""
    moved = multiscale.position - first_position(grid)
    if np.all(np.abs(moved) <= 0.01 * np.array(grid.spacing)):
        return grid
    warn(f"{path}: the position was changed after napari-medseg wrote it; the changed one is used")
    axes, signs = geometry.nearest_axes(grid.affine)
    affine = grid.affine.copy()
    affine[list(axes), 3] += moved * signs
    return Grid(grid.shape, affine)


def _as_affine(value: object, path: Path) -> FloatArray:
    try:
        affine = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        affine = np.empty(0)
    if affine.shape != (4, 4):
        raise FileError(f"{path}: its attribute {KEY} holds no 4x4 affine")
    return affine


def _names_of_labels(path: Path) -> list[str]:
    """The label images in the labels group, as its metadata lists them; none if there is no such group."""
    folder = path / "labels"
    if not metadata.is_group(folder):
        return []
    names = ome_part(dict(_open(folder).attrs)).get("labels")
    texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    # Names that lead elsewhere, or that no folder can have, are passed over.
    return [name for name in texts if Path(name).name == name and name.isprintable()]


def _as_written(stored: Stored) -> tuple[LazyArray, np.dtype[Any]]:
    """The array with the axes of the store, and the type it is stored in."""
    data = stored.data if stored.is_labels else with_channel_axis(stored.data)
    dtype = np.dtype(data.dtype).newbyteorder("=")
    if dtype.kind == "b":
        return data, np.dtype(np.uint8)
    if stored.is_labels and dtype.itemsize == 8:
        # The largest id of a lazy array is unknown without reading it. No id is larger than 32 bits hold.
        largest = int(data.max(initial=0)) if isinstance(data, np.ndarray) else MAX_LABEL
        return data, label_dtype(largest)
    return data, dtype


def _create(
    path: Path, stored: Stored, levels: list[pyramid.Level], dtype: np.dtype[Any], *, chunks: Shape3
) -> list[zarr.Array[Any]]:
    """A new group with its metadata, marked as incomplete, and one empty array per level."""
    own = {"affine": stored.grid.affine.tolist(), "complete": False, **attributes.to_json_object(stored)}
    ome = for_writing(stored, levels)
    group = zarr.create_group(path, zarr_format=3, attributes={"ome": ome, KEY: own})
    lead = () if stored.is_labels else (int(with_channel_axis(stored.data).shape[0]),)
    names = ("z", "y", "x") if stored.is_labels else ("c", "z", "y", "x")
    return [
        group.create_array(
            str(number),
            shape=(*lead, *level.shape),
            dtype=dtype,
            chunks=(*(1 for _ in lead), *(min(c, n) for c, n in zip(chunks, level.shape, strict=True))),
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle" if stored.is_labels else "shuffle"),
            dimension_names=names,
            config=_WRITE_ALL,
        )
        for number, level in enumerate(levels)
    ]


def _check_replaceable(path: Path, *, is_labels: bool) -> None:
    """Raise FileError unless the path is free, or a store of ours of the same kind without other files is there.

    A link is refused too: a folder cannot take its place, and its target is not ours to remove.
    """
    if os.path.islink(path):
        raise FileError(f"{path}: cannot be written: a link is there: name what it leads to, {path.resolve()}")
    if not os.path.exists(path):  # unlike Path.exists it takes a name that is too long for one that is free
        return
    kind = "label image" if is_labels else "image"
    way_out = "choose another name or remove it first"
    if not path.is_dir():
        raise FileError(f"{path}: cannot be written: a file is there: {way_out}")
    node = _open(path) if metadata.is_group(path) else None
    if node is None or KEY not in node.attrs:
        raise FileError(f"{path}: this folder cannot be replaced: it was not written by napari-medseg: {way_out}")
    names = {p.name for p in path.iterdir()} - {_SCRATCH}
    others = sorted(name for name in names if not (name.isdecimal() or name.startswith(("zarr.", "."))))
    if ("image-label" in ome_part(dict(node.attrs))) != is_labels or others:
        what = f": {others[0]:.100}" if others else ""
        raise FileError(f"{path}: cannot be replaced by the new {kind}: it holds something else{what}: {way_out}")
