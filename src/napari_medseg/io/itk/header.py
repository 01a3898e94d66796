"""The headers of NRRD and MetaImage, read strictly: only a file whose sizes, type, geometry and bytes fit together is
handed to ITK's parsers, which trust the header.

NRRD: teem.sourceforge.net/nrrd/format.html. MetaImage: itk.org/Wiki/MetaIO/Documentation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.io.disk import files, inflate
from napari_medseg.io.itk import place
from napari_medseg.io.stored import cut_short

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
    files: tuple[Path, ...]
    """The files with the voxels, equal parts of them in order: the same file, or others in its folder."""
    start: int
    """Their offset in each of these files, in bytes."""
    encoding: str
    """"raw", "gzip" (a gzip or zlib stream) or "text"."""
    size: int
    """Bytes of all voxels, inflated."""
    inflated_start: int = 0
    """Bytes in front of the voxels within each inflated stream."""

    @property
    def stored_size(self) -> int:
        """Bytes of all files with voxels."""
        return sum(file.stat().st_size for file in self.files)


def is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in _NRRD


def read(path: Path) -> ItkHeader:
    """The header of a file. Raises FileError for impossible values, NotSupportedError for what is not read."""
    files.check_regular(path)
    fields, end = _fields(path)
    check_geometry = _check_nrrd_geometry if is_nrrd(path) else _check_meta_geometry
    sizes = _sizes(path, fields)
    check_geometry(path, fields, int(fields.get("dimension") or fields["ndims"]))
    parts = _data_files(path, fields)
    skip = _skipped(path, fields, attached=parts == (path,))
    encoding = _encoding(path, fields)
    skips_inflated = encoding == "gzip" and is_nrrd(path)
    size = int(np.prod(sizes, dtype=object)) * _bytes_per_voxel(path, fields)
    start = (end if parts == (path,) else 0) + (0 if skips_inflated else skip)
    header = ItkHeader(fields, parts, start, encoding, size, skip if skips_inflated else 0)
    if sizes[-1] % len(parts):
        raise FileError(f"{path}: its {len(parts)} data files hold no equal parts of {sizes[-1]} slices")
    for part in parts:
        there = max(0, part.stat().st_size - header.start)
        most = there * inflate.MAX_INFLATION if encoding == "gzip" else there
        if encoding == "text":
            most *= 8  # at least one digit for each voxel of up to 8 bytes
        if size // len(parts) > most:
            raise cut_short(path, size // len(parts), most)
        extra = there - size // len(parts)
        if encoding == "raw" and extra > 0 and not _ends_with_voxels(fields):
            warn(f"{path}: {extra} extra bytes after the voxels (a file is longer than its header says)")
    return header


def check_stream(path: Path, header: ItkHeader) -> None:
    """Inflate compressed voxels once, keeping nothing: FileError if they are damaged, too few or too many."""
    if header.encoding == "gzip":
        for _ in inflated(path, header):
            pass


def inflated(path: Path, header: ItkHeader) -> Iterator[bytes]:
    """The compressed voxels block by block, with what lies in front of them in each stream. Raises as `check_stream`.

    The bytes are good only once the last one has come.
    """
    for part in header.files:
        yield from _inflated(path, part, header.start, header.size // len(header.files) + header.inflated_start)


def _inflated(path: Path, part: Path, start: int, expected: int) -> Iterator[bytes]:
    # NRRD's library takes a zlib stream for plain voxels.
    stream = inflate.inflater(inflate.GZIP) if is_nrrd(path) else inflate.inflater()
    size = 0
    with part.open("rb") as file:
        file.seek(start)
        try:
            while not stream.eof and size <= expected and (block := file.read(_BLOCK)):
                while piece := stream.decompress(block, _BLOCK):  # empty once all of the input is inflated
                    size += len(piece)
                    yield piece
                    block = b"" if stream.eof or size > expected else stream.unconsumed_tail
        except inflate.ERRORS as error:
            raise FileError(f"{path}: the compressed voxels are damaged ({error}): copy the file again") from error
    if size > expected:
        raise FileError(f"{path}: the compressed voxels are larger than the header says ({expected} bytes)")
    if not stream.eof:
        raise FileError(f"{path}: the compressed voxels end early (truncated) after {size} bytes: copy the file again")
    if size < expected:
        raise cut_short(path, expected, size)


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
    # A name in another encoding comes back as the bytes that it was.
    lines = start[:length].decode(errors="surrogateescape").split("\n")
    if nrrd:
        lines, listed = _split_list(lines)
    pairs = [re.split(r"\s*(?::=?|=)\s*", line, maxsplit=1) for line in lines if not line.startswith("#")]
    keyed = [(p[0].replace(" ", "").lower(), p[1].strip()) for p in pairs if len(p) == 2]
    if not nrrd:
        keyed = list(_spelled(path, pairs, keyed))
    fields = dict(keyed)
    # A checker that takes the last of two and a parser that takes the first would see different files.
    twice = [key for key in _DECISIVE if sum(key == k for k, _ in keyed) > 1]
    if twice:
        raise FileError(f"{path}: the header is damaged: {twice[0]!r} stands in it twice")
    return (fields | {_LISTED: "\n".join(listed)} if nrrd else fields), length


def _spelled(path: Path, pairs: Sequence[Sequence[str]], keyed: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The fields of a MetaImage but for those that ITK passes over: it tells large letters from small ones."""
    names = (pair[0].strip() for pair in pairs if len(pair) == 2)
    for name, (key, value) in zip(names, keyed, strict=True):
        expected = _META_FIELDS.get(key, name)
        if name == expected:
            yield key, value
        else:
            warn(f"{path}: its field {name!r:.50} is passed over: MetaImage spells it {expected}")


