"""DICOM series, classic and enhanced, as volumes; DICOM-SEG as labels (`seg`).

A path is a file, which is read alone, or a folder, or `FOLDER#ID` for one of several series in a folder or below it.
`FOLDER#ID.1` and `FILE#1` are one of the volumes of a series, such as its second time point or echo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from napari_medseg import geometry
from napari_medseg.errors import warn
from napari_medseg.io import choice
from napari_medseg.io.dicom import flat, seg
from napari_medseg.io.dicom.geometry import PlaneStack, resample
from napari_medseg.io.dicom.pixels import scaled, stored_values, type_of_scaled
from napari_medseg.io.dicom.planes import DicomPlane
from napari_medseg.io.dicom.series import Series, choose, chosen, list_series
from napari_medseg.io.dicom.stacks import arranged
from napari_medseg.io.disk import memory
from napari_medseg.io.stored import Stored, Unread, grid_of

_VOXEL_BYTES = 4
"""A voxel of a resampled volume."""

__all__ = ["Series", "list_series", "load", "loader", "peek", "save"]


def load(path: Path, *, as_labels: bool) -> Stored:
    """The volume or the labels of a series.

    Raises FileError for damage, missing slices and planes that are no volume, InputError (with a list) for several
    series, NotSupportedError for colour, time and compressions without a decoder. Warns about resampled planes.
    """
    return _load(path, choose(path, as_labels=as_labels))


def loader(path: Path) -> Callable[[Path], Stored]:
    """`load` for a path and for each series and volume that it names: every header is read once."""
    series = list_series(choice.split(path)[0])
    return lambda part: _load(part, chosen(part, series, as_labels=False))


def _load(path: Path, series: Series) -> Stored:
    if series.is_segmentation:
        return seg.load(path, series)
    if flat.is_flat(series):
        _warn(series, path)
        return flat.load(path, series)
    where = str(choice.split(path)[0])
    planes, stack = _checked(series, path)
    voxels = scaled(stored_values(planes), [p.slope for p in planes], [p.intercept for p in planes])
    if stack.resampling is not None:
        voxels = resample(stack.resampling, stack.shape, voxels)
    return Stored(voxels, grid_of(where, stack.shape, geometry.from_itk(stack.affine_lps_xyz)))


def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, from the headers: no pixel is decoded."""
    series = choose(path, as_labels=as_labels)
    if series.is_segmentation:
        return seg.peek(path, series)
    if flat.is_flat(series):
        _warn(series, path)
        return flat.peek(path, series)
    where = str(choice.split(path)[0])
    planes, stack = _checked(series, path)
    voxels = Unread(stack.shape, type_of_scaled(planes))
    return Stored(voxels, grid_of(where, stack.shape, geometry.from_itk(stack.affine_lps_xyz)))


def _checked(series: Series, path: Path) -> tuple[Sequence[DicomPlane], PlaneStack]:
    """The planes of an image series that fits into the memory, with warnings of what is odd about it."""
    where = str(choice.split(path)[0])
    planes, stack = arranged(series, path)
    for oddity in stack.oddities:
        warn(f"{where}: {oddity}")
    _warn(series, path, planes)
    headers = {id(plane.header): plane.header for plane in planes}.values()
    sizes = [(header.decoded_bytes, header.path.stat().st_size) for header in headers]
    needed = max(sum(decoded for decoded, _ in sizes), _VOXEL_BYTES * math.prod(stack.shape))
    memory.check(where, needed, sum(stored for _, stored in sizes))
    return planes, stack


def _warn(series: Series, path: Path, planes: Sequence[DicomPlane] = ()) -> None:
    for oddity in _odd_values(series, planes):
        warn(f"{choice.split(path)[0]}: {oddity}")


def _odd_values(series: Series, planes: Sequence[DicomPlane]) -> Iterator[str]:
    """What is odd about the values and the patient's axes, in words."""
    yield from dict.fromkeys(plane.doubt for plane in planes if plane.doubt)
    headers = {id(plane.header): plane.header for plane in planes}.values()
    for keyword in ("Units", "RescaleType"):
        if len({header.text(keyword) for header in headers}) > 1:
            yield f"its slices state different units ({keyword}): their values cannot be compared"
    if len({header.text("FrameOfReferenceUID") for header in headers}) > 1:
        yield "its slices state different frames of reference: their places may not fit together"
    if any(header.text("PhotometricInterpretation") == "MONOCHROME1" for header in series.headers):
        yield "low values are meant to be shown bright (MONOCHROME1); the values are kept as they are"
    if series.headers[0].text("AnatomicalOrientationType") == "QUADRUPED":
        yield "an animal on four feet: S is towards its head, P towards its back"


def save(path: Path, stored: Stored) -> None:
    """Write labels as DICOM-SEG; `stored.source` is the series of the labels."""
    seg.save(path, stored)
