"""Files open as layers in their place and are saved on their grid, through napari's own plugin machinery."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager
from pydicom.dataset import Dataset

import napari_medseg as ms
from balls import LABELS, segmentation, volume
from dicom_files import voxels, write_series
from napari_medseg import registry
from napari_medseg.cli import main
from napari_medseg.config import SegmentConfig, field_docs
from napari_medseg.errors import FileError, MedsegWarning
from napari_medseg.io.dicom.header import DicomHeader, read_header
from napari_medseg.io.outputs import earlier_labels
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import PROVENANCE_KEY, to_segmentation, to_volume
from napari_medseg.widgets.canvas.napari_io import get_reader
from orientations import ORIENTATIONS, grid_of

SUFFIXES = [".nii.gz", ".nii", ".nrrd", ".mha", ".zarr"]


def array(noun: Volume | Segmentation) -> npt.NDArray[Any]:
    return np.asarray(noun.data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_image_opens_and_is_saved_unchanged(viewer: ViewerModel, tmp_path: Path, suffix: str) -> None:
    image = Volume(volume().data, grid_of((2, 0, 1), (1, -1, 1), shape=volume().grid.shape))
    source, target = tmp_path / f"ct{suffix}", tmp_path / f"saved{suffix}"
    ms.write(source, image)
    (layer,) = viewer.open(source, plugin="napari-medseg")
    assert layer.name == "ct"
    assert layer.save(target, plugin="napari-medseg") == [str(target)]
    back = ms.read(target)
    np.testing.assert_array_equal(array(back), image.data)
    np.testing.assert_allclose(back.grid.affine, image.grid.affine, atol=1e-4)


def test_each_dicom_series_of_a_folder_opens_as_a_layer(viewer: ViewerModel, tmp_path: Path) -> None:
    small = Grid.from_spacing((3, 4, 5), (2.0, 1.0, 1.0))
    data = voxels(small.shape)
    write_series(tmp_path / "study", data, small)
    (layer,) = viewer.open(tmp_path / "study", plugin="napari-medseg")
    assert layer.name == "study"
    np.testing.assert_array_equal(array(to_volume(layer, [layer]))[0], data)
    viewer.layers.clear()
    write_series(tmp_path / "other", data, small, series="1.2.3")
    for file in (tmp_path / "other").iterdir():
        file.rename(tmp_path / "study" / f"other_{file.name}")
    layers = viewer.open(tmp_path / "study", plugin="napari-medseg")
    assert [layer.name[:6] for layer in layers] == ["study#", "study#"]
    (slice_layer,) = viewer.open(tmp_path / "study" / "IM001.dcm", plugin="napari-medseg")
    assert slice_layer.data.shape[-2:] == (4, 5)


def test_a_dropped_folder_of_nested_series_opens_them_all(viewer: ViewerModel, tmp_path: Path) -> None:
    small = Grid.from_spacing((3, 4, 5), (2.0, 1.0, 1.0))
    data = voxels(small.shape)

    def echo(dataset: Dataset, k: int, time: int) -> None:
        dataset.EchoTime, dataset.SOPInstanceUID = time, f"1.2.{time}.{k + 1}"

    def no_volume(dataset: Dataset, _: int) -> None:
        dataset.ImagePositionPatient = [0, 0, 0]

    disc = tmp_path / "disc" / "PAT" / "STUDY"
    write_series(disc / "MR" / "E1", data, small, tweak=lambda d, k: echo(d, k, 1))
    write_series(disc / "MR" / "E2", data + 1, small, tweak=lambda d, k: echo(d, k, 2))
    write_series(disc / "CT", data, small, series="1.2.3")
    write_series(disc / "SCOUT", data, small, series="1.2.4", tweak=no_volume)
    assert get_reader(str(tmp_path / "disc")) is not None
    with pytest.warns(MedsegWarning, match="SCOUT: .* lie at the same position"):
        layers = viewer.open(tmp_path / "disc", plugin="napari-medseg")
    assert sorted(re.sub("#[0-9a-f]{6}", "", layer.name) for layer in layers) == [
        "CT CT 3",
        "MR.0 echo time 1.0 CT 3",
        "MR.1 echo time 2.0 CT 3",
    ]
    assert sorted(int((array(to_volume(layer, [layer]))[0] - data)[0, 0, 0]) for layer in layers) == [0, 0, 1]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_each_header_of_a_folder_of_series_is_read_once(
    viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    small = Grid.from_spacing((3, 4, 5), (2.0, 1.0, 1.0))
    for number in range(4):
        place = write_series(tmp_path / "in" / f"{number}", voxels(small.shape), small, series=f"1.2.{number + 1}")
        for file in sorted(place.iterdir()) if not nested else ():
            file.rename(tmp_path / "in" / f"{number}_{file.name}")
        if not nested:
            place.rmdir()
    read: list[Path] = []

    def counted(path: Path) -> DicomHeader:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr("napari_medseg.io.dicom.series.read_header", counted)
    assert len(viewer.open(tmp_path / "in", plugin="napari-medseg")) == 4
    assert len(read) == len(set(read)) == 12


def test_a_collection_of_too_many_images_is_refused(viewer: ViewerModel, tmp_path: Path) -> None:
    for number in range(33):
        size = Grid.from_spacing((1, 4, 5 + number % 2), (2.0, 1.0, 1.0))
        write_series(tmp_path / "many" / f"{number}", voxels(size.shape), size, series=f"1.2.{number + 1}")
    with pytest.raises(FileError, match="many: 33 volumes in one folder, too many for layers"):
        viewer.open(tmp_path / "many", plugin="napari-medseg")


def four_dimensional(path: Path, count: int) -> npt.NDArray[np.int16]:
    """A NIfTI file of so many volumes, and its voxels (t, z, y, x)."""
    data = np.arange(count * 60, dtype=np.int16).reshape(count, 3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(data.T, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return data


def test_each_of_a_few_time_points_opens_as_a_layer(viewer: ViewerModel, tmp_path: Path) -> None:
    data = four_dimensional(tmp_path / "series.nii.gz", 3)
    layers = viewer.open(tmp_path / "series.nii.gz", plugin="napari-medseg")
    assert [layer.name for layer in layers] == [f"series#{n}" for n in range(3)]
    for layer, point in zip(layers, data, strict=True):
        np.testing.assert_array_equal(array(to_volume(layer, layers))[0], point)


def test_of_many_time_points_one_is_opened_by_what_the_refusal_says(
    viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = four_dimensional(tmp_path / "series.nii.gz", 9)
    with pytest.raises(FileError, match=r"series\.nii\.gz: 9 volumes in one file, too many for layers") as told:
        viewer.open(tmp_path / "series.nii.gz", plugin="napari-medseg")
    monkeypatch.chdir(tmp_path)
    command = str(told.value).split("napari-medseg convert ")[1].split(" (")[0]
    assert main(["convert", *shlex.split(command)]) == 0
    (layer,) = viewer.open(tmp_path / "one.nii.gz", plugin="napari-medseg")
    np.testing.assert_array_equal(array(to_volume(layer, [layer]))[0], data[0])


def test_a_folder_is_opened_where_it_holds_an_image(plugins: PluginManager, tmp_path: Path) -> None:
    assert "napari-medseg.get_reader" in {reader.command for reader in plugins.iter_compatible_readers([tmp_path])}
    assert get_reader(str(tmp_path)) is None
    write_series(tmp_path, voxels((3, 4, 5)), Grid.from_spacing((3, 4, 5), (2.0, 1.0, 1.0)))
    assert get_reader(str(tmp_path)) is not None
    assert get_reader([str(tmp_path)]) is None


def test_labels_are_saved_as_dicom_beside_their_series(
    viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = grid_of((0, 1, 2), (1, 1, 1), (0.2, 0.1, 0.2), (3, 4, 5))
    for name, series in (("one", "1.2.3"), ("other", "1.2.4")):
        write_series(tmp_path / name, voxels((3, 4, 5)), where, series=series)
        for file in list((tmp_path / name).iterdir()):
            file.rename(tmp_path / f"{name}_{file.name}")
        (tmp_path / name).rmdir()
    viewer.open(tmp_path, plugin="napari-medseg")
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    viewer.layers.selection.active = viewer.layers[0]
    viewer._new_labels()
    drawn = viewer.layers[-1]
    drawn.data[1, 2, 3] = 1
    expected = to_segmentation(drawn, list(viewer.layers))
    drawn.save(tmp_path / "drawn.dcm", plugin="napari-medseg")
    saved = ms.read_segmentation(tmp_path / "drawn.dcm")
    np.testing.assert_array_equal(array(saved), array(expected))
    assert saved.grid.same_as(expected.grid)
    (reference,) = pydicom.dcmread(tmp_path / "drawn.dcm").ReferencedSeriesSequence
    series = sha256(reference.SeriesInstanceUID.encode()).hexdigest()[:6]
    assert viewer.layers[0].name.endswith(f"#{series} CT 3")
    viewer.layers.remove(viewer.layers[0])
    viewer.layers.remove(viewer.layers[0])
    with pytest.raises(FileError, match=r"drawn\.dcm: .* open that series beside it, or save as \.nii\.gz"):
        drawn.save(tmp_path / "drawn.dcm", plugin="napari-medseg")


def test_segments_that_overlap_open_as_layers_that_do_not(viewer: ViewerModel, medseg_data: Path) -> None:
    layers = viewer.open(medseg_data / "dicom_seg" / "partial_overlaps.dcm", plugin="napari-medseg")
    assert [isinstance(layer, Labels) for layer in layers] == [True] * 3
    assert [np.unique(array(to_segmentation(layer, layers))).tolist() for layer in layers] == [
        [0, 1, 4, 5],
        [0, 2],
        [0, 3],
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_open_as_labels_and_keep_names_and_provenance(viewer: ViewerModel, tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"organs{suffix}", tmp_path / f"saved{suffix}"
    ms.write(source, segmentation(), provenance={"model_sha256": "abc"})
    (layer,) = viewer.open(source, plugin="napari-medseg")
    assert isinstance(layer, Labels)
    layer.paint((0, 0, 0), 2)
    layer.save(target, plugin="napari-medseg")
    back = ms.read_segmentation(target)
    assert array(back)[0, 0, 0] == 2
    assert dict(back.labels) == LABELS
    (again,) = viewer.open(target, plugin="napari-medseg")
    assert again.metadata[PROVENANCE_KEY]["model_sha256"] == "abc"
    assert earlier_labels(source) is None
    assert earlier_labels(target) == tmp_path / f"saved.previous{suffix}", "they were in a person's hands"
    assert array(ms.read_segmentation(source))[0, 0, 0] == 0


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.1, 0.25)], ids=["straight", "oblique"])
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::7])
def test_a_landmark_stays_through_file_layer_and_file(
    viewer: ViewerModel,
    tmp_path: Path,
    axes: tuple[int, ...],
    signs: tuple[int, ...],
    angles: tuple[float, float, float],
) -> None:
    data = np.zeros((5, 6, 7), np.uint16)
    data[1, 4, 2] = 300
    original = Segmentation(data, grid_of(axes, signs, angles), {300: "mark"})
    ms.write(tmp_path / "mark.nii.gz", original)
    (layer,) = viewer.open(tmp_path / "mark.nii.gz", plugin="napari-medseg")
    layer.save(tmp_path / "again.nrrd", plugin="napari-medseg")
    back = ms.read_segmentation(tmp_path / "again.nrrd")
    where = back.grid.index_to_world(np.argwhere(array(back) == 300)[0])
    np.testing.assert_allclose(where, original.grid.index_to_world((1, 4, 2)), atol=0.01)


def test_labels_drawn_over_an_oblique_image_are_saved_on_its_grid(
    viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Volume(volume().data, grid_of((0, 1, 2), (1, 1, 1), (0.2, 0.1, 0.2), volume().grid.shape))
    ms.write(tmp_path / "mr.nii.gz", image)
    viewer.open(tmp_path / "mr.nii.gz", plugin="napari-medseg")
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    viewer._new_labels()
    viewer.layers[-1].save(tmp_path / "drawn.nii.gz", plugin="napari-medseg")
    saved = ms.read_segmentation(tmp_path / "drawn.nii.gz")
    np.testing.assert_allclose(saved.grid.affine, image.grid.affine, atol=1e-4)


def test_a_damaged_file_is_refused_with_its_name(viewer: ViewerModel, tmp_path: Path) -> None:
    (tmp_path / "notes.nii.gz").write_text("hello")
    with pytest.raises(OSError, match=r"notes\.nii\.gz"):
        viewer.open(tmp_path / "notes.nii.gz", plugin="napari-medseg")


@pytest.mark.parametrize(("key", "shape"), [("ct", (48, 80, 112)), ("mr", (48, 80, 112))])
def test_samples_open_with_their_labels(viewer: ViewerModel, key: str, shape: tuple[int, int, int]) -> None:
    image, labels = viewer.open_sample("napari-medseg", key)
    assert (image.visible, labels.visible) == (True, False)
    assert image.data.shape == labels.data.shape == shape
    assert to_volume(image).grid.same_as(to_segmentation(labels).grid)
    assert "liver" in to_segmentation(labels).labels.values()


def test_the_manifest_says_what_the_fields_say(plugins: PluginManager) -> None:
    manifest = plugins.get_manifest("napari-medseg")
    docs, defaults = field_docs(SegmentConfig), {f.name: f.default for f in fields(SegmentConfig)}
    for name, setting in manifest.contributions.configurations["segment"].properties.items():
        if name in docs:
            assert (setting.description, setting.default) == (docs[name], defaults[name])
    assert docs.keys() >= manifest.contributions.configurations["segment"].properties.keys() - {"model", "replace"}
    network = manifest.contributions.configurations["train"].properties["network"]
    assert network.default in registry.networks()


def test_every_command_of_the_manifest_is_there(plugins: PluginManager) -> None:
    manifest = plugins.get_manifest("napari-medseg")
    manifest.validate_imports()
