"""A landmark through read -> layer -> Segmentation -> write -> read, in every orientation and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from napari.layers import Image, Labels

from dicom_files import write_series
from grids import ORIENTATIONS, grid
from napari_medseg import Segmentation, Volume, read, read_segmentation, write
from napari_medseg.widgets.canvas.layers import labels_layer, to_segmentation, to_volume, volume_layer

TILT = (0.12, -0.19, 0.28)
LANDMARK = (2, 1, 2)
SUFFIXES = (".nii.gz", ".nrrd", ".mha", ".zarr")
IDS = np.array([0, 3, 70_000, 2**31 - 1])


@pytest.mark.parametrize("oblique", [False, True], ids=["aligned", "oblique"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_landmark_stays_and_labels_are_bit_exact(tmp_path: Path, suffix: str, oblique: bool) -> None:
    """The formats share the 48 orientations; the tests of each format read and write them all without layers."""
    assert len(ORIENTATIONS) == 48
    rng = np.random.default_rng(0)
    for orientation in ORIENTATIONS[SUFFIXES.index(suffix) :: len(SUFFIXES)]:
        where = grid(orientation, angles_rad=TILT if oblique else (0.0, 0.0, 0.0))
        assert where.orientation == orientation
        assert where.is_oblique == oblique
        landmark = where.index_to_world(LANDMARK)
        labels = IDS[rng.integers(0, 4, where.shape)].astype(np.int32)
        image = rng.integers(-1000, 3000, (1, *where.shape)).astype(np.int16)
        write(tmp_path / f"image{suffix}", Volume(image, where))
        write(tmp_path / f"labels{suffix}", Segmentation(labels, where, {3: "three"}))

        image_data, image_arguments, _ = volume_layer(read(tmp_path / f"image{suffix}"))[0]
        label_data, label_arguments, _ = labels_layer(read_segmentation(tmp_path / f"labels{suffix}"))
        layers = [Image(image_data, **image_arguments), Labels(label_data, **label_arguments)]
        volume, segmentation = to_volume(layers[0], layers), to_segmentation(layers[1], layers)
        write(tmp_path / f"again{suffix}", segmentation)
        again = read_segmentation(tmp_path / f"again{suffix}")

        np.testing.assert_array_equal(np.asarray(volume.data[...]), image, err_msg=orientation)
        np.testing.assert_array_equal(np.asarray(again.data[...]), labels, err_msg=orientation)
        # the arrays are as stored all the way, so the landmark keeps its index
        for reached in (volume.grid, segmentation.grid, again.grid):
            moved = reached.index_to_world(LANDMARK) - landmark
            assert np.linalg.norm(moved) <= 0.01, orientation
        assert again.labels[3] == "three"


@pytest.mark.parametrize("oblique", [False, True], ids=["aligned", "oblique"])
def test_a_landmark_stays_through_a_dicom_series_and_its_segmentation(tmp_path: Path, oblique: bool) -> None:
    """pydicom says where the landmark's slice, row and column lie, in the series and in the segmentation."""
    rng = np.random.default_rng(1)
    for number, orientation in enumerate(ORIENTATIONS[int(oblique) :: 4]):
        where = grid(orientation, (3, 4, 5), angles_rad=TILT if oblique else (0.0, 0.0, 0.0))
        data = rng.integers(-1000, 3000, where.shape).astype(np.int16)
        data[LANDMARK] = 3001
        series = write_series(tmp_path / f"series{number}", data, where)
        image_data, arguments, _ = volume_layer(read(series))[0]
        image = Image(image_data, **arguments)
        drawn = Labels(np.where(image_data == 3001, 700, 0), scale=image.scale, translate=image.translate)
        drawn.units = image.units
        segmentation = to_segmentation(drawn, [image, drawn])
        target = tmp_path / f"labels{number}.dcm"
        write(target, segmentation, source=series)
        again = read_segmentation(target)

        landmark = where.index_to_world(LANDMARK)
        assert np.array_equal(np.asarray(again.data), np.asarray(segmentation.data)), orientation
        for reached in (segmentation, again):
            (index,) = np.argwhere(np.asarray(reached.data) == 700)
            assert np.linalg.norm(reached.grid.index_to_world(index) - landmark) <= 0.01, orientation
        for places in (positions(series, 3001), positions(target, 700)):
            assert np.linalg.norm(places - landmark[::-1], axis=1).max() <= 0.01, orientation


def positions(path: Path, value: int) -> npt.NDArray[np.float64]:
    """Where voxels of a value lie, (L, P, S) in mm, by the attributes of DICOM alone (PS3.3 C.7.6.2.1.1)."""
    found = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        dataset = pydicom.dcmread(file)
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        for plane, place in zip(pixels, places_of(dataset), strict=True):
            first, cosines, spacing = place
            for row, column in np.argwhere(plane == value):
                found.append(first + cosines[:3] * spacing[1] * column + cosines[3:] * spacing[0] * row)
    assert found
    return np.array(found)


def places_of(dataset: pydicom.Dataset) -> list[tuple[npt.NDArray[np.float64], ...]]:
    """(position, orientation, spacing) of each frame."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        return [tuple(np.array(dataset[keyword].value, float) for keyword in keywords)]
    (shared,) = dataset.SharedFunctionalGroupsSequence
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    return [
        (np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float), cosines, spacing)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