_META_FIELDS = {
    name.lower(): name
    for name in (
        "NDims", "DimSize", "ElementType", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin",
        "TransformMatrix", "Rotation", "Orientation", "CenterOfRotation", "AnatomicalOrientation", "DistanceUnits",
        "ElementNumberOfChannels", "ElementDataFile", "HeaderSize", "BinaryData", "CompressedData",
        "BinaryDataByteOrderMSB", "ElementByteOrderMSB",
    )
}  # fmt: skip


def _split_list(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The fields of an NRRD, and the names of data files that follow them, one a line, behind "data file: LIST"."""
    for number, line in enumerate(lines, start=1):
        if _IS_LIST.match(line):
            listed = [name.strip() for name in lines[number:]]
            return list(lines[:number]), [name for name in listed if name]
    return list(lines), []


_LISTED = "\nlisted"
"""The key of the names behind LIST, which no field of a file can have."""
_IS_LIST = re.compile(r"\s*data ?file\s*:\s*LIST\b", re.IGNORECASE)


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
    text = _skip_of(fields)
    lines = fields.get("lineskip", "0")
    if lines != "0":
        raise NotSupportedError(f"{path}: skipping lines in front of the voxels is not read: save it as one file")
    if _ends_with_voxels(fields):
        return 0
    if not text.isdecimal() or (attached and text != "0"):
        raise FileError(f"{path}: the header gives an impossible offset of the voxels: {text:.50}")
    return int(text)


def _skip_of(fields: Mapping[str, str]) -> str:
    return fields.get("byteskip") or fields.get("headersize") or "0"


def _ends_with_voxels(fields: Mapping[str, str]) -> bool:
    """Whether the voxels are at the end of the file, whatever lies in front of them."""
    return _skip_of(fields) == "-1"


def _data_files(path: Path, fields: Mapping[str, str]) -> tuple[Path, ...]:
    """The files with the voxels: this one, or others in its folder. Raises FileError for one elsewhere or missing."""
    name = fields.get("datafile") or fields.get("elementdatafile") or "LOCAL"
    if name.upper() == "LOCAL":
        return (path,)
    pattern = _PATTERN.fullmatch(name)
    if not is_nrrd(path) and (re.match(r"LIST\b", name) or re.search(r"%.*\s[-\d]", name)):
        raise NotSupportedError(f"{path}: voxels in several files ({name:.100}) are not read: save them as one")
    names = [name]
    if is_nrrd(path) and name.upper().startswith("LIST"):
        names = fields[_LISTED].split("\n")
    elif is_nrrd(path) and pattern:
        names = _numbered(path, name, *pattern.groups())
    elif is_nrrd(path) and _LIKE_A_PATTERN.search(name):
        raise FileError(f"{path}: its data files {name!r:.100} are no pattern with first, last and step")
    if not 1 <= len(names) <= _MAX_FILES or not names[0]:
        raise FileError(f"{path}: it names {len(names)} data files, where 1 to {_MAX_FILES} are expected")
    return tuple(_data_file(path, part) for part in names)


_PATTERN = re.compile(r"([^%]*)%(0?\d?)d([^%]*?)\s+(-?\d{1,9})\s+(-?\d{1,9})\s+(-?\d{1,9})(?:\s+\d)?")
_LIKE_A_PATTERN = re.compile(r"%\d*d")
"""What NRRD's library takes for a pattern rather than for a name."""
_MAX_FILES = 10_000


def _numbered(path: Path, text: str, before: str, width: str, after: str, *numbers: str) -> list[str]:
    """The names of a pattern: from the first to the last number by steps, the last one included if it is met."""
    first, last, step = (int(number) for number in numbers)
    if step == 0 or (last - first) * step < 0 or abs(last - first) // abs(step) >= _MAX_FILES:
        raise FileError(f"{path}: its data files {text!r:.100} count from {first} to {last} by {step}: impossible")
    return [f"{before}{f'%{width}d' % number}{after}" for number in range(first, last + (1 if step > 0 else -1), step)]


def _data_file(path: Path, name: str) -> Path:
    """One data file: in the header's folder or below, but in no hidden folder there. FileError otherwise."""
    data = path.parent / name
    if "\0" in name:
        raise FileError(f"{path}: the name of its data file holds a null byte: {name!r:.100}")
    inside = Path(os.path.realpath(data)).is_relative_to(os.path.realpath(path.parent))
    if not inside or Path(name).is_absolute() or any(part.startswith(".") for part in Path(name).parts[:-1]):
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
    place.check_space(fields, path)
    if "spacings" in fields:
        texts = fields["spacings"].lower().split()
        _check_spacing(path, _numbers(path, "spacings", " ".join("1" if t == "nan" else t for t in texts), axes))
    if "spacedirections" in fields:
        vectors = [_vector(path, v) for v in re.findall(r"\([^)]*\)", fields["spacedirections"])]
        if len(vectors) == axes - 1 and "time" in fields.get("kinds", "").lower().split():
            raise NotSupportedError(
                f"{path}: a time series, in an axis beside those of space; which time point is meant is not guessed: "
                f"save one 3D volume of it"
            )
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
