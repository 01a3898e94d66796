"""DICOM-SEG: equal to the labels it was made of, for us and for highdicom; overlaps told; no text of a patient."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_files import CANARY, voxels, write_enhanced, write_series
from grids import grid
from napari_medseg import geometry, io
from napari_medseg.errors import FileError, GridMismatchError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import AxisOrder
from napari_medseg.io.dicom.codes import coded
from napari_medseg.io.formats import check_fits
from napari_medseg.volume import Grid, Segmentation

GRID = grid("SPL", shape=(4, 5, 6), angles_rad=(0.2, -0.15, 0.1))
NAMES = {1: "liver", 2: "Left_kidney", 3: "a \\ strange (größer) name"}
DATA = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(np.uint8)
DATA[0] = 0  # a slice without any label
LABELS = Segmentation(DATA, GRID, NAMES)
PROVENANCE = {"model_sha256": "ab" * 32, "network": "unet3d"}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "series", voxels(GRID.shape), GRID)


def saved(folder: Path, labels: Segmentation, source: Path) -> Path:
    path = folder / "labels.dcm"
    io.write(path, labels, provenance=PROVENANCE, source=source)
    return path


def test_labels_come_back(tmp_path: Path, series: Path) -> None:
    path = saved(tmp_path, LABELS, series)
    read = io.read_segmentation(path)
    assert np.array_equal(read.data[:], DATA)
    assert read.grid.same_as(GRID)
    assert dict(read.labels) == NAMES
    assert io.read_segmentation(path).provenance == PROVENANCE


def test_an_outline_of_labels_needs_the_header_only(
    tmp_path: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, LABELS, series)
    read = io.read_segmentation(path)
    monkeypatch.setattr("napari_medseg.io.dicom.seg.decode", None)
    seen = io.peek(path, as_labels=True)
    assert (seen.dtype, seen.is_labels, seen.grid.same_as(read.grid)) == (read.data.dtype, True, True)
    assert (dict(seen.labels), seen.provenance) == (NAMES, PROVENANCE)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [([1, 2, 3], "BINARY"), ([1, 2, 7], "LABELMAP"), ([300, 40000, 65535], "LABELMAP")],
    ids=["counted", "gaps", "large"],
)
def test_highdicom_reads_the_same(tmp_path: Path, series: Path, ids: list[int], kind: str) -> None:
    data = np.array([0, *ids], np.uint16)[DATA]
    path = saved(tmp_path, Segmentation(data, GRID, dict.fromkeys(ids, "organ")), series)
    segmentation = highdicom.seg.segread(path)
    assert segmentation.SegmentationType == kind
    volume = segmentation.get_volume(combine_segments=True)
    # highdicom counts its slices against ours.
    seen = Grid(DATA.shape, geometry.from_itk(volume.affine[:, [2, 1, 0, 3]]))
    order = AxisOrder.between(seen.orientation, GRID.orientation)
    assert seen.reordered(order).same_as(GRID)
    assert np.array_equal(order.apply(volume.array), data)
    assert np.array_equal(io.read_segmentation(path).data[:], data)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_an_independent_validator_finds_no_error(tmp_path: Path, series: Path) -> None:
    """BINARY only: dciodvfy is older than label maps."""
    path = saved(tmp_path, LABELS, series)
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace").stderr
    assert "Segmentation" in told.splitlines()  # the kind that it took it for
    assert not [line for line in told.splitlines() if line.startswith("Error")]


def test_each_frame_refers_to_its_slice(tmp_path: Path, series: Path) -> None:
    dataset = pydicom.dcmread(saved(tmp_path, LABELS, series))
    places = {}
    for file in series.iterdir():
        source = pydicom.dcmread(file)
        places[source.SOPInstanceUID] = source.ImagePositionPatient
    assert dataset.StudyInstanceUID == source.StudyInstanceUID
    assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert len(dataset.PerFrameFunctionalGroupsSequence) == 12
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, places[uid], atol=1e-6)


def test_an_enhanced_source_and_flipped_labels(tmp_path: Path) -> None:
    source = write_enhanced(tmp_path / "all.dcm", voxels(GRID.shape), GRID)
    order = AxisOrder.between(GRID.orientation, "LAI")
    flipped = Segmentation(order.apply(DATA), GRID.reordered(order), NAMES)
    read = io.read_segmentation(saved(tmp_path, flipped, source))
    assert np.array_equal(read.data[:], DATA)
    assert read.grid.same_as(GRID)


def test_the_same_labels_have_the_same_uids(tmp_path: Path, series: Path) -> None:
    first, second = (pydicom.dcmread(saved(tmp_path, LABELS, series)) for _ in range(2))
    other = pydicom.dcmread(saved(tmp_path, Segmentation(DATA.clip(0, 2), GRID, NAMES), series))
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SOPInstanceUID != other.SOPInstanceUID


def test_codes_and_colours_are_written(tmp_path: Path, series: Path) -> None:
    liver, kidney, strange = pydicom.dcmread(saved(tmp_path, LABELS, series)).SegmentSequence
    assert CodedConcept.from_dataset(liver.SegmentedPropertyTypeCodeSequence[0]) == codes.SCT.Liver
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert CodedConcept.from_dataset(side) == codes.SCT.Left
    assert CodedConcept.from_dataset(strange.SegmentedPropertyTypeCodeSequence[0]) == codes.SCT.Tissue
    assert strange.SegmentLabel == "a / strange (größer) name"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.RecommendedDisplayCIELabValue != kidney.RecommendedDisplayCIELabValue


def test_colours_come_back(tmp_path: Path, series: Path) -> None:
    coloured = Segmentation(DATA, GRID, NAMES, colours={1: (221, 130, 101), 2: (0, 0, 255)})
    path = saved(tmp_path, coloured, series)
    read = io.read_segmentation(path).colours
    assert {1: read[1], 2: read[2]} == dict(coloured.colours)
    dataset = pydicom.dcmread(path)
    del dataset[0x00770010], dataset[0x00771001]  # as another program would have written it
    dataset.SegmentSequence[2].RecommendedDisplayCIELabValue = [65535, 65535, 0]  # no such colour
    dataset.save_as(path)
    foreign = io.read_segmentation(path).colours
    np.testing.assert_allclose([foreign[1], foreign[2]], [(221, 130, 101), (0, 0, 255)], atol=2)
    assert 3 not in foreign


@pytest.mark.parametrize(
    ("name", "kind", "side"),
    [
        ("LIVER", codes.SCT.Liver, None),
        ("kidney_right", codes.SCT.Kidney, codes.SCT.Right),
        ("kidneys", codes.SCT.Kidney, None),
        ("inferior vena cava", codes.SCT.InferiorVenaCava, None),
        ("tumour", codes.SCT.Neoplasm, None),
        ("right thing", codes.SCT.Tissue, None),
    ],
)
def test_names_have_codes(name: str, kind: Any, side: Any) -> None:
    assert coded(name)[1:] == (kind, side)


def test_no_text_of_the_patient_is_copied(tmp_path: Path, series: Path) -> None:
    assert CANARY.encode() in next(series.iterdir()).read_bytes()
    assert CANARY.encode() not in saved(tmp_path, LABELS, series).read_bytes()


def test_a_lost_frame_of_reference_is_made_up_once(tmp_path: Path) -> None:
    path = write_series(
        tmp_path / "series", voxels(GRID.shape), GRID, tweak=lambda dataset, _: dataset.pop("FrameOfReferenceUID")
    )
    first, second = (pydicom.dcmread(saved(tmp_path, LABELS, path)).FrameOfReferenceUID for _ in range(2))
    assert first == second


def test_labels_of_another_grid_are_refused(tmp_path: Path, series: Path) -> None:
    apart = Segmentation(DATA, grid("SPL", shape=(4, 5, 6)), NAMES)
    with pytest.raises(GridMismatchError, match="must lie on the grid of their source"):
        saved(tmp_path, apart, series)
    assert not (tmp_path / "labels.dcm").exists()


def test_what_cannot_be_a_segmentation_is_refused(tmp_path: Path, series: Path) -> None:
    path = tmp_path / "out.dcm"
    with pytest.raises(InputError, match="refers to the series it was drawn on"):
        io.write(path, LABELS)
    with pytest.raises(InputError, match="only DICOM segmentations"):
        io.write(tmp_path / "out.nii.gz", LABELS, source=series)
    with pytest.raises(InputError, match="images are not written as DICOM"):
        io.write(path, io.read(series))
    with pytest.raises(InputError, match="ids from 1 to 65535; got none"):
        io.write(path, Segmentation(DATA * 0, GRID), source=series)
    with pytest.raises(InputError, match=r"ids from 1 to 65535; got \[70000\]"):
        io.write(path, Segmentation(DATA.astype(np.int32) * 70000 // 3, GRID, {70000: "x"}), source=series)
    for dtype in (np.int16, np.int64):
        with pytest.raises(InputError, match=r"out\.dcm: label ids must lie in 0 to 2147483647; got -1 to"):
            io.write(path, Segmentation(DATA.astype(dtype) - 1, GRID), source=series)


def test_ours_is_replaced_and_a_slice_is_not(tmp_path: Path, series: Path) -> None:
    inside = series / "seg.dcm"
    for labels in (LABELS, Segmentation(DATA.clip(0, 2), GRID)):
        io.write(inside, labels, source=series)
    assert io.read_segmentation(inside).data[:].max() == 2
    theirs = next(path for path in sorted(series.iterdir()) if path != inside)
    theirs = theirs.rename(theirs.with_suffix(".dcm"))
    before = theirs.read_bytes()
    with pytest.raises(FileError, match="a DICOM file that was not written by napari-medseg is there"):
        io.write(theirs, LABELS, source=series)
    assert theirs.read_bytes() == before


def test_a_resampled_source_is_refused(tmp_path: Path) -> None:
    def tilt(dataset: pydicom.Dataset, k: int) -> None:
        dataset.ImagePositionPatient[1] = dataset.ImagePositionPatient[1] + k

    path = write_series(tmp_path / "series", voxels(GRID.shape), GRID, tweak=tilt)
    with pytest.warns(MedsegWarning, match="gantry tilt"):
        image = io.read(path)
    labels = Segmentation(np.ones(image.grid.shape, np.uint8), image.grid, {1: "all"})
    with pytest.raises(NotSupportedError, match="its slices cannot be labelled"):
        saved(tmp_path, labels, path)
    with pytest.raises(NotSupportedError, match="its slices cannot be labelled"):
        check_fits(tmp_path / "out.dcm", image.grid, path)


def overlapping(folder: Path, series: Path) -> Path:
    """Two segments that share the voxels of DATA that are 1; frames that are empty are left out."""
    sources = [pydicom.dcmread(path) for path in sorted(series.iterdir(), reverse=True)]
    masks = np.stack([DATA == 1, (DATA == 1) | (DATA == 2)], axis=-1)
    description = highdicom.seg.SegmentDescription
    segmentation = highdicom.seg.Segmentation(
        with_type_2(sources),
        masks,
        "BINARY",
        [description(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for n in (1, 2)],
        generate_uid(),
        1,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
    )
    segmentation.save_as(folder / "overlaps.dcm")
    return folder / "overlaps.dcm"


def fractional(folder: Path, series: Path, kind: str) -> Path:
    """Two segments in fractions of 200 that together are the whole in the voxels of DATA that are 1."""
    sources = [pydicom.dcmread(path) for path in sorted(series.iterdir(), reverse=True)]
    part = np.where(DATA == 1, 0.75, 0.0)
    description = highdicom.seg.SegmentDescription
    segmentation = highdicom.seg.Segmentation(
        with_type_2(sources),
        np.stack([part, np.where(DATA == 1, 0.25, DATA == 2)], axis=-1),
        "FRACTIONAL",
        [description(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for n in (1, 2)],
        generate_uid(),
        1,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
        fractional_type=kind,
        max_fractional_value=200,
        omit_empty_frames=False,
    )
    segmentation.save_as(folder / "fractions.dcm")
    return folder / "fractions.dcm"


@pytest.mark.parametrize(
    ("kind", "noun"), [("PROBABILITY", "probabilities"), ("OCCUPANCY", "occupancies")], ids=["probability", "occupancy"]
)
def test_fractions_are_labels_from_one_half_on(tmp_path: Path, series: Path, kind: str, noun: str) -> None:
    path = fractional(tmp_path, series, kind)
    told = (
        rf"fractions\.dcm: a segmentation of {noun} from 0 to 200; labels are the voxels of at least 100 \(one half\)"
    )
    with pytest.warns(MedsegWarning, match=told):
        read = io.read_segmentation(path)
    assert np.array_equal(read.data[:], np.where(DATA < 3, DATA, 0))
    assert dict(read.labels) == {1: "part 1", 2: "part 2"}


def test_fractions_of_nothing_are_refused(tmp_path: Path, series: Path) -> None:
    path = fractional(tmp_path, series, "PROBABILITY")
    dataset = pydicom.dcmread(path)
    del dataset.MaximumFractionalValue
    dataset.save_as(path)
    with pytest.raises(FileError, match="its fractions do not say which value is the whole"):
        io.read_segmentation(path)


def with_type_2(sources: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    for source in sources:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"):
            setattr(source, keyword, "")
    return sources


def test_overlaps_are_told_with_the_choices(tmp_path: Path, series: Path) -> None:
    path = overlapping(tmp_path, series)
    count = int((DATA == 1).sum())
    with pytest.raises(InputError, match=rf"1 and 2 in {count} voxels.*read .*#1 and .*#2"):
        io.read_segmentation(path)
    second = io.read_segmentation(f"{path}#2")
    assert np.array_equal(second.data[:] == 2, ((DATA == 1) | (DATA == 2))[1:])  # the empty first slice is absent
    assert dict(second.labels) == {2: "part 2"}
    with pytest.raises(InputError, match=r"no such segments: the file holds 1 \(part 1\), 2 \(part 2\)"):
        io.read_segmentation(f"{path}#5")


def test_a_verb_chooses_among_image_and_labels(tmp_path: Path, series: Path) -> None:
    saved(series, LABELS, series)
    assert io.read(series).data.dtype == np.int16
    assert np.array_equal(io.read_segmentation(series).data[:], DATA)


@pytest.mark.parametrize(
    ("segmentation", "labels"),
    [
        ("liver.dcm", "liver_seg.nrrd"),
        ("partial_overlaps.dcm#1,4,5", "partial_overlaps-1.nrrd"),
        ("partial_overlaps.dcm#2", "partial_overlaps-2.nrrd"),
        ("partial_overlaps.dcm#3", "partial_overlaps-3.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd"),
    ],
)
def test_real_segmentations_equal_their_labels(medseg_data: Path, segmentation: str, labels: str) -> None:
    read = io.read_segmentation(medseg_data / "dicom_seg" / segmentation)
    truth = io.read_segmentation(medseg_data / "dicom_seg" / labels)
    assert np.array_equal(read.data[:], truth.data[:])
    assert read.grid.same_as(truth.grid)


def test_a_real_overlap_names_the_sets_that_do_not(medseg_data: Path) -> None:
    with pytest.raises(InputError, match=r"overlap \(1 and 2 in 3017 voxels.*#1,4,5 and .*#2 and .*#3"):
        io.read_segmentation(medseg_data / "dicom_seg" / "partial_overlaps.dcm")


def test_a_real_series_can_be_labelled(medseg_data: Path, tmp_path: Path) -> None:
    source = medseg_data / "dicom_seg" / "ct-3slice"
    liver = io.read_segmentation(medseg_data / "dicom_seg" / "liver.dcm")
    read = io.read_segmentation(saved(tmp_path, liver, source))
    assert np.array_equal(read.data[:], liver.data[:])
