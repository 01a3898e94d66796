"""Several layers are saved by one step, each in a file of its own on its grid, and no file is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseg as ms
from balls import LABELS, segmentation, volume
from napari_medseg.errors import FileError
from napari_medseg.volume import Grid, Volume
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer
from napari_medseg.widgets.canvas.save_all import paths_of


@pytest.fixture
def opened(viewer: ViewerModel) -> ViewerModel:
    """Two images on different grids, and two layers of labels."""
    small = Volume(np.zeros((1, 2, 3, 4), np.float32), Grid.from_spacing((2, 3, 4), (5, 6, 7)))
    for name, content in (
        ("ct", volume_layer(volume())[0]),
        ("scout: a/p", volume_layer(small)[0]),
        ("organs", labels_layer(segmentation())),
        ("drawn", labels_layer(segmentation())),
    ):
        data, arguments, kind = content
        getattr(viewer, f"add_{kind}")(data, **{**arguments, "name": name})
    return viewer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "saved"
    made.mkdir()
    return made


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".zarr"])
def test_each_layer_gets_a_file_on_its_grid(opened: ViewerModel, folder: Path, suffix: str) -> None:
    paths = opened.layers.save(str(folder / f"case{suffix}"), plugin="napari-medseg")
    names = ["case_ct", "case_scout_ a_p", "case_organs", "case_drawn"]
    assert paths == [str(folder / f"{name}{suffix}") for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}{suffix}" for name in names)
    np.testing.assert_array_equal(np.asarray(ms.read(paths[0]).data), np.asarray(volume().data))
    assert ms.read(paths[1]).grid.spacing == (5, 6, 7)
    found = ms.read_segmentation(paths[2])
    np.testing.assert_array_equal(np.asarray(found.data), segmentation().data)
    assert found.grid.same_as(segmentation().grid)
    assert dict(found.labels) == LABELS


def test_one_layer_is_saved_under_the_name_itself(opened: ViewerModel, folder: Path) -> None:
    opened.layers.selection = {opened.layers["organs"]}
    path = str(folder / "case.nii.gz")
    assert opened.layers.save(path, selected=True, plugin="napari-medseg") == [path]


def test_no_file_that_is_there_is_replaced(opened: ViewerModel, folder: Path) -> None:
    (folder / "case_organs.nii.gz").write_text("precious")
    with pytest.raises(FileError, match=r"case\.nii\.gz: case_organs\.nii\.gz would be replaced: choose another name"):
        opened.layers.save(str(folder / "case.nii.gz"), plugin="napari-medseg")
    assert [path.name for path in folder.iterdir()] == ["case_organs.nii.gz"]


def test_nothing_is_written_where_a_layer_cannot_be(opened: ViewerModel, folder: Path) -> None:
    opened.add_image(np.zeros((2, 3, 4, 5)), name="movie")
    with pytest.raises(FileError, match="layer 'movie' must be a volume"):
        opened.layers.save(str(folder / "case.nii.gz"), plugin="napari-medseg")
    assert not [*folder.iterdir()]


def test_no_two_layers_get_one_file() -> None:
    names = ["a/b", "a:b", "A_B", "a_b 2", "..", "#1"]
    found = [path.name for path in paths_of(Path("x/case"), names)]
    assert found[:2] == ["case_a_b.nii.gz", "case_a_b 2.nii.gz"]
    assert len({name.lower() for name in found}) == len(names)
