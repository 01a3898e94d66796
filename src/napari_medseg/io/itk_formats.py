"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through ITK, whose world (L, P, S) in array order is ours.

`parse` is the only function that hands a file to ITK's C++ parsers: it takes a path and returns plain values, so that
it can run in a process of its own. ITK is imported (seconds) when the first such file is met.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg import geometry
from napari_medseg.errors import FileError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import FloatArray
from napari_medseg.io import attributes, files
from napari_medseg.io.attributes import KEY, Attributes
from napari_medseg.io.stored import Stored, grid_of, in_memory
from napari_medseg.volume import Grid

Array = npt.NDArray[Any]

_NRRD = (".nrrd", ".nhdr")
#: the longest text that MetaImage reads back whole; a longer one makes the file unreadable
_META_TEXT_LIMIT = 30_000
_MAX_HEADER = 1 << 20
#: deflate cannot make more than this of one byte
_MAX_INFLATION = 1032
_BLOCK = 1 << 20
_MAX_AXES = 5
#: the keys of 3D Slicer's segmentations
_SLICER_KEY = re.compile(r"Segment(\d+)_(LabelValue|Name)")


@dataclass(frozen=True)
class Parsed:
    """What ITK makes of a file, in plain values."""

    array: Array
    """(z, y, x) or (c, z, y, x)."""
    affine_lps_xyz: FloatArray
    text: Mapping[str, str]
    """Its metadata dictionary; only our own keys and Slicer's names are ever looked at (others may name a patient)."""


@dataclass(frozen=True)
class _Header:
    """The text part of a file: enough to see whether the voxels are all there."""

    fields: Mapping[str, str]
    """Keys in lower case without blanks."""
    end: int
    """Bytes of the file in front of attached voxels."""


def load(path: Path, *, as_labels: bool) -> Stored:
    """What an NRRD or MetaImage file holds. Raises FileError (damaged, impossible geometry) and NotSupportedError."""
    files.check_regular(path)
    header = _read_header(path)
    _check_sizes(path, header)
    parsed = parse(path)
    if path.suffix.lower() in _NRRD and "space" not in header.fields and "spacedimension" not in header.fields:
        _warn(f"{path}: no orientation is stored (no space): left and right are unknown")
    grid = grid_of(str(path), parsed.array.shape, geometry.from_itk(parsed.affine_lps_xyz))
    own = _attributes(parsed.text, str(path))
    return Stored(parsed.array, grid, own.channels, own.labels, own.provenance, is_labels=own.is_labels)


def save(path: Path, stored: Stored) -> None:
    """Write .nrrd or .mha, compressed, atomically. Raises InputError for integers that ITK's files do not hold."""
    array = _writable(in_memory(stored), path)
    text = _text(path, stored)
    with _itk() as itk, files.replacing(path) as temporary:
        image = _itk_image(itk, array, stored.grid)
        for key, value in text.items():
            image.GetMetaDataDictionary()[key] = value
        try:
            itk.imwrite(image, str(temporary), compression=True)
        except RuntimeError as error:
            raise FileError(f"{path}: cannot be written: {_reason(error)}") from error


