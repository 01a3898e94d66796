"""The planes of a series in their order, for reading a series and for labelling it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseg.errors import FileError, InputError, warn
from napari_medseg.io import choice
from napari_medseg.io.choice import ChoiceError, PointError
from napari_medseg.io.dicom.geometry import PlaneStack, stack
from napari_medseg.io.dicom.header import check_pixels
from napari_medseg.io.dicom.planes import DicomPlane, geometry_of, planes_of
from napari_medseg.io.dicom.series import Series
from napari_medseg.io.dicom.volumes import DicomVolume, volumes_of

_LISTED = 8
"""The most volumes that a message names."""


def arranged(series: Series, path: Path) -> tuple[Sequence[DicomPlane], PlaneStack]:
    """The planes of an image series, or of its volume that is chosen, in the order of their stack.

    Every file is checked, and none is decoded. Raises ChoiceError or PointError where the series holds several volumes
    and none is chosen, InputError for a choice that is not there, FileError for planes that are no volume.
    """
    for header in series.headers:
        check_pixels(header)
    where = str(choice.split(path)[0])
    planes = _chosen([plane for header in series.headers for plane in planes_of(header)], series, where)
    shared = geometry_of(planes, where)
    try:
        found = stack(shared)
    except FileError as error:
        raise FileError(f"{where}: {_copies(planes) or error}") from error
    return [planes[i] for i in found.order], found


def _chosen(planes: Sequence[DicomPlane], series: Series, where: str) -> Sequence[DicomPlane]:
    volumes = volumes_of(planes)
    if len(volumes) == 1:
        if series.part:
            raise InputError(f"{where}: #{series.address(series.part)} chooses nothing: the series is one volume")
        return planes
    if not series.part.isdecimal() or int(series.part) >= len(volumes):
        raise _choice(planes, volumes, series, where)
    volume = volumes[int(series.part)]
    if volume.is_part:
        warn(f"{where}: {len(volume.planes)} of the {len(planes)} slices of its series; the others are unlike them")
    return volume.planes


def _choice(planes: Sequence[DicomPlane], volumes: Sequence[DicomVolume], series: Series, where: str) -> InputError:
    """The refusal that names the volumes."""
    names = [series.address(str(number)) for number in range(len(volumes))]
    listed = ", ".join(f"#{name} ({volume.mark})" for name, volume in [*zip(names, volumes, strict=True)][:_LISTED])
    ways = f"name one as {where}#{names[0]}: {listed}{', ...' if volumes[_LISTED:] else ''}"
    reason = f"{where}: {len(volumes)} volumes in one series: "
    if volumes[0].is_part:
        try:
            geometry_of(planes, where)
        except FileError as error:
            reason = f"{error}: "
    if series.part:
        return InputError(f"{where}: #{series.address(series.part)} is none of {len(volumes)} volumes: {ways}")
    paths = [f"{where}#{name}" for name in names]
    if all(volume.is_time for volume in volumes):
        return PointError(reason + ways, paths)
    return ChoiceError(reason + ways, paths, [volume.mark for volume in volumes])


def _copies(planes: Sequence[DicomPlane]) -> str:
    """Images that are there twice, in words; empty if there are none."""
    first: dict[tuple[str, int], str] = {}
    copies = []
    for plane in planes:
        uid = plane.header.text("SOPInstanceUID")
        name = first.setdefault((uid, plane.frame), plane.name)
        if uid and name != plane.name:
            copies.append(f"{name} and {plane.name}")
    if not copies:
        return ""
    return f"{len(copies)} files are copies of others (one SOPInstanceUID: {copies[0]}, a duplicate slice): remove them"
