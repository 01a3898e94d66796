"""Whether a file is a DICOM file: judged by how it begins, because many have no suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from napari_medseg.errors import FileError

PREAMBLE = 128
"""Bytes in front of the mark."""
_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018)
"""The elements of group 8 that a file without mark and file meta information begins with."""
_FIRST_KINDS = (b"UL", b"CS", b"UI", b"DA", b"TM")
_LONGEST_FIRST = 64
"""Bytes of the longest value that such a file begins with: a UID."""


def is_dicom(path: Path) -> bool:
    """Whether a path is a file that begins as DICOM does. FileError for one that cannot be opened."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 4)
    except OSError as error:
        raise FileError(f"{path}: cannot be opened: {error.strerror}") from error
    return has_mark(start) or is_bare(start)


def has_mark(start: bytes) -> bool:
    """Whether a file with this beginning, of at least PREAMBLE + 4 bytes, has a preamble and the mark."""
    return start[PREAMBLE : PREAMBLE + 4] == b"DICM"


def is_bare(start: bytes) -> bool:
    """Whether a file begins with the elements at once, in little-endian order, as some archives store it."""
    group, element, kind = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little"), start[4:6]
    if group == 2:
        return element == 0 and kind == b"UL" and start[6:8] == b"\4\0"
    length = int.from_bytes(start[6:8] if kind in _FIRST_KINDS else start[4:8], "little")
    return group == 8 and element in _FIRST_ELEMENTS and length <= _LONGEST_FIRST and length % 2 == 0


def files_below(folder: Path) -> Iterator[Path]:
    """The visible files in the folders below a folder, in order. Links to folders and zarr stores are passed over."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f[0] != "." and not f.lower().endswith(".zarr"))
        if Path(place) != folder:
            yield from (Path(place) / name for name in sorted(names) if name[0] != ".")
