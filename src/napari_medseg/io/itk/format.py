"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through ITK, whose world (L, P, S) in array order is ours.

ITK reads a file in a child process, after its header was checked here. This process loads ITK for writing only.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg import geometry
from napari_medseg.errors import FileError, InputError, NotSupportedError, warn
from napari_medseg.io import attributes, choice
from napari_medseg.io.attributes import KEY
from napari_medseg.io.disk import files, memory
from napari_medseg.io.itk import place, slicer, types
from napari_medseg.io.itk.header import ItkHeader, check_stream, inflated, is_nrrd, read
from napari_medseg.io.sandbox.parent import Limits, Reply, ask
from napari_medseg.io.stored import Stored, Unread, grid_of, in_memory
from napari_medseg.volume import Grid, LazyArray

Array = npt.NDArray[Any]

_PARSER = "napari_medseg.io.itk.parser"
_META_TEXT_LIMIT = 30_000
"""Characters of the longest text that MetaImage reads back; a longer one makes the file unreadable."""
_SLOWEST_BYTES_PER_S = 20e6
"""ITK's pace on compressed voxels and a busy machine."""
_OWN_TEXT = rf"{KEY}|{slicer.KEY.pattern}"
"""The keys of the only texts that leave the child: others may name a patient."""


def load(path: Path, *, as_labels: bool) -> Stored:
    """What an NRRD or MetaImage file holds, or one layer of a segmentation of 3D Slicer: `FILE#1`.

    Raises FileError (damaged, impossible geometry), NotSupportedError, and ChoiceError where a segmentation has several
    layers, which may overlap.
    """
    path, part = choice.split(path)
    header = _checked_header(path)
    if _is_named_like_a_pattern(path, header):
        facts = _asked(path, header, voxels=False).facts
        return _described(_read_here(path, header, facts), facts, header, path, part)
    check_stream(path, header)
    reply = _asked(path, header, voxels=True)
    (array,) = reply.arrays
    return _described(array, reply.facts, header, path, part)


def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, without the voxels, whose stream is not inflated."""
    path, part = choice.split(path)
    header = _checked_header(path)
    facts = _asked(path, header, voxels=False).facts
    return _described(Unread(tuple(facts["shape"]), facts["dtype"]), facts, header, path, part)


def _checked_header(path: Path) -> ItkHeader:
    header = read(path)
    memory.check(path, header.size, header.stored_size)
    return header


def _asked(path: Path, header: ItkHeader, *, voxels: bool) -> Reply:
    request = {"path": str(path.absolute()), "text": _OWN_TEXT, "voxels": voxels}
    return ask(_PARSER, str(path), request, _limits(header.size))


def _described(array: LazyArray, facts: Mapping[str, Any], header: ItkHeader, path: Path, part: str) -> Stored:
    """The array, or the chosen layer of it, with all that the header says about it."""
    nrrd, components = is_nrrd(path), array.shape[0] if len(array.shape) == 4 else 1
    place.warn_of_oddities(header.fields, path, nrrd=nrrd, components=components)
    affine = place.in_millimetres(np.asarray(facts["affine_lps_xyz"]), header.fields, path, nrrd=nrrd)
    grid = grid_of(str(path), array.shape, geometry.from_itk(affine))
    own = attributes.from_text(facts["text"].get(KEY, ""), str(path))
    segments = slicer.segments(facts["text"])
    layer = slicer.layer(path, part, segments, components)
    if components > 1 and segments:
        array = array[layer] if isinstance(array, np.ndarray) else Unread(array.shape[1:], array.dtype)
        own = None  # ours describes no layers
    if own is None:
        own = slicer.attributes_of(segments, layer)
    return Stored(array, grid, own.channels, own.labels, own.provenance, is_labels=own.is_labels, colours=own.colours)


def _is_named_like_a_pattern(path: Path, header: ItkHeader) -> bool:
    """Whether ITK would take the name of the data file for a pattern of names: any that has a % in a MetaImage."""
    return not is_nrrd(path) and header.files != (path,) and "%" in header.files[0].name


def _read_here(path: Path, header: ItkHeader, facts: Mapping[str, Any]) -> Array:
    """The voxels of a detached MetaImage, read without ITK."""
    if header.encoding == "text":
        raise NotSupportedError(f"{path}: text in a file with a % in its name is not read: rename it")
    if header.encoding == "gzip":
        content = b"".join(inflated(path, header))
    else:
        with header.files[0].open("rb") as file:
            file.seek(header.start)
            content = file.read(header.size)
    is_big = any(
        header.fields.get(key, "").lower() in ("true", "1") for key in ("binarydatabyteordermsb", "elementbyteordermsb")
    )
    dtype, shape = np.dtype(facts["dtype"]), facts["shape"]
    in_file = shape if len(shape) == 3 else [*shape[1:], shape[0]]
    array = np.frombuffer(content, dtype.newbyteorder(">" if is_big else "<")).reshape(in_file).astype(dtype)
    return array if len(shape) == 3 else np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _limits(size: int) -> Limits:
    """What ITK may take for an image of `size` bytes: the stored and the converted array, and a copy to send."""
    # ITK reads types that its Python lacks as double; the smallest of them has one byte.
    return Limits(memory_bytes=(256 << 20) + 18 * size, seconds=8 + size / _SLOWEST_BYTES_PER_S, reply_bytes=2 * size)


def save(path: Path, stored: Stored) -> None:
    """Write .nrrd or .mha, or .nhdr or .mhd with the voxels beside it; compressed, atomically.

    Raises InputError for integers that ITK's files do not hold.
    """
    array = _writable(in_memory(stored, path), path)
    text = _text(path, stored)
    is_detached = path.suffix.lower() in (".nhdr", ".mhd")
    size = array.nbytes
    target = (
        files.replacing_parts(path, size, named_by_suffix=False, stem=_data_stem(path))
        if is_detached
        else files.replacing(path, size)
    )
    with _itk() as itk, target as temporary, _without_percent(temporary, path) as place:
        image = _itk_image(itk, array, stored.grid)
        for key, value in text.items():
            image.GetMetaDataDictionary()[key] = value
        try:
            with _silent():
                itk.imwrite(image, str(place), compression=True)
            # ITK does not notice a disk that is full at its last bytes.
            check_stream(place, read(place))
        except (RuntimeError, FileError) as error:
            if files.is_full(path.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            reason = types.reason(error) if isinstance(error, RuntimeError) else "ITK left it incomplete"
            raise FileError(f"{path}: cannot be written: {reason}") from error


@contextmanager
def _without_percent(temporary: Path, path: Path) -> Iterator[Path]:
    """Where ITK writes a file that is meant for `temporary`: elsewhere if a % in its path would be a pattern.

    ITK formats the whole path of the voxels of a .mhd by the C function, not their name only.
    """
    if path.suffix.lower() != ".mhd" or "%" not in str(temporary):
        yield temporary
        return
    with TemporaryDirectory(prefix="medseg-") as elsewhere:
        yield Path(elsewhere, temporary.name)
        for part in sorted(Path(elsewhere).iterdir()):
            shutil.copyfile(part, temporary.with_name(part.name))


def _data_stem(path: Path) -> str:
    """What data files are called by, for readers that take a % for a pattern of names and LIST for a list of them.

    Another name stands for such a one; a digest keeps two files apart that would get the same.
    """
    if any(ord(letter) < 32 for letter in path.name):
        raise InputError(f"{path}: a line end in the name cannot be written into the header: choose another name")
    if "%" not in path.stem and not path.stem.upper().startswith("LIST"):
        return path.stem
    return f"_{path.stem.replace('%', '_')}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}"


def _itk_image(itk: Any, array: Array, grid: Grid) -> Any:
    several = array.ndim == 4
    image = (itk.VectorImage if several else itk.Image)[types.pixel_type(itk, array.dtype, several=several), 3].New()
    image.SetRegions([int(n) for n in array.shape[:-4:-1]])
    if several:
        image.SetNumberOfComponentsPerPixel(array.shape[0])
    image.Allocate()
    # Not image_from_array: it reverses the axes of an array such as (2, 1, 1), which is contiguous in both orders.
    itk.array_view_from_image(image)[...] = np.moveaxis(array, 0, -1) if several else array
    affine = geometry.to_itk(grid.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    return image


@contextmanager
def _itk() -> Iterator[Any]:
    """The itk package, without its deprecation warnings: its wrappings are older than Python's rules for types.

    As errors, in tests, they would be raised inside its C++, which then crashes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import itk

        yield itk
        _keep_types_of_swig()


