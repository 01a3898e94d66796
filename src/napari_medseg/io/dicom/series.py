"""The series of a folder of DICOM files: a list without any text of a patient, and the choice of one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from napari_medseg.errors import FileError, InputError, MedsegError, warn
from napari_medseg.io import choice
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.dicom.header import DicomHeader, items, numbers, read_header
from napari_medseg.io.dicom.mark import files_below, is_dicom
from napari_medseg.io.disk import files

_SUFFIXES = (".dcm", ".ima")
"""A file with such a name that is no DICOM is an error; other files are passed over."""
_CODE = re.compile(r"[A-Z]{2,10}")
"""A modality is a code; anything else in its place could be a text about a patient."""
_LISTED = 20
_ALL = "all"
_FEWEST_SLICES = 3
"""Single slices that may be one volume."""


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
    part: str = ""
    """The number of the volume that a path chooses; empty if it chooses none."""

    def address(self, part: str) -> str:
        """What stands behind the "#" of a path to a volume of the series."""
        return f"{self.id}.{part}" if self.id else part

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
    """The series of the DICOM files in a folder, else in the folders below it, or of one file, by number and id.

    Files that are no DICOM are passed over. Raises FileError for those that are empty or have the name of a DICOM file,
    for damaged files, and for a folder without any DICOM file. Below the folder such files are passed over, with a
    warning.
    """
    place = Path(path)
    headers = [header for header in map(read_header, _files(place)) if not header.is_directory]
    if place.is_dir() and not headers:
        headers = _headers_below(place)
    found: dict[str, list[DicomHeader]] = {}
    for header in headers:
        uid = header.text("SeriesInstanceUID")
        if not uid and not header.pixels_at:
            raise FileError(f"{header.path}: no SeriesInstanceUID: not an image, or cut short (truncated)")
        found.setdefault(uid, []).append(header)
    if not found and not place.is_dir():
        raise FileError(f"{path}: a DICOMDIR, which only lists the images beside and below it: name its folder")
    if not found:
        raise FileError(f"{path}: no DICOM image in this folder or below it")
    return sorted((_series(uid, of_series) for uid, of_series in found.items()), key=lambda s: (s.number, s.id))


def choose(path: Path, *, as_labels: bool) -> Series:
    """The series that a path means: the only one, or the one behind the "#", with the volume behind its point.

    An image is read from images if there are any, labels from segmentations. `FOLDER#all` takes all images as one
    series, for files that each state a series of their own. Raises ChoiceError, with a list, if several series remain,
    InputError if none has the id.
    """
    folder, _ = choice.split(path)
    return chosen(path, list_series(folder), as_labels=as_labels)


def chosen(path: Path, series: Sequence[Series], *, as_labels: bool) -> Series:
    """As `choose`, of the series that were listed before, of this folder or of one above it."""
    folder, wanted = choice.split(path)
    if not folder.is_dir():
        return replace(series[0], id="", part="" if series[0].is_segmentation else wanted)
    wanted, _, part = wanted.lower().partition(".")
    fitting = [s for s in series if s.has_pixels and s.is_segmentation == as_labels] or series
    if wanted == _ALL:
        return replace(_joined(fitting), part=part)
    found = [s for s in series if s.id == wanted] if wanted else fitting
    if len(found) == 1:
        return replace(found[0], part=part)
    listed = "; ".join(_line(s, folder) for s in series[:_LISTED]) + ("; ..." if len(series) > _LISTED else "")
    if not found:
        raise InputError(f"{path}: no series #{wanted} in this folder: it holds {listed}")
    if _is_one_a_slice(found):
        raise ChoiceError(
            f"{path}: {len(found)} images that each state a series of their own: take them as one: {folder}#{_ALL}",
            [f"{folder}#{_ALL}"],
        )
    ways = [f"{_folder_of(s, folder)}#{s.id}" for s in found]
    raise ChoiceError(
        f"{path}: {len(found)} series in this folder: select one as {ways[0]}: {listed}",
        ways,
        [f"{s.modality} {s.number}" for s in found],
    )


def _joined(series: Sequence[Series]) -> Series:
    headers = tuple(header for s in series for header in s.headers)
    return replace(series[0], id=_ALL, slices=sum(s.slices for s in series), headers=headers)


def _is_one_a_slice(series: Sequence[Series]) -> bool:
    """Whether single slices of one size, direction and spacing may be one volume."""
    if len(series) < _FEWEST_SLICES or any(s.slices > 1 or not s.has_pixels or s.is_segmentation for s in series):
        return False
    if any(header.is_flat for s in series for header in s.headers):
        return False
    directions = {header.rounded_orientation for s in series for header in s.headers}
    return len({(s.modality, s.size, s.spacing_mm) for s in series}) == 1 and len(directions) == 1


def _folder_of(series: Series, folder: Path) -> Path:
    """The nearest folder that holds all files of a series."""
    return Path(os.path.commonpath([folder / header.path.relative_to(folder).parent for header in series.headers]))


def _line(series: Series, folder: Path) -> str:
    below = _folder_of(series, folder).relative_to(folder)
    return series.describe() if below == Path() else f"{below}{series.describe()}"


def _headers_below(folder: Path) -> list[DicomHeader]:
    """The headers of the DICOM files below a folder, each read once. What cannot be read is told in one warning."""
    headers, faults = [], []
    for file in files_below(folder):
        try:
            if is_dicom(file):
                header = read_header(file)
                if header.is_image:
                    headers.append(header)
                elif not header.text("SeriesInstanceUID") and not header.is_directory:
                    faults.append(f"{file}: cut short (truncated)")
        except MedsegError as error:
            faults.append(str(error))
    if faults:
        warn(f"{folder}: {len(faults)} DICOM files below it cannot be read and are passed over, such as {faults[0]}")
    return headers


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
