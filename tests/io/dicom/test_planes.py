"""Where the planes of a header lie and how their values are scaled, from data sets of a few attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.dicom.header import DicomHeader
from napari_medseg.io.dicom.planes import DicomPlane, geometry_of, planes_of


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def header(name: str = "a.dcm", **attributes: object) -> DicomHeader:
    """A header of 3 rows and 4 columns."""
    dataset = item(Rows=3, Columns=4, **attributes)
    return DicomHeader(Path(name), dataset, ExplicitVRLittleEndian, pixels_at=0, pixels_length=0)


def classic(z_mm: float, name: str = "a.dcm", **changes: object) -> DicomHeader:
    place: dict[str, Any] = {
        "ImagePositionPatient": [-10, 20, z_mm],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.25],
        "SliceThickness": 3,
    }
    return header(name, **place | changes)


def only(found: DicomHeader) -> DicomPlane:
    (plane,) = planes_of(found)
    return plane


def test_a_classic_file_is_one_plane() -> None:
    plane = only(classic(7.5, RescaleSlope=2, RescaleIntercept=-1024))
    assert plane.position_mm.tolist() == [-10, 20, 7.5]
    assert plane.orientation.tolist() == [1, 0, 0, 0, 1, 0]
    assert plane.spacing_mm.tolist() == [0.5, 0.25]
    assert (plane.gap_mm, plane.slope, plane.intercept) == (3, 2, -1024)
    assert (plane.name, plane.groups) == ("a.dcm", ())


def test_what_is_not_stated_is_left_open() -> None:
    plane = only(classic(0, SliceThickness=None))
    assert (plane.gap_mm, plane.slope, plane.intercept) == (None, 1, 0)


@pytest.mark.parametrize(
    ("stated", "gap"),
    [
        pytest.param({"SpacingBetweenSlices": 2, "SliceThickness": 3}, 2, id="the distance comes first"),
        pytest.param({"SpacingBetweenSlices": -2, "SliceThickness": 3}, 3, id="a distance is positive"),
        pytest.param({"SliceThickness": 0}, None, id="a thickness too"),
    ],
)
def test_the_gap_to_the_next_plane(stated: dict[str, Any], gap: float | None) -> None:
    assert only(classic(0, **stated)).gap_mm == gap


def enhanced(**changes: object) -> DicomHeader:
    """Two frames: the upper one first, with a slope of its own."""
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.25], SpacingBetweenSlices=4)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-5)],
    )
    upper = item(
        PlanePositionSequence=[item(ImagePositionPatient=[4, 0, 0])],
        PixelValueTransformationSequence=[item(RescaleSlope=3, RescaleIntercept=0)],
    )
    lower = item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 0])])
    frames: dict[str, Any] = {
        "NumberOfFrames": 2,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": [upper, lower],
    }
    return header("b.dcm", **frames | changes)


def test_a_frame_is_described_by_its_own_groups_before_the_shared_ones() -> None:
    upper, lower = planes_of(enhanced())
    assert [plane.name for plane in (upper, lower)] == ["b.dcm frame 1", "b.dcm frame 2"]
    assert [plane.position_mm[0] for plane in (upper, lower)] == [4, 0]
    assert [(plane.slope, plane.intercept) for plane in (upper, lower)] == [(3, 0), (1, -5)]
    assert lower.orientation.tolist() == [0, 1, 0, 0, 0, -1]
    assert upper.gap_mm == 4


@pytest.mark.parametrize(
    ("found", "error", "match"),
    [
        pytest.param(classic(0, ImagePositionPatient=None), FileError, "no ImagePositionPatient", id="no position"),
        pytest.param(classic(0, PixelSpacing=[1, 1, 1]), FileError, "PixelSpacing must be 2 finite", id="three"),
        pytest.param(classic(0, NumberOfFrames=5), NotSupportedError, "5 frames without positions", id="frames"),
        pytest.param(enhanced(NumberOfFrames=3), FileError, "3 frames are stated, 2 described", id="count"),
        pytest.param(classic(0, ImageType=["ORIGINAL", "MOSAIC"]), NotSupportedError, "a mosaic", id="mosaic"),
        pytest.param(classic(0, ModalityLUTSequence=[item()]), NotSupportedError, "lookup table", id="table"),
    ],
)
def test_what_has_no_place_is_refused(found: DicomHeader, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        planes_of(found)


def test_what_the_planes_share() -> None:
    planes = [only(classic(z, f"{z}.dcm")) for z in (0, 3, 6)]
    shared = geometry_of(planes, "series")
    assert list(shared.names) == ["0.dcm", "3.dcm", "6.dcm"]
    assert shared.along.tolist() == [0, 3, 6]
    assert (shared.spacing_mm, shared.size, shared.gap_mm) == ((0.5, 0.25), (3, 4), 3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"Rows": 5}, r"sizes \(rows, columns\) of slices differ: 1 of 4 are unlike", id="size"),
        pytest.param({"PixelSpacing": [0.5, 0.5]}, "pixel spacings of slices differ", id="spacing"),
        pytest.param({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "orientations of slices differ", id="direction"),
    ],
)
def test_the_plane_that_is_unlike_the_others_is_named(change: dict[str, Any], match: str) -> None:
    planes = [only(classic(z, f"{z}.dcm")) for z in range(3)]
    odd = classic(3, "odd.dcm")
    for name, value in change.items():
        setattr(odd.dataset, name, value)
    with pytest.raises(FileError, match=rf"^series: the {match}.*\(odd\.dcm\)"):
        geometry_of([*planes, only(odd)], "series")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two directions at a right angle", id="parallel"),
        pytest.param({"PixelSpacing": [0, 1]}, "pixel spacing must be positive", id="spacing"),
    ],
)
def test_an_impossible_geometry_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(FileError, match=rf"^series: .*{match}"):
        geometry_of([only(classic(0, **change))], "series")
