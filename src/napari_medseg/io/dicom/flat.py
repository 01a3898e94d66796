"""2D images in DICOM that have no place in the patient: radiographs, ultrasound, screens, photographs.

They become a slice, as a PNG does: rows run to P and columns to L, and colours are three channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_medseg.errors import FileError, InputError
from napari_medseg.io import choice
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.dicom.header import DicomHeader, check_pixels, numbers
from napari_medseg.io.dicom.pixels import decode, scaled, type_of_scaled_values
from napari_medseg.io.dicom.planes import scaling_of
from napari_medseg.io.dicom.series import Series
from napari_medseg.io.disk import memory
from napari_medseg.io.stored import Stored, Unread
from napari_medseg.volume import Grid, LazyArray

_RGB = ("red", "green", "blue")
_AT_DETECTOR = "a pixel is as large as on the detector (ImagerPixelSpacing): what lies in the patient is smaller"
_NOT_STATED = "the file does not say how large a pixel is: lengths are in pixels, where other images have mm"


def is_flat(series: Series) -> bool:
    """Whether a series holds such images only."""
    return all(header.is_flat for header in series.headers)


def load(path: Path, series: Series) -> Stored:
    """(1, Y, X), or (3, 1, Y, X) of colours. Raises ChoiceError where the series holds several images."""
    header = _checked(path, series)
    values = decode(header, [0])
    if values.shape != (1, *header.size, *((3,) if header.is_colour else ())):
        raise FileError(f"{header.path}: damaged: its decoded pixels are not of the stated size")
    if header.is_colour:
        return _described(np.ascontiguousarray(np.moveaxis(values, -1, 0)), header)
    slope, intercept, _ = scaling_of(header, [])
    return _described(scaled(values, [slope], [intercept]), header)


def peek(path: Path, series: Series) -> Stored:
    """As `load`, without the pixels."""
    header = _checked(path, series)
    shape = (*((3,) if header.is_colour else ()), 1, *header.size)
    slope, intercept, _ = (1.0, 0.0, "") if header.is_colour else scaling_of(header, [])
    return _described(Unread(shape, type_of_scaled_values([header], [slope], [intercept])), header)


def _checked(path: Path, series: Series) -> DicomHeader:
    header = _chosen(path, series)
    check_pixels(header)
    memory.check(header.path, header.decoded_bytes, header.path.stat().st_size)
    return header


def _chosen(path: Path, series: Series) -> DicomHeader:
    where, count = choice.split(path)[0], len(series.headers)
    if count == 1:
        choice.refuse_part(where, series.part)
        return series.headers[0]
    if series.part.isdecimal() and int(series.part) < count:
        return series.headers[int(series.part)]
    names = [series.address(str(number)) for number in range(count)]
    what = f"{where}: {count} 2D images in one series: name one as {where}#{names[0]} to #{names[-1]}"
    if series.part:
        raise InputError(f"{what}; #{series.address(series.part)} is none of them")
    raise ChoiceError(what, [f"{where}#{name}" for name in names], [f"image {n + 1}" for n in range(count)])


def _described(data: LazyArray, header: DicomHeader) -> Stored:
    spacing, note = _spacing(header)
    grid = Grid((1, *header.size), np.diag([1.0, *(spacing or (1.0, 1.0)), 1.0]), in_pixels=spacing is None)
    return Stored(data, grid, _RGB if header.is_colour else (), notes=(note,) if note else ())


def _spacing(header: DicomHeader) -> tuple[tuple[float, float] | None, str]:
    """(y, x) in mm, None where the file states none, and what to know of it."""
    for keyword, note in (("PixelSpacing", ""), ("ImagerPixelSpacing", _AT_DETECTOR)):
        stated = numbers(header.dataset, keyword, 2, header.path)
        if stated is not None:
            if stated.min() <= 0:
                raise FileError(f"{header.path}: its pixel spacing must be positive; got {stated.tolist()} mm")
            return (float(stated[0]), float(stated[1])), note
    return None, _NOT_STATED
