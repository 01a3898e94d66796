"""Which files of two folders belong together."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg import Grid, Segmentation, write
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.io.folders import (
    images_by_name,
    is_folder_of_images,
    match_by_name,
    natural,
    partners,
    time_points,
)


def folder(path: Path, *names: str) -> Path:
    """A folder of empty files; a name that ends in a slash is a folder in it."""
    path.mkdir()
    for name in names:
        if name.endswith("/"):
            (path / name).mkdir()
        else:
            (path / name).touch()
    return path


def test_images_go_by_their_names_without_the_suffix(tmp_path: Path) -> None:
    names = ("b.nii.gz", "a.b.nrrd", "C.MHA", "store.ome.zarr/", "pair.hdr", "pair.img")
    others = (".b.nii.gz", "notes.txt", "b.json", "sub/")
    found = images_by_name(folder(tmp_path / "images", *names, *others))
    assert {name: path.name for name, path in found.items()} == {
        "C": "C.MHA",
        "a.b": "a.b.nrrd",
        "b": "b.nii.gz",
        "pair": "pair.hdr",
        "store": "store.ome.zarr",
    }
    assert list(found) == sorted(found)


def test_a_segmentation_of_slicer_goes_with_its_image(tmp_path: Path) -> None:
    images, labels = folder(tmp_path / "images", "p1.nii.gz"), folder(tmp_path / "labels", "p1.seg.nrrd")
    found = match_by_name([images, labels]).paths
    assert found == {"p1": (images / "p1.nii.gz", labels / "p1.seg.nrrd")}
    (labels / "p1.nrrd").touch()
    with pytest.raises(InputError, match=r"p1\.nrrd and p1\.seg\.nrrd have the same name: move the segm"):
        images_by_name(labels)


@given(st.lists(st.tuples(st.sampled_from(["t", "case_", ""]), st.integers(0, 2000)), unique=True))
def test_numbers_in_names_sort_by_value(parts: list[tuple[str, int]]) -> None:
    names = [f"{text}{number}" for text, number in sorted(parts)]
    assert sorted(names, key=natural) == names


@pytest.mark.parametrize(
    "names", [["t1", "t2", "t10"], ["a1b10", "a2b9"], ["t01", "t1", "t02"], ["2", "10", "a"]], ids=str
)
def test_natural_order(names: list[str], tmp_path: Path) -> None:
    assert sorted(names, key=natural) == names
    files = [f"{name}.nii.gz" for name in names]
    first, second = folder(tmp_path / "first", *files), folder(tmp_path / "second", *reversed(files))
    assert list(images_by_name(first)) == names
    assert list(match_by_name([first, second]).paths) == names


def test_names_that_look_alike_are_one_name(tmp_path: Path) -> None:
    """macOS writes ö as o and its dots, and archives and disks carry that to other systems."""
    composed, parted = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
    images, labels = folder(tmp_path / "images", f"{parted}.nii"), folder(tmp_path / "labels", f"{composed}.nii")
    assert match_by_name([images, labels]).paths == {composed: (images / f"{parted}.nii", labels / f"{composed}.nii")}
    assert partners(images, [composed]) == {composed: images / f"{parted}.nii"}
    assert partners(labels, [parted]) == {parted: labels / f"{composed}.nii"}


def test_a_pair_in_capitals_is_one_image(tmp_path: Path) -> None:
    found = images_by_name(folder(tmp_path / "images", "A.HDR", "A.IMG", "b.IMG"))
    assert {name: path.name for name, path in found.items()} == {"A": "A.HDR", "b": "b.IMG"}


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.nii and a\.nii\.gz have the same name"):
        images_by_name(folder(tmp_path / "images", "a.nii", "a.nii.gz"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        images_by_name(tmp_path / "nowhere")


def test_pairs_are_sorted_and_the_rest_is_told_once(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", "b.nii.gz", "a.nii.gz", "x.nii.gz")
    second = folder(tmp_path / "second", "a.nrrd", "b.mha", "y.nii", "z.nii")
    with pytest.warns(MedsegWarning, match="3 images are not in all of .* x, y, z$") as said:
        found = match_by_name([first, second])
    pair_a, pair_b = (first / "a.nii.gz", second / "a.nrrd"), (first / "b.nii.gz", second / "b.mha")
    assert list(found.paths.items()) == [("a", pair_a), ("b", pair_b)]
    assert found.alone == {"x": (True, False), "y": (False, True), "z": (False, True)}
    assert len(said) == 1


def test_no_pair_is_refused_with_the_names(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", *"abcdef"), folder(tmp_path / "second")
    for name in "abcdef":
        (first / name).rename(first / f"{name}.nii")
    with pytest.raises(InputError, match=r"no image of the same name: a, b, c, d, e, \.\.\. against none"):
        match_by_name([first, second])


def test_a_zarr_folder_is_an_image_and_not_a_folder_of_images(tmp_path: Path) -> None:
    assert is_folder_of_images(folder(tmp_path / "images"))
    assert not is_folder_of_images(folder(tmp_path / "image.ome.zarr"))
    assert not is_folder_of_images(tmp_path / "nowhere")


def test_partners_have_the_names_asked_for_and_the_rest_is_told(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "a.nii.gz", "c.mha", "other.nii")
    with pytest.warns(MedsegWarning, match="1 cases have no image of their name in .*images: b$"):
        found = partners(images, ["a", "b", "c"])
    assert found == {"a": images / "a.nii.gz", "c": images / "c.mha"}
    assert partners(images / "c.mha", ["x"]) == {"x": images / "c.mha"}, "a file belongs to the only case"


def test_a_file_for_several_cases_or_a_folder_for_none_is_refused(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "other.nii")
    with pytest.raises(InputError, match="2 cases need a folder"):
        partners(images / "other.nii", ["a", "b"])
    with pytest.raises(InputError, match="has no image of the same name: other against a, b"):
        partners(images, ["a", "b"])


def test_a_time_series_is_a_path_per_point(tmp_path: Path) -> None:
    series, single = tmp_path / "series.nii", tmp_path / "single.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2, 3), np.uint8), np.eye(4)), series)
    write(single, Segmentation(np.zeros((2, 3, 4), np.uint8), Grid.from_spacing((2, 3, 4), (1.0, 1.0, 1.0))))
    assert time_points(series) == [tmp_path / f"series.nii#{n}" for n in range(3)]
    assert time_points(single) == [single]
    assert time_points(tmp_path / "series.nii#1") == [tmp_path / "series.nii#1"]
    with pytest.raises(InputError, match="#7 is none of them"):
        time_points(tmp_path / "series.nii#7")
