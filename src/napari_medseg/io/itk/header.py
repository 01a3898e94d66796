"""The headers of NRRD and MetaImage, read strictly: only a file whose sizes, type, geometry and bytes fit together is
handed to ITK's parsers, which trust the header.

NRRD: teem.sourceforge.net/nrrd/format.html. MetaImage: itk.org/Wiki/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.disk import files, inflate

_NRRD = (".nrrd", ".nhdr")
_MAX_HEADER = 1 << 20
_BLOCK = 1 << 20
_MAX_AXES = 5
_GZIP, _RAW, _TEXT = ("gzip", "gz"), ("raw",), ("ascii", "text", "txt", "hex")
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
"""The bytes of a voxel of each type."""
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
}


@dataclass(frozen=True)
class ItkHeader:
    """A header whose numbers were checked against each other and against the file."""

    fields: Mapping[str, str]
    """Keys in lower case without blanks."""
    data: Path
    """The file with the voxels: the same or one beside it."""
    start: int
    """Their offset in that file, in bytes."""
    encoding: str
    """"raw", "gzip" (a gzip or zlib stream) or "text"."""
    size: int
    """Bytes of all voxels, inflated."""

    @property
    def has_space(self) -> bool:
        """Whether an NRRD says how its axes lie in the patient."""
        return "space" in self.fields or "spacedimension" in self.fields


def is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in _NRRD


def read(path: Path) -> ItkHeader:
    """The header of a file. Raises FileError for impossible values, NotSupportedError for voxels in several files."""
    files.check_regular(path)
    fields, end = _fields(path)
    check_geometry = _check_nrrd_geometry if is_nrrd(path) else _check_meta_geometry
    sizes = _sizes(path, fields)
    check_geometry(path, fields, int(fields.get("dimension") or fields["ndims"]))
    data = _data_file(path, fields)
    skip = _skipped(path, fields, attached=data == path)
    size = int(np.prod(sizes, dtype=object)) * _bytes_per_voxel(path, fields)
    header = ItkHeader(fields, data, (end if data == path else 0) + skip, _encoding(path, fields), size)
    there = max(0, data.stat().st_size - header.start)
    most = there * inflate.MAX_INFLATION if header.encoding == "gzip" else there
    if header.encoding == "text":
        most *= 8  # at least one digit for each voxel of up to 8 bytes
    if size > most:
        raise _cut_short(path, size, most)
    return header


def check_stream(path: Path, header: ItkHeader) -> None:
    """Inflate compressed voxels once, keeping nothing: FileError if they are damaged, too few or too many."""
    if header.encoding != "gzip":
        return
    stream = inflate.inflater()
    size = 0
    with header.data.open("rb") as file:
        file.seek(header.start)
        try:
            while not stream.eof and size <= header.size and (block := file.read(_BLOCK)):
                while part := stream.decompress(block, _BLOCK):  # empty once all of the input is inflated
                    size += len(part)
                    block = b"" if stream.eof or size > header.size else stream.unconsumed_tail
        except inflate.ERRORS as error:
            raise FileError(f"{path}: the compressed voxels are damaged ({error}): copy the file again") from error
    if size > header.size:
        raise FileError(f"{path}: the compressed voxels are larger than the header says ({header.size} bytes)")
    if not stream.eof:
        raise FileError(f"{path}: the compressed voxels end early (truncated) after {size} bytes: copy the file again")
    if size < header.size:
        raise _cut_short(path, header.size, size)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields in front of the voxels, and their length. FileError if the file is of another format than its name."""
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER)
    nrrd = is_nrrd(path)
    if nrrd and not start.startswith(b"NRRD"):
        raise FileError(f"{path}: not an NRRD file: it does not start with NRRD")
    end = re.search(rb"\r?\n\r?\n" if nrrd else rb"(?m)^ElementDataFile\s*=[^\n]*(\n|\Z)", start)
    if end is None and path.suffix.lower() != ".nhdr":
        what = "NRRD" if nrrd else "MetaImage"
        raise FileError(f"{path}: not a {what} file, or cut short: its header does not end")
    length = end.end() if end else len(start)
    lines = start[:length].decode("latin-1").splitlines()
    pairs = [re.split(r"\s*(?::=?|=)\s*", line, maxsplit=1) for line in lines if not line.startswith("#")]
    keyed = [(p[0].replace(" ", "").lower(), p[1].strip()) for p in pairs if len(p) == 2]
    fields = dict(keyed)
    # A checker that takes the last of two and a parser that takes the first would see different files.
    twice = [key for key in _DECISIVE if sum(key == k for k, _ in keyed) > 1]
    if twice:
        raise FileError(f"{path}: the header is damaged: {twice[0]!r} stands in it twice")
    return fields, length


_DECISIVE = (
    "sizes", "dimsize", "dimension", "ndims", "type", "elementtype", "encoding", "compresseddata", "datafile",
    "elementdatafile", "elementnumberofchannels", "lineskip", "byteskip", "headersize",
)  # fmt: skip


