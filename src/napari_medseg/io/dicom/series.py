"""The series of a folder of DICOM files: a list without any text of a patient, and the choice of one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from napari_medseg.errors import FileError, InputError
from napari_medseg.io import choice
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.dicom.header import DicomHeader, items, numbers, read_header
from napari_medseg.io.dicom.mark import is_dicom
from napari_medseg.io.disk import files

_SUFFIXES = (".dcm", ".ima")
"""A file with such a name that is no DICOM is an error; other files are passed over."""
_CODE = re.compile(r"[A-Z]{2,10}")
"""A modality is a code; anything else in its place could be a text about a patient."""
_LISTED = 20


@dataclass(frozen=True)
class Series:
    """A DICOM series in a folder, in numbers and codes only."""

    id: str
    """Six hexadecimal digits of the SHA-256 of its UID: `FOLDER#ID` names it."""
    modality: str
    """"CT", "MR", ...; "?" if it is no code."""
    number: int
    slices: int
    size: tuple[int, int]
    """Rows, columns."""
    spacing_mm: tuple[float, float] | None
    """Between rows, between columns; None if it is not stated."""
    headers: tuple[DicomHeader, ...]

    @property
    def is_segmentation(self) -> bool:
        return self.headers[0].is_segmentation

    @property
    def has_pixels(self) -> bool:
        """False of reports, plans and the like."""
        return any(header.pixels_at for header in self.headers)

    def describe(self) -> str:
        """One line: id, modality, number, slices, size, spacing."""
        spacing = f" at {self.spacing_mm[0]:.4g}, {self.spacing_mm[1]:.4g} mm" if self.spacing_mm else ""
        rows, columns = self.size
        return f"#{self.id} {self.modality}, series {self.number}, {self.slices} slices of {rows} x {columns}{spacing}"


def list_series(path: str | PathLike[str]) -> list[Series]:
    """The series of the DICOM files in a folder (not below it), or of one file, by number and id.

    Files that are no DICOM are passed over. Raises FileError for those that are empty or have the name of a DICOM file,
    for damaged files, and for a folder without any DICOM file.
    """
    found: dict[str, list[DicomHeader]] = {}
    for file in _files(Path(path)):
        header = read_header(file)
        if header.is_directory:
            continue
        uid = header.text("SeriesInstanceUID")
        if not uid and not header.pixels_at:
            raise FileError(f"{file}: no SeriesInstanceUID: not an image, or cut short (truncated)")
        found.setdefault(uid, []).append(header)
    if not found:
        raise FileError(f"{path}: no DICOM image in this folder")
    return sorted((_series(uid, headers) for uid, headers in found.items()), key=lambda s: (s.number, s.id))


def choose(path: Path, *, as_labels: bool) -> Series:
    """The series that a path means: the only one, or the one behind the "#".

    An image is read from images if there are any, labels from segmentations. Raises ChoiceError, with a list, if
    several series remain, InputError if none has the id.
    """
    folder, wanted = choice.split(path)
    series = list_series(folder)
    if folder.is_dir() and wanted:
        chosen = [s for s in series if s.id == wanted.lower()]
    else:
        chosen = [s for s in series if s.has_pixels and s.is_segmentation == as_labels] or series
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(s.describe() for s in series[:_LISTED]) + ("; ..." if len(series) > _LISTED else "")
    if not chosen:
        raise InputError(f"{path}: no series #{wanted} in this folder: it holds {listed}")
    raise ChoiceError(
        f"{path}: {len(chosen)} series in this folder: select one as {folder}#{chosen[0].id}: {listed}",
        [f"{folder}#{s.id}" for s in chosen],
    )


def _files(path: Path) -> list[Path]:
    """The files to read; in a folder those that are DICOM, or should be by their names."""
    files.status_of(path)
    if not path.is_dir():
        return [path]
    visible = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
    return [p for p in visible if _should_be_dicom(p) or is_dicom(p)]


def _should_be_dicom(path: Path) -> bool:
    """By its name; an empty file without a suffix is one that was cut."""
    suffix = path.suffix.lower()
    return suffix in _SUFFIXES or (path.stat().st_size == 0 and (not suffix or suffix[1:].isdecimal()))


def _series(uid: str, headers: Sequence[DicomHeader]) -> Series:
    first = headers[0]
    modality = first.text("Modality")
    return Series(
        hashlib.sha256(uid.encode()).hexdigest()[:6],
        modality if _CODE.fullmatch(modality) else "?",
        first.count("SeriesNumber"),
        sum(header.frames for header in headers),
        first.size,
        _spacing(first),
        tuple(headers),
    )


def _spacing(header: DicomHeader) -> tuple[float, float] | None:
    """The spacing that a file states at its top or in the groups that its frames share."""
    places = [header.dataset]
    for group in items(header.dataset, "SharedFunctionalGroupsSequence", header.path):
        places += items(group, "PixelMeasuresSequence", header.path)
    for place in places:
        spacing = numbers(place, "PixelSpacing", 2, header.path)
        if spacing is not None:
            return float(spacing[0]), float(spacing[1])
    return None
