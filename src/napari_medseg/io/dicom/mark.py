"""Whether a file is a DICOM file: judged by its mark, because many have no suffix."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.errors import FileError

PREAMBLE = 128
"""Bytes in front of the mark."""


def is_dicom(path: Path) -> bool:
    """Whether a path is a file with the DICOM mark after its preamble. FileError for one that cannot be opened."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError as error:
        raise FileError(f"{path}: cannot be opened: {error.strerror}") from error