def _sizes(path: Path, fields: Mapping[str, str]) -> tuple[int, ...]:
    """Voxels along each axis; last the components of a voxel, if a MetaImage has several."""
    text = fields.get("sizes") or fields.get("dimsize") or ""
    axes = fields.get("dimension") or fields.get("ndims") or ""
    channels = fields.get("elementnumberofchannels", "1")
    sizes = tuple(int(n) for n in text.split() if n.isdecimal())
    if len(sizes) != len(text.split()) or axes != str(len(sizes)) or not 2 <= len(sizes) <= _MAX_AXES or min(sizes) < 1:
        raise FileError(f"{path}: the header gives impossible dimensions: {axes:.20} axes of sizes {text:.100}")
    if not channels.isdecimal() or int(channels) < 1:
        raise FileError(f"{path}: the header gives an impossible number of channels: {channels:.50}")
    return sizes if channels == "1" else (*sizes, int(channels))


def _bytes_per_voxel(path: Path, fields: Mapping[str, str]) -> int:
    name = fields.get("type") if is_nrrd(path) else fields.get("elementtype")
    size = (_NRRD_BYTES if is_nrrd(path) else _META_BYTES).get(name or "")
    if size is None:
        raise FileError(f"{path}: the type of its voxels is not known: {name!s:.50}")
    return size


def _encoding(path: Path, fields: Mapping[str, str]) -> str:
    if not is_nrrd(path):
        if fields.get("binarydata", "True").lower() == "false":
            return "text"
        return "gzip" if fields.get("compresseddata", "").lower() == "true" else "raw"
    encoding = fields.get("encoding", "").lower()
    for kind, names in (("gzip", _GZIP), ("raw", _RAW), ("text", _TEXT)):
        if encoding in names:
            return kind
    raise NotSupportedError(f"{path}: voxels of encoding {encoding!r:.50} are not read: save it as raw or gzip")


def _skipped(path: Path, fields: Mapping[str, str], *, attached: bool) -> int:
    """Bytes to skip in front of the voxels."""
    text = fields.get("byteskip") or fields.get("headersize") or "0"
    lines = fields.get("lineskip", "0")
    if lines != "0":
        raise NotSupportedError(f"{path}: skipping lines in front of the voxels is not read: save it as one file")
    if text == "-1":  # the voxels are at the end of the file
        return 0
    if not text.isdecimal() or (attached and text != "0"):
        raise FileError(f"{path}: the header gives an impossible offset of the voxels: {text:.50}")
    return int(text)


def _data_file(path: Path, fields: Mapping[str, str]) -> Path:
    """The file with the voxels: this one or one beside it. Raises FileError for a file elsewhere or a missing one."""
    name = fields.get("datafile") or fields.get("elementdatafile") or "LOCAL"
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise NotSupportedError(f"{path}: voxels in several files ({name:.100}) are not read: save them as one")
    data = path.parent / name
    if Path(name).name != name.removeprefix("./") or data.resolve().parent != path.parent.resolve():
        raise FileError(f"{path}: its data file {name!r:.100} lies outside of its folder: that is not allowed")
    try:
        files.check_regular(data)
    except FileError as error:
        raise FileError(f"{path}: its data file cannot be read: {error}") from error
    return data


def _check_meta_geometry(path: Path, fields: Mapping[str, str], axes: int) -> None:
    for key in ("elementspacing", "elementsize"):
        if key in fields:
            _check_spacing(path, _numbers(path, "spacing", fields[key], axes))
    for key in ("offset", "position", "origin"):
        if key in fields:
            _numbers(path, "origin", fields[key], axes)
    for key in ("transformmatrix", "rotation", "orientation"):
        if key in fields:
            _check_direction(path, _numbers(path, "direction matrix", fields[key], axes * axes).reshape(axes, axes))


def _check_nrrd_geometry(path: Path, fields: Mapping[str, str], axes: int) -> None:
    if "spacings" in fields:
        texts = fields["spacings"].lower().split()
        _check_spacing(path, _numbers(path, "spacings", " ".join("1" if t == "nan" else t for t in texts), axes))
    if "spacedirections" in fields:
        vectors = [_vector(path, v) for v in re.findall(r"\([^)]*\)", fields["spacedirections"])]
        if not vectors or any(len(v) != len(vectors) for v in vectors):
            raise FileError(f"{path}: its space directions fit no space: {fields['spacedirections']:.100}")
        _check_spacing(path, np.linalg.norm(vectors, axis=1))
        _check_direction(path, np.array(vectors))
    if "spaceorigin" in fields:
        _vector(path, fields["spaceorigin"])


def _vector(path: Path, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = text.strip("() ").replace(",", " ")
    return _numbers(path, "space vector (direction or origin)", values, len(values.split()))


def _numbers(path: Path, what: str, text: str, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """`count` finite numbers; FileError otherwise."""
    try:
        values = np.array([float(n) for n in text.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise FileError(f"{path}: its {what} must be {count} finite numbers; got {text:.100}")
    return values


def _check_spacing(path: Path, spacing: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    if spacing.min() <= 0:
        raise FileError(f"{path}: its spacing must be positive; got a negative one or zero: {spacing.tolist()}")


def _check_direction(path: Path, matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    lengths = np.linalg.norm(matrix, axis=1)
    if lengths.min() <= 0 or abs(np.linalg.det(matrix / lengths[:, None])) < 1e-3:
        raise FileError(f"{path}: its direction matrix is singular: {matrix.ravel().tolist()}")


def _cut_short(path: Path, expected: int, there: int) -> FileError:
    return FileError(f"{path}: the voxels are cut short (truncated): {expected} bytes expected, at most {there} there")
