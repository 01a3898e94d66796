"""DICOM series, classic and enhanced, as volumes; DICOM-SEG as labels (`seg`).

A path is a file (that file alone), a folder, or `FOLDER#ID` for one of several series in a folder.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from napari_medseg import geometry
from napari_medseg.errors import MedsegWarning
from napari_medseg.io import choice
from napari_medseg.io.dicom import seg
from napari_medseg.io.dicom.geometry import Stack, resample
from napari_medseg.io.dicom.pixels import scaled, stored_values, type_of_scaled
from napari_medseg.io.dicom.planes import Plane
from napari_medseg.io.dicom.series import Series, choose, list_series
from napari_medseg.io.dicom.stacks import arranged
from napari_medseg.io.disk import memory
from napari_medseg.io.stored import Stored, Unread, grid_of

#: of a voxel that is resampled
_VOXEL_BYTES = 4

__all__ = ["Series", "list_series", "load", "peek", "save"]


def load(path: Path, *, as_labels: bool) -> Stored:
    """The volume or the labels of a series.

    Raises FileError for what is damaged, incomplete or no volume, InputError (with a list) where a series must be
    chosen, NotSupportedError for colour, time and compressions without a decoder. Warns where planes are resampled.
    """
    series = choose(path, as_labels=as_labels)
    if series.is_segmentation:
        return seg.load(path, series)
    where = str(choice.split(path)[0])
    planes, stack = _checked(series, where)
    voxels = scaled(stored_values(planes), [p.slope for p in planes], [p.intercept for p in planes])
    if stack.resampling is not None:
        voxels = resample(stack.resampling, stack.shape, voxels)
    return Stored(voxels, grid_of(where, stack.shape, geometry.from_itk(stack.affine_lps_xyz)))


def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, from the headers: no pixel is decoded."""
    series = choose(path, as_labels=as_labels)
    if series.is_segmentation:
        return seg.peek(path, series)
    where = str(choice.split(path)[0])
    planes, stack = _checked(series, where)
    voxels = Unread(stack.shape, type_of_scaled(planes))
    return Stored(voxels, grid_of(where, stack.shape, geometry.from_itk(stack.affine_lps_xyz)))


def _checked(series: Series, where: str) -> tuple[Sequence[Plane], Stack]:
    """The planes of an image series that fits into the memory, with warnings of what is odd about it."""
    planes, stack = arranged(series, where)
    for oddity in stack.oddities:
        _warn(f"{where}: {oddity}")
    if any(h.text("PhotometricInterpretation") == "MONOCHROME1" for h in series.headers):
        _warn(f"{where}: low values are meant to be shown bright (MONOCHROME1); the values are kept as they are")
    sizes = [(header.decoded_bytes, header.path.stat().st_size) for header in series.headers]
    needed = max(sum(decoded for decoded, _ in sizes), _VOXEL_BYTES * math.prod(stack.shape))
    memory.check(where, needed, sum(stored for _, stored in sizes))
    return planes, stack


def save(path: Path, stored: Stored) -> None:
    """Write labels as DICOM-SEG; `stored.source` is the series that they belong to."""
    seg.save(path, stored)


def _warn(text: str) -> None:
    warnings.warn(text, MedsegWarning, stacklevel=4)
