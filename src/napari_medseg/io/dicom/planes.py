"""The planes of a DICOM series, from classic and enhanced files: where each lies and how its values are scaled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.geometry import FloatArray
from napari_medseg.io.dicom.geometry import SeriesGeometry, odd_ones, unit_cosines
from napari_medseg.io.dicom.header import DicomHeader, items, numbers

_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_SAME_MM = 0.01
_UPWARDS = 0.999
"""The least cosine between the normal of a plane and the direction to the head where planes look to the head."""


@dataclass(frozen=True)
class DicomPlane:
    """One slice of a patient: a file, or a frame of a file."""

    header: DicomHeader
    frame: int
    """From 0."""
    position_mm: FloatArray
    """(3,): the first pixel's centre, (L, P, S)."""
    orientation: FloatArray
    """(6,): direction cosines of a row, then of a column."""
    spacing_mm: FloatArray
    """(2,): between rows, between columns."""
    gap_mm: float | None
    """To the next plane, as stated: SpacingBetweenSlices, else SliceThickness."""
    slope: float
    intercept: float
    doubt: str
    """What is odd about slope and intercept; empty if nothing is."""
    groups: tuple[Dataset, ...]
    """The functional groups of the frame, its own before the shared ones; none in a classic file."""

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def name(self) -> str:
        return f"{self.path.name} frame {self.frame + 1}" if self.header.frames > 1 else self.path.name


def planes_of(header: DicomHeader) -> list[DicomPlane]:
    """The planes in a file. Raises FileError if one has no place, NotSupportedError for slices tiled in a picture."""
    path, dataset = header.path, header.dataset
    if "MOSAIC" in header.text("ImageType"):
        raise NotSupportedError(f"{path}: a mosaic (slices tiled in one picture) is not read: convert it with dcm2niix")
    shared = items(dataset, "SharedFunctionalGroupsSequence", path)
    own = items(dataset, "PerFrameFunctionalGroupsSequence", path)
    if not own:
        return [_plane(header, 0, [])] if header.frames == 1 else _dose_planes(header)
    if len(own) != header.frames:
        raise FileError(f"{path}: damaged: {header.frames} frames are stated, {len(own)} described")
    return [_plane(header, frame, [groups, *shared]) for frame, groups in enumerate(own)]


def _dose_planes(header: DicomHeader) -> list[DicomPlane]:
    """The planes of a classic file of several frames, as of a dose: their offsets lie along the normal of the first."""
    path = header.path
    offsets = numbers(header.dataset, "GridFrameOffsetVector", header.frames, path)
    if offsets is None:
        raise NotSupportedError(f"{path}: {header.frames} frames without positions of their own: not a volume")
    first = _plane(header, 0, [])
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    # Offsets begin at 0. In planes that look to the head they may be positions along the body instead.
    starts = [0.0, first.position_mm[2]] if normal[2] > _UPWARDS else [0.0]
    if min(abs(offsets[0] - start) for start in starts) > _SAME_MM:
        raise FileError(f"{path}: damaged: the offsets of its frames (GridFrameOffsetVector) begin at {offsets[0]:.6g}")
    return [
        replace(first, frame=frame, position_mm=first.position_mm + (offset - offsets[0]) * normal)
        for frame, offset in enumerate(offsets)
    ]


def geometry_of(planes: Sequence[DicomPlane], where: str) -> SeriesGeometry:
    """The geometry of the planes. FileError names those whose size, orientation or spacing differs from the others."""
    sizes = np.array([p.header.size for p in planes], dtype=float)
    orientations = np.array([p.orientation for p in planes])
    spacings = np.array([p.spacing_mm for p in planes])
    _check_alike(where, "sizes (rows, columns) of slices", planes, odd_ones(sizes))
    _check_alike(where, "orientations of slices", planes, odd_ones(orientations))
    _check_alike(where, "pixel spacings of slices", planes, odd_ones(spacings))
    try:
        row, column = unit_cosines(orientations.mean(axis=0))
    except ValueError as error:
        raise FileError(f"{where}: its image orientation is {error}: {orientations[0].tolist()}") from error
    if spacings.min() <= 0:
        raise FileError(f"{where}: its pixel spacing must be positive; got {spacings[0].tolist()} mm")
    return SeriesGeometry(
        [p.name for p in planes],
        np.array([p.position_mm for p in planes]),
        row,
        column,
        (float(spacings[0, 0]), float(spacings[0, 1])),
        planes[0].header.size,
        planes[0].gap_mm,
    )


