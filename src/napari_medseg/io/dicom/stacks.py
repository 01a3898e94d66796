"""The planes of a series in their order, for reading a series and for labelling it."""

from __future__ import annotations

from collections.abc import Sequence

from napari_medseg.errors import FileError
from napari_medseg.io.dicom.geometry import PlaneStack, stack
from napari_medseg.io.dicom.header import check_pixels
from napari_medseg.io.dicom.planes import DicomPlane, geometry_of, planes_of
from napari_medseg.io.dicom.series import Series


def arranged(series: Series, where: str) -> tuple[Sequence[DicomPlane], PlaneStack]:
    """The planes of an image series in the order of their stack. Every file is checked, and none is decoded."""
    for header in series.headers:
        check_pixels(header)
    planes = [plane for header in series.headers for plane in planes_of(header)]
    shared = geometry_of(planes, where)
    try:
        found = stack(shared)
    except FileError as error:
        raise FileError(f"{where}: {error}") from error
    return [planes[i] for i in found.order], found
