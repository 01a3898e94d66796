"""A DICOM-SEG data set of labels on the planes of their source series, built by highdicom.

highdicom copies the geometry, and texts about the patient and the study, from the headers of the sources. It gets
headers made here, which hold UIDs and numbers only.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.seg import Segmentation, SegmentationTypeValues
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from napari_medseg._version import __version__
from napari_medseg.errors import NotSupportedError
from napari_medseg.io import attributes
from napari_medseg.io.dicom.codes import description
from napari_medseg.io.dicom.header import PRIVATE_CREATOR, PRIVATE_GROUP, PRIVATE_TEXT, DicomHeader
from napari_medseg.io.dicom.planes import DicomPlane
from napari_medseg.io.stored import Stored

Array = npt.NDArray[Any]

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Attributes of type 2: they must be present and may be empty."""
_MAX_BINARY = 16
"""The most segments whose bits take no more room than the two bytes of a voxel of the source."""
_SERIES_NUMBER = 9000


def dataset(planes: Sequence[DicomPlane], data: Array, names: Mapping[int, str], stored: Stored) -> Segmentation:
    """The segmentation of labels (plane, row, column), with a name for every id.

    The same labels on the same series get the same UIDs. Raises NotSupportedError for a series of several enhanced
    files, which highdicom cannot refer to.
    """
    first = planes[0].header
    seed = [first.text("SeriesInstanceUID"), _digest(data, names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom's, about what the sources lack
        segmentation = Segmentation(
            _sources(planes, _gap(planes)),
            _in_order_of_sources(planes, data),
            SegmentationTypeValues.BINARY if _is_binary(list(names)) else SegmentationTypeValues.LABELMAP,
            [description(i, name, stored.colours.get(i), stored.provenance) for i, name in names.items()],
            series_instance_uid=generate_uid(entropy_srcs=[*seed, "series"]),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=generate_uid(entropy_srcs=[*seed, "instance"]),
            instance_number=1,
            manufacturer="napari-medseg",
            manufacturer_model_name="napari-medseg",
            software_versions=__version__,
            device_serial_number="0",
            omit_empty_frames=False,  # so that the labels come back on the grid of the image
            content_label="SEGMENTATION",
        )
    block = segmentation.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(PRIVATE_TEXT, "UT", attributes.to_text(stored))
    return segmentation


def _sources(planes: Sequence[DicomPlane], gap_mm: float) -> list[Dataset]:
    """A header for each file, in the order of the planes."""
    if len({id(plane.header) for plane in planes}) == len(planes) and planes[0].header.frames == 1:
        return [_classic(plane, planes[0], gap_mm) for plane in planes]
    header = planes[0].header
    if any(plane.header is not header for plane in planes):
        raise NotSupportedError(f"{header.path}: a series of several multi-frame files cannot be referred to")
    return [_enhanced(planes, gap_mm)]


def _gap(planes: Sequence[DicomPlane]) -> float:
    """mm between neighbouring planes of a regular stack; a single plane states it."""
    if len(planes) == 1:
        return planes[0].gap_mm or 1.0
    return float(np.linalg.norm(planes[-1].position_mm - planes[0].position_mm)) / (len(planes) - 1)


def _in_order_of_sources(planes: Sequence[DicomPlane], data: Array) -> Array:
    """Slices in the order of the source: by frame in a multi-frame file; unchanged if each plane is a file."""
    data = data.astype(np.uint8 if data.max() < 256 else np.uint16, copy=False)
    if len(planes) > 1 and planes[0].header is planes[1].header:
        return data[np.argsort([plane.frame for plane in planes])]
    return data


def _classic(plane: DicomPlane, first: DicomPlane, gap_mm: float) -> Dataset:
    reference = _reference(plane.header)
    reference.ImagePositionPatient = _decimal(plane.position_mm)
    reference.ImageOrientationPatient = _decimal(first.orientation)
    reference.PixelSpacing = _decimal(first.spacing_mm)
    reference.SliceThickness = reference.SpacingBetweenSlices = _decimal([gap_mm])[0]
    return reference


def _enhanced(planes: Sequence[DicomPlane], gap_mm: float) -> Dataset:
    first = planes[0]
    shared = Dataset()
    shared.PixelMeasuresSequence = PixelMeasuresSequence(first.spacing_mm.tolist(), gap_mm, gap_mm)
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", first.orientation.tolist())
    frames = []
    for plane in sorted(planes, key=lambda plane: plane.frame):
        frame = Dataset()
        frame.PlanePositionSequence = PlanePositionSequence("PATIENT", plane.position_mm.tolist())
        frames.append(frame)
    reference = _reference(first.header)
    reference.NumberOfFrames = len(planes)
    reference.SharedFunctionalGroupsSequence = [shared]
    reference.PerFrameFunctionalGroupsSequence = frames
    return reference


def _reference(header: DicomHeader) -> Dataset:
    """The attributes of every source: its UIDs and its size; nothing about the patient, and the study's UID only."""
    reference = Dataset()
    reference.file_meta = FileMetaDataset()
    reference.file_meta.TransferSyntaxUID = header.syntax
    reference.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, for the names of labels
    for keyword in _UIDS:
        setattr(reference, keyword, header.text(keyword))
    for keyword in _EMPTY:
        setattr(reference, keyword, "")
    reference.Modality = header.text("Modality")
    reference.Rows, reference.Columns = header.size
    # Anonymisation may remove the frame of reference. The new one is the same for all files and at every writing.
    seed = [header.text("SeriesInstanceUID"), "frame of reference"]
    reference.FrameOfReferenceUID = header.text("FrameOfReferenceUID") or generate_uid(entropy_srcs=seed)
    return reference


def _decimal(values: npt.ArrayLike) -> list[str]:
    """Numbers as DICOM's decimal strings of 16 characters."""
    # Rounded first: pydicom 3.0 makes 17 characters of 9.999999999999998.
    return [format_number_as_ds(float(f"{value:.14g}")) for value in np.asarray(values)]


def _digest(data: Array, names: Mapping[int, str]) -> str:
    text = f"{sorted(names.items())} {data.shape}".encode()
    return hashlib.sha256(text + data.astype("<u2").tobytes()).hexdigest()


def _is_binary(ids: Sequence[int]) -> bool:
    return list(ids) == list(range(1, len(ids) + 1)) and len(ids) <= _MAX_BINARY