@contextmanager
def _silent() -> Iterator[None]:
    """Without stderr, where ITK's C++ repeats its errors. What other threads write there meanwhile is lost too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@functools.cache
def _keep_types_of_swig() -> None:
    """Keep the table of types that ITK's wrappings share beyond the end of the interpreter.

    At its end SWIG frees that table by means of a type that may be gone already, and the process crashes (seen with ITK
    5.4.7 after napari's widgets). A reference that nobody returns keeps the table.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("swig_runtime_data"):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module.type_pointer_capsule))


def _writable(array: Array, path: Path) -> Array:
    """The array in a type that ITK's Python writes; InputError if none holds its values."""
    if array.dtype == np.int8:
        return array.astype(np.int16)
    wide = array.dtype.kind in "iu" and (array.dtype.itemsize == 8 or (array.ndim == 4 and array.dtype.itemsize == 4))
    if not wide:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in (np.int16, np.uint16) if array.ndim == 4 else (np.int32, np.uint32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise InputError(f"{path}: values from {low} to {high} do not fit this format: write .nii.gz instead")


def _text(path: Path, stored: Stored) -> dict[str, str]:
    """The metadata to write: our JSON, and in NRRD the names of labels in the form of 3D Slicer."""
    own = attributes.to_text(stored)
    if not is_nrrd(path):
        if len(own) > _META_TEXT_LIMIT:
            warn(f"{path}: names and provenance are too long for MetaImage and are left out: write .nrrd to keep them")
            own = ""
        return {KEY: own} if own else {}
    text = {KEY: own} if own else {}
    for number, (label, name) in enumerate(stored.labels.items()):
        text[f"Segment{number}_ID"] = f"Segment_{label}"
        text[f"Segment{number}_LabelValue"] = str(label)
        text[f"Segment{number}_Layer"] = "0"
        text[f"Segment{number}_Name"] = name
        if label in stored.colours:  # from 0 to 1
            text[f"Segment{number}_Color"] = " ".join(f"{value / 255:.6g}" for value in stored.colours[label])
    return text