def _check_alike(where: str, what: str, planes: Sequence[DicomPlane], odd: Iterable[int]) -> None:
    names = [planes[i].name for i in odd]
    if names:
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise FileError(f"{where}: the {what} differ: {len(names)} of {len(planes)} are unlike the others ({listed})")


def _plane(header: DicomHeader, frame: int, groups: Sequence[Dataset]) -> DicomPlane:
    return DicomPlane(
        header,
        frame,
        _needed(header, groups, "PlanePositionSequence", "ImagePositionPatient", 3),
        _needed(header, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
        _needed(header, groups, "PixelMeasuresSequence", "PixelSpacing", 2),
        _gap(header, groups),
        *scaling_of(header, groups),
        tuple(groups),
    )


def _needed(header: DicomHeader, groups: Sequence[Dataset], sequence: str, keyword: str, count: int) -> FloatArray:
    value = _find(header, groups, sequence, keyword, count)
    if value is None:
        raise FileError(f"{header.path}: no {keyword}: the spacing and place of its pixels in the patient are unknown")
    return value


def _find(header: DicomHeader, groups: Sequence[Dataset], sequence: str, keyword: str, count: int) -> FloatArray | None:
    """The numbers in the first functional group that has them; in a classic file, at its top."""
    places = [item for group in groups for item in items(group, sequence, header.path)] or [header.dataset]
    found = (numbers(place, keyword, count, header.path) for place in places)
    return next((value for value in found if value is not None), None)


def _gap(header: DicomHeader, groups: Sequence[Dataset]) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = _find(header, groups, "PixelMeasuresSequence", keyword, 1)
        if value is not None and value[0] > 0:
            return float(value[0])
    return None


def scaling_of(header: DicomHeader, groups: Sequence[Dataset]) -> tuple[float, float, str]:
    """Slope, intercept and a doubt: of the rescaling, else of a dose, else of the mapping to real world values.

    Raises NotSupportedError for a table in their place.
    """
    if items(header.dataset, "ModalityLUTSequence", header.path):
        raise NotSupportedError(f"{header.path}: values through a lookup table (Modality LUT) are not read")
    slope, intercept = (
        _find(header, groups, "PixelValueTransformationSequence", keyword, 1)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    dose = numbers(header.dataset, "DoseGridScaling", 1, header.path)
    if slope is not None or intercept is not None:
        factor = 1.0 if slope is None else float(slope[0])
        return _believed("RescaleSlope", factor, 0.0 if intercept is None else float(intercept[0]))
    if dose is not None:
        return _believed("DoseGridScaling", float(dose[0]), 0.0)
    if header.text("SOPClassUID") == _DOSE:
        return 1.0, 0.0, "a dose that states no DoseGridScaling: the values are as stored, in no unit"
    return _real_world(header, groups)


def _believed(keyword: str, factor: float, intercept: float) -> tuple[float, float, str]:
    """Slope, intercept and a doubt: a factor of 0 would make all values the same."""
    return (factor, intercept, "") if factor else (1.0, 0.0, f"{keyword} is 0: the values are kept as stored")


def _real_world(header: DicomHeader, groups: Sequence[Dataset]) -> tuple[float, float, str]:
    mappings = [
        item
        for place in (*groups, header.dataset)
        for item in items(place, "RealWorldValueMappingSequence", header.path)
    ]
    lines = []
    for item in mappings:
        slope, intercept = (
            numbers(item, keyword, 1, header.path) for keyword in ("RealWorldValueSlope", "RealWorldValueIntercept")
        )
        if slope is not None and intercept is not None:
            lines.append((float(slope[0]), float(intercept[0])))
    if not mappings:
        return 1.0, 0.0, ""
    if len(set(lines)) == 1 and len(lines) == len(mappings):
        return _believed("RealWorldValueSlope", *lines[0])
    kind = "several mappings" if lines else "a mapping by a table"
    return 1.0, 0.0, f"{kind} to real world values and no rescaling: the values are kept as stored"
