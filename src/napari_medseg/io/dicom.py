"""DICOM series, classic and enhanced, as volumes; DICOM-SEG as labels (`dicom_seg`).

A path is a file (that file alone), a folder, or `FOLDER#ID` for one of several series in a folder.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from napari_medseg import geometry
from napari_medseg.errors import FileError, MedsegWarning
from napari_medseg.io import budget, choice, dicom_geometry
from napari_medseg.io.dicom_files import check_pixels
from napari_medseg.io.dicom_geometry import Stack, resample
from napari_medseg.io.dicom_pixels import scaled, stored_values
from napari_medseg.io.dicom_planes import Plane, planes_of, together
from napari_medseg.io.dicom_series import Series, choose, list_series
from napari_medseg.io.stored import Stored, grid_of

#: of a voxel that is resampled
_VOXEL_BYTES = 4

__all__ = ["Series", "arranged", "list_series", "load", "save"]


def load(path: Path, *, as_labels: bool) -> Stored:
    """The volume or the labels of a series.

    Raises FileError for what is damaged, incomplete or no volume, InputError (with a list) where a series must be
    chosen, NotSupportedError for colour, time and compressions without a decoder. Warns where planes are resampled.
    """
    series = choose(path, as_labels=as_labels)
    if series.is_segmentation:
        from napari_medseg.io import dicom_seg

        return dicom_seg.load(path, series)
    where = str(choice.split(path)[0])
    planes, stack = arranged(series, where)
    for oddity in stack.oddities:
        _warn(f"{where}: {oddity}")
    if any(h.text("PhotometricInterpretation") == "MONOCHROME1" for h in series.headers):
        _warn(f"{where}: low values are meant to be shown bright (MONOCHROME1); the values are kept as they are")
    sizes = [(header.decoded_bytes, header.path.stat().st_size) for header in series.headers]
    needed = max(sum(decoded for decoded, _ in sizes), _VOXEL_BYTES * math.prod(stack.shape))
    budget.check(where, needed, sum(stored for _, stored in sizes))
    voxels = scaled(stored_values(planes), [p.slope for p in planes], [p.intercept for p in planes])
    if stack.resampling is not None:
        voxels = resample(stack.resampling, stack.shape, voxels)
    return Stored(voxels, grid_of(where, stack.shape, geometry.from_itk(stack.affine_lps_xyz)))


def save(path: Path, stored: Stored) -> None:
    """Write labels as DICOM-SEG; `stored.source` is the series that they belong to."""
    from napari_medseg.io import dicom_seg

    dicom_seg.save(path, stored)


def arranged(series: Series, where: str) -> tuple[Sequence[Plane], Stack]:
    """The planes of an image series in the order of their stack; every file is checked, none is decoded."""
    for header in series.headers:
        check_pixels(header)
    planes = [plane for header in series.headers for plane in planes_of(header)]
    shared = together(planes, where)
    try:
        stack = dicom_geometry.stack(shared)
    except FileError as error:
        raise FileError(f"{where}: {error}") from error
    return [planes[i] for i in stack.order], stack


def _warn(text: str) -> None:
    warnings.warn(text, MedsegWarning, stacklevel=4)