def _itk_image(itk: Any, array: Array, grid: Grid) -> Any:
    several = array.ndim == 4
    image = (itk.VectorImage if several else itk.Image)[_pixel_type(itk, array.dtype, several=several), 3].New()
    image.SetRegions([int(n) for n in array.shape[:-4:-1]])
    if several:
        image.SetNumberOfComponentsPerPixel(array.shape[0])
    image.Allocate()
    # Not image_from_array: it turns an array such as (2, 1, 1), contiguous in both orders, the wrong way round.
    itk.array_view_from_image(image)[...] = np.moveaxis(array, 0, -1) if several else array
    affine = geometry.to_itk(grid.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    return image


def parse(path: Path) -> Parsed:
    """Hand a file to ITK. Raises FileError with ITK's own reason, NotSupportedError for a time series."""
    with _itk() as itk:
        try:
            return _parsed(itk, path)
        except NotSupportedError:
            raise
        except RuntimeError as error:
            raise FileError(f"{path}: cannot be read: {_reason(error)}") from error


def _parsed(itk: Any, path: Path) -> Parsed:
    image_io = _image_io(itk, path)
    image_io.SetFileName(str(path))
    image_io.ReadImageInformation()
    sizes = _sizes_of_one_volume(image_io, path)
    dtype = _voxel_type(image_io, path)
    components = int(image_io.GetNumberOfComponents())
    _check_whole(path, int(np.prod(sizes, dtype=object)) * components * dtype.itemsize)
    several = components > 1
    image_type = (itk.VectorImage if several else itk.Image)[_pixel_type(itk, dtype, several=several), 3]
    reader = itk.ImageFileReader[image_type].New(FileName=str(path), ImageIO=image_io)
    reader.Update()
    image = reader.GetOutput()
    array = itk.array_from_image(image).astype(dtype, copy=False)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    affine[:3, 3] = np.asarray(image.GetOrigin())
    text = {key: value for key, value in dict(image).items() if isinstance(value, str)}
    return Parsed(np.ascontiguousarray(np.moveaxis(array, -1, 0)) if several else array, affine, text)


@contextmanager
def _itk() -> Iterator[Any]:
    """The itk package, without its warnings that its wrappings are older than Python's rules for types.

    As errors (in tests) those would be raised inside its C++, which crashes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import itk

        yield itk


def _image_io(itk: Any, path: Path) -> Any:
    """ITK's reader for a name; ITK itself does not know upper-case suffixes."""
    return itk.NrrdImageIO.New() if path.suffix.lower() in _NRRD else itk.MetaImageIO.New()


def _voxel_type(image_io: Any, path: Path) -> np.dtype[Any]:
    name = image_io.GetComponentTypeAsString(image_io.GetComponentType())
    if name == "unknown":
        raise FileError(f"{path}: the type of its voxels is not known")
    kind = "f" if name in ("float", "double") else "u" if name.startswith("unsigned") else "i"
    return np.dtype(f"{kind}{image_io.GetComponentSize()}")


def _pixel_type(itk: Any, dtype: np.dtype[Any], *, several: bool) -> Any:
    """The type to read with: the same, or the next that ITK's Python has and that holds every value (to 2^53)."""
    same = {"u1": itk.UC, "i2": itk.SS, "u2": itk.US, "f4": itk.F, "f8": itk.D}
    scalar_only = {"i4": itk.SI, "u4": itk.UI}
    code = f"{dtype.kind}{dtype.itemsize}"
    if code == "i1":
        return itk.SS
    return same.get(code) or (None if several else scalar_only.get(code)) or itk.D


def _writable(array: Array, path: Path) -> Array:
    """The array in a type that ITK's Python writes; InputError where none holds its values."""
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
    """The metadata to write: our JSON, and in NRRD the names of labels as 3D Slicer has them."""
    own = attributes.to_text(stored)
    if path.suffix.lower() not in _NRRD:
        if len(own) > _META_TEXT_LIMIT:
            _warn(f"{path}: names and provenance are too long for MetaImage and are left out: write .nrrd to keep them")
            own = ""
        return {KEY: own} if own else {}
    text = {KEY: own} if own else {}
    for number, (label, name) in enumerate(stored.labels.items()):
        text[f"Segment{number}_ID"] = f"Segment_{label}"
        text[f"Segment{number}_LabelValue"] = str(label)
        text[f"Segment{number}_Layer"] = "0"
        text[f"Segment{number}_Name"] = name
    return text


def _attributes(text: Mapping[str, str], where: str) -> Attributes:
    """Our JSON where it is there, else Slicer's names of labels."""
    own = attributes.from_text(text.get(KEY, ""), where)
    if own is not None:
        return own
    segments: dict[str, dict[str, str]] = {}
    for key, value in text.items():
        match = _SLICER_KEY.fullmatch(key)
        if match:
            segments.setdefault(match[1], {})[match[2]] = value
    complete = [s for s in segments.values() if "Name" in s and s.get("LabelValue", "").isdecimal()]
    return Attributes({int(s["LabelValue"]): s["Name"] for s in complete}, is_labels=bool(complete))


def _read_header(path: Path) -> _Header:
    """The text in front of the voxels. Raises FileError where it is not of the format that the name says."""
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER)
    nrrd = path.suffix.lower() in _NRRD
    if nrrd and not start.startswith(b"NRRD"):
        raise FileError(f"{path}: not an NRRD file: it does not start with NRRD")
    end = re.search(rb"\r?\n\r?\n" if nrrd else rb"(?m)^ElementDataFile\s*=[^\n]*(\n|\Z)", start)
    if end is None and not (nrrd and path.suffix.lower() == ".nhdr"):
        what = "NRRD" if nrrd else "MetaImage"
        raise FileError(f"{path}: not a {what} file, or cut short: its header does not end")
    length = end.end() if end else len(start)
    lines = start[:length].decode("latin-1").splitlines()
    pairs = [re.split(r"\s*(?::=?|=)\s*", line, maxsplit=1) for line in lines if not line.startswith("#")]
    return _Header({p[0].replace(" ", "").lower(): p[1].strip() for p in pairs if len(p) == 2}, length)


