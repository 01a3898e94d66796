"""DICOM series to test with, written plainly with pydicom: a file per slice, or all in one enhanced file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from napari_medseg import geometry
from napari_medseg.volume import Grid

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
#: stands in every field that may name a patient
CANARY = "CANARY"
SERIES = generate_uid(entropy_srcs=["the series"])

Tweak = Callable[[Dataset, int], None]


def voxels(shape: tuple[int, int, int], seed: int = 0) -> npt.NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def write_series(
    folder: Path, data: npt.NDArray[Any], grid: Grid, *, series: str = SERIES, tweak: Tweak | None = None
) -> Path:
    """A file per slice of (z, y, x) int16 data, in an order of names that is not that of the slices.

    tweak: changes a file's data set before it is written; it is given the slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = geometry.to_itk(grid.affine)
    for k, plane in enumerate(data):
        dataset = image(CT, series, k)
        dataset.ImagePositionPatient = decimal(affine[:3, 3] + k * affine[:3, 2])
        dataset.ImageOrientationPatient = decimal(orientation(affine))
        dataset.PixelSpacing = decimal(grid.spacing[1:])
        dataset.SliceThickness = decimal(grid.spacing[:1])[0]
        set_pixels(dataset, plane)
        if tweak is not None:
            tweak(dataset, k)
        dataset.save_as(folder / f"IM{len(data) - k:03d}.dcm", enforce_file_format=True)
    return folder


def write_enhanced(path: Path, data: npt.NDArray[Any], grid: Grid) -> Path:
    """All slices in one file, the last one first."""
    affine = geometry.to_itk(grid.affine)
    dataset = image(ENHANCED_CT, SERIES, 0)
    shared, measures, directions = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = decimal(grid.spacing[1:]), decimal(grid.spacing[:1])[0]
    directions.ImageOrientationPatient = decimal(orientation(affine))
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [directions]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for k in reversed(range(len(data))):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = decimal(affine[:3, 3] + k * affine[:3, 2])
        frame.PlanePositionSequence = [place]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    dataset.NumberOfFrames = len(data)
    set_pixels(dataset, data[::-1])
    dataset.save_as(path, enforce_file_format=True)
    return path


def image(sop_class: str, series: str, number: int) -> Dataset:
    """What every image states, with the canary wherever a patient could be named."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["the study"])
    dataset.SeriesInstanceUID = series
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["the frame"])
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 3, number + 1
    for keyword in ("PatientName", "PatientID", "InstitutionName", "SeriesDescription", "StudyID", "AccessionNumber"):
        setattr(dataset, keyword, f"{CANARY}^{CANARY}")
    return dataset


def set_pixels(dataset: Dataset, values: npt.NDArray[Any]) -> None:
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(values.dtype.kind == "i")
    dataset.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()


def orientation(affine_lps_xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cosines = affine_lps_xyz[:3, :2] / np.linalg.norm(affine_lps_xyz[:3, :2], axis=0)
    return np.asarray(cosines.T.ravel())


def decimal(values: Sequence[float] | npt.NDArray[np.float64]) -> list[str]:
    # Rounded first: pydicom 3.0 makes 17 characters of 9.999999999999998.
    return [format_number_as_ds(float(f"{value:.14g}")) for value in values]
