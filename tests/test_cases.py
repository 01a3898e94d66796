"""Cases: opened when they are needed, paired by name, small enough to cross processes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balls import balls, segmentation, volume
from napari_medseg import Grid, Segmentation, Volume, write
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.errors import FileError, GridMismatchError, InputError, MedsegWarning
from napari_medseg.geometry import AxisOrder


def test_files_pair_by_name_whatever_their_format(ball_images: Path, ball_labels: Path) -> None:
    cases = cases_from_folders([ball_images], ball_labels)
    assert [c.name for c in cases] == ["case0", "case1", "case2"]
    image, labels = cases[1].load()
    assert image.name == "case1"
    np.testing.assert_array_equal(np.asarray(image.data), np.asarray(volume(seed=1).data))
    np.testing.assert_array_equal(np.asarray(labels.data), balls())


def test_cases_are_in_natural_order(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name in ("t10", "t2", "t1"):
            (tmp_path / kind / f"{name}.nii.gz").touch()
    found = cases_from_folders([tmp_path / "images"], tmp_path / "labels")
    assert [case.name for case in found] == ["t1", "t2", "t10"]


def test_those_without_a_partner_are_named_in_one_warning(ball_images: Path, ball_labels: Path) -> None:
    (ball_images / "case0.nii.gz").unlink()
    (ball_labels / "case2.nii").unlink()
    with pytest.warns(
        MedsegWarning, match=r"2 images are not in all of .* and are left out: case0, case2; --unlabelled"
    ) as caught:
        assert [c.name for c in cases_from_folders([ball_images], ball_labels)] == ["case1"]
    assert len(caught) == 1


def test_no_pair_is_refused(ball_images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"images and .*empty have no image of the same name: case0, case1, case2 against none"
    ):
        cases_from_folders([ball_images], tmp_path / "empty")
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        cases_from_folders([ball_images], tmp_path / "nowhere")


def test_several_folders_are_channels_in_order(ball_images: Path, ball_labels: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for number in range(3):
        write(second / f"case{number}.mha", volume(seed=10 + number))
    image, _ = cases_from_folders([ball_images, second], ball_labels)[0].load()
    expected = np.concatenate([np.asarray(volume(seed=s).data) for s in (0, 10)])
    np.testing.assert_array_equal(np.asarray(image.data), expected)


def test_a_case_crosses_processes_and_is_opened_there(ball_images: Path, ball_labels: Path) -> None:
    case = cases_from_folders([ball_images], ball_labels)[0]
    (ball_images / "case0.nii.gz").rename(ball_images / "moved.nii.gz")
    copy = pickle.loads(pickle.dumps(case))  # nothing was opened yet
    with pytest.raises(FileError, match=r"no such file: .*case0"):
        copy.load()
    (ball_images / "moved.nii.gz").rename(ball_images / "case0.nii.gz")
    image, labels = copy.load()
    np.testing.assert_array_equal(image.data, volume(seed=0).data)
    np.testing.assert_array_equal(labels.data, balls())


def test_a_case_in_memory_crosses_processes() -> None:
    case = Case(name="open layers", images=(volume(), volume(seed=1)), labels=segmentation())
    image, labels = pickle.loads(pickle.dumps(case)).load()
    assert (image.name, image.data.shape[0]) == ("open layers", 2)
    np.testing.assert_array_equal(labels.data, balls())


def test_the_outline_of_a_case_has_the_channels_of_all_its_images(tmp_path: Path) -> None:
    path = tmp_path / "t2.nrrd"
    write(path, replace(volume(), channels=("T2",)))
    case = Case(name="a", images=(replace(volume(), channels=("T1",)), path))
    seen, read = case.peek(), case.volume()
    assert seen.channels == read.channels == ("T1", "T2")
    assert (seen.name, seen.grid.same_as(read.grid), seen.dtype) == ("a", True, read.data.dtype)


def test_channels_that_lie_apart_are_refused() -> None:
    moved = Grid.from_spacing(volume().grid.shape, volume().grid.spacing, (99.0, 0.0, 0.0))
    case = Case(name="a", images=(volume(), Volume(volume().data, moved)))
    for opened in (case.peek, case.volume):
        with pytest.raises(GridMismatchError, match=r"channel .* must lie on the same grid"):
            opened()


TURNED = AxisOrder((2, 0, 1), (True, False, True))


def test_labels_and_channels_stored_in_another_order_of_axes_are_brought_onto_the_image(tmp_path: Path) -> None:
    image, grid = volume(), volume().grid
    write(tmp_path / "labels.nii.gz", Segmentation(TURNED.apply(balls()), grid.reordered(TURNED)))
    write(tmp_path / "t2.nrrd", Volume(TURNED.apply(np.asarray(image.data)), grid.reordered(TURNED)))
    case = Case(name="a", images=(image, tmp_path / "t2.nrrd"), labels=tmp_path / "labels.nii.gz")
    read, labels = case.load()
    assert case.peek().grid.same_as(grid)
    assert labels.grid.same_as(read.grid)
    np.testing.assert_array_equal(labels.data, balls())
    np.testing.assert_array_equal(read.data[1], read.data[0])
    assert case.segmentation().grid.same_as(grid.reordered(TURNED))


def test_what_a_case_lacks_is_said() -> None:
    case = Case(name="a")
    for opened, what in ((case.peek, "image"), (case.volume, "image"), (case.segmentation, "labels")):
        with pytest.raises(InputError, match=f"case 'a' has no {what}"):
            opened()