def _data_file(path: Path, header: _Header) -> Path:
    """The file with the voxels: this one or one beside it. Raises FileError for one that is elsewhere or missing."""
    name = header.fields.get("datafile") or header.fields.get("elementdatafile") or "LOCAL"
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise NotSupportedError(f"{path}: voxels in several files ({name}) are not read: save them as one")
    data = path.parent / name
    if Path(name).name != name.removeprefix("./") or data.resolve().parent != path.parent.resolve():
        raise FileError(f"{path}: its data file {name!r} lies outside of its folder: that is not allowed")
    files.check_regular(data)
    return data


def _check_sizes(path: Path, header: _Header) -> None:
    """Raise unless the header's sizes can be those of a file of this length; ITK would allocate whatever it says."""
    text = header.fields.get("sizes") or header.fields.get("dimsize") or ""
    try:
        sizes = [int(n) for n in text.split()]
    except ValueError:
        sizes = []
    dimensions = header.fields.get("dimension") or header.fields.get("ndims") or ""
    if dimensions != str(len(sizes)) or not 2 <= len(sizes) <= _MAX_AXES or min(sizes) < 1:
        raise FileError(f"{path}: the header gives impossible dimensions: {dimensions} axes of sizes {text}")
    spacing = header.fields.get("elementspacing", "")
    if "-" in spacing.replace("e-", ""):
        raise FileError(f"{path}: its spacing must be positive; got a negative one: {spacing}")
    voxels = int(np.prod(sizes, dtype=object))
    there = _data_file(path, header).stat().st_size
    if voxels > there * _MAX_INFLATION:
        raise _cut_short(path, voxels, there * _MAX_INFLATION)


def _sizes_of_one_volume(image_io: Any, path: Path) -> tuple[int, ...]:
    sizes = tuple(int(image_io.GetDimensions(axis)) for axis in range(image_io.GetNumberOfDimensions()))
    if any(n > 1 for n in sizes[3:]):
        raise NotSupportedError(
            f"{path}: an image of shape (x, y, z, ...) = {sizes}; which time point or channel is meant is not guessed: "
            f"save one 3D volume of it"
        )
    return sizes


def _check_whole(path: Path, expected: int) -> None:
    """Raise FileError where the voxels are cut; ITK gives no reason, or fills what is missing and says nothing."""
    header = _read_header(path)
    data = _data_file(path, header)
    offset = header.end if data == path else 0
    encoding = header.fields.get("encoding", "raw").lower()
    if header.fields.get("compresseddata", "").lower() == "true" or encoding in ("gzip", "gz"):
        there = _inflated_size(data, offset)
    elif encoding == "raw":
        there = data.stat().st_size - offset
    else:
        return
    if there < expected:
        raise _cut_short(path, expected, there)


def _inflated_size(path: Path, offset: int) -> int:
    """The bytes that a zlib or gzip stream holds, its checksum checked; FileError for a damaged one."""
    inflate = zlib.decompressobj(wbits=47)  # 47: zlib or gzip, whichever it is
    size = 0
    with path.open("rb") as file:
        file.seek(offset)
        try:
            while block := file.read(_BLOCK):
                size += len(inflate.decompress(block))
        except zlib.error as error:
            raise FileError(f"{path}: the compressed voxels are damaged ({error}): copy the file again") from error
    if not inflate.eof:
        raise FileError(f"{path}: the compressed voxels end early (truncated) after {size} bytes: copy the file again")
    return size


def _cut_short(path: Path, expected: int, there: int) -> FileError:
    return FileError(f"{path}: the voxels are cut short (truncated): {expected} bytes expected, at most {there} there")


def _reason(error: RuntimeError) -> str:
    """The part of ITK's message that says why, without source files and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("/") and "ITK ERROR" not in line]
    return " ".join(kept[-2:]) or re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1] if lines else "unknown")


def _warn(text: str) -> None:
    warnings.warn(text, MedsegWarning, stacklevel=4)
