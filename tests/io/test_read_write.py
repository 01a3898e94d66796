from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from grids import grid
from napari_medseg import io
from napari_medseg.cli.describe import count_labels, describe
from napari_medseg.errors import FileError, GridMismatchError, InputError, MedsegWarning
from napari_medseg.volume import Grid, Segmentation, Volume

IMAGE = Volume(np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5), grid("SAR"))
LABELS = Segmentation(np.arange(60, dtype=np.uint8).reshape(3, 4, 5) // 30, grid("SAR"), {1: "liver", 2: "spleen"})


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("ct.nii.gz", "ct"),
        ("a.b.NII.GZ", "a.b"),
        ("x.ome.zarr", "x"),
        ("x.zarr", "x"),
        ("folder/ct.mha", "ct"),
        ("ct", "ct"),
        ("1.2.840.113", "1.2.840.113"),
        ("model.safetensors", "model"),
    ],
)
def test_a_name_loses_its_formats_suffix(name: str, stripped: str) -> None:
    assert io.strip_suffix(name) == stripped


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_text("a picture")
    with pytest.raises(FileError, match=r"a\.gif: not a known image format: .*\.nii\.gz, .*\.nrrd.*\.zarr"):
        io.read(tmp_path / "a.gif")
    with pytest.raises(InputError, match=r"b\.jpg: no format is written under this name: .*\.nii\.gz"):
        io.write(tmp_path / "b.jpg", IMAGE)


def test_a_folder_without_an_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(FileError, match="no image in this folder"):
        io.read(tmp_path)


def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "b.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "a.nii")
    with pytest.raises(FileError, match=r"a\.nii: cannot be opened"):
        io.read(tmp_path / "a.nii")


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("old")
    io.write(tmp_path / "a.nii", IMAGE)
    assert np.array_equal(io.read(tmp_path / "a.nii").data[:], IMAGE.data[:])
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".zarr"])
def test_one_format_becomes_another(tmp_path: Path, suffix: str) -> None:
    io.write(tmp_path / "a.nii.gz", LABELS)
    io.write(tmp_path / f"b{suffix}", io.read_segmentation(tmp_path / "a.nii.gz"))
    read = io.read_segmentation(tmp_path / f"b{suffix}")
    assert np.array_equal(np.asarray(read.data), LABELS.data[:])
    assert (read.labels, read.grid.same_as(LABELS.grid)) == (LABELS.labels, True)


@pytest.mark.parametrize(
    "suffix", [".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".ome.zarr", ".png", ".tif", ".bmp"]
)
@pytest.mark.parametrize(
    ("id_", "dtype"),
    [(-1, "i1"), (-1, "i2"), (-1, "i4"), (-1, "i8"), (2**31 + 5, "u4"), (2**32 + 1, "u8")],
)
def test_ids_that_no_label_has_are_not_written(tmp_path: Path, suffix: str, id_: int, dtype: str) -> None:
    data = np.zeros((1, 4, 5), dtype)
    data[0, 1, 2] = id_
    path = tmp_path / f"a{suffix}"
    with pytest.raises(InputError, match=rf"a{suffix}: label ids must lie in 0 to 2147483647; got .*{id_}"):
        io.write(path, Segmentation(data, grid("IPL", (1, 4, 5))))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nii.gz", ".ome.zarr"])
def test_ids_of_a_store_are_looked_at_as_they_are_copied(tmp_path: Path, suffix: str) -> None:
    data = np.zeros((70, 4, 5), np.uint64)
    data[69, 1, 2] = 2**32 + 1
    store = zarr.array(data, chunks=(64, 4, 5))
    with pytest.raises(InputError, match=r"label ids must lie in 0 to 2147483647; got 0 to 4294967297"):
        io.write(tmp_path / f"a{suffix}", Segmentation(store, grid("SAR", data.shape)))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".zarr", ".png"])
def test_a_provenance_that_json_does_not_hold_is_refused(tmp_path: Path, suffix: str) -> None:
    labels = Segmentation(np.zeros((1, 4, 5), np.uint8), grid("IPL", (1, 4, 5)))
    with pytest.raises(InputError, match=rf"a{suffix}: the provenance must be values that JSON can hold: .*float32"):
        io.write(tmp_path / f"a{suffix}", labels, provenance={"a": np.float32(1)})
    assert not list(tmp_path.iterdir())


def test_formats_load_when_they_are_met() -> None:
    code = (
        "import sys, napari_medseg.io; "
        "print(sorted({'nibabel', 'itk', 'pydicom', 'highdicom', 'zarr', 'dask', 'torch', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_image_is_described(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nii.gz", IMAGE, provenance={"steps": [1, 2]})
    assert describe(tmp_path / "a.nii.gz") == [
        f"file: {tmp_path / 'a.nii.gz'}",
        "format: NIfTI",
        "shape: 3 x 4 x 5 (z, y, x)",
        "type: int16",
        "spacing: 2.5, 0.7, 1.2 mm (z, y, x)",
        "origin: -103.25, 57.5, 811.125 mm (towards S, P, L)",
        "orientation: SAR (the direction that each array axis runs to)",
        "channels: 1 (channel 0)",
        "values: 0 to 59",
        "provenance, steps: [1, 2]",
    ]


def test_labels_are_described_on_their_image(tmp_path: Path) -> None:
    io.write(tmp_path / "image.zarr", IMAGE)
    io.write(tmp_path / "labels.zarr", LABELS)
    lines = describe(tmp_path / "labels.zarr", labels=True, image=tmp_path / "image.zarr")
    assert lines[3:5] == ["type: uint8", "chunks: 3 x 4 x 5"]
    assert lines[-4:] == [
        "labels: 1 of 2 present (30 voxels of background)",
        "  1  liver  30 voxels",
        "  absent: 2 spleen",
        f"grid: the same as that of {tmp_path / 'image.zarr'}",
    ]


def test_labels_apart_from_their_image_are_refused(tmp_path: Path) -> None:
    io.write(tmp_path / "image.nii", Volume(IMAGE.data, grid("SAR", origin=(0, 0, 0))))
    io.write(tmp_path / "labels.nii", LABELS)
    with pytest.raises(GridMismatchError, match="labels 'labels' and image 'image' must lie on the same grid"):
        describe(tmp_path / "labels.nii", labels=True, image=tmp_path / "image.nii")


def test_labels_without_a_label_are_told(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nii", Segmentation(np.zeros((3, 4, 5), np.uint8), grid("SPL")))
    with pytest.warns(MedsegWarning, match="nothing is labelled"):
        describe(tmp_path / "a.nii", labels=True)


def test_labels_are_counted_slab_by_slab() -> None:
    data = np.random.default_rng(0).integers(0, 5, (150, 3, 2))
    assert count_labels(data) == {label: int((data == label).sum()) for label in range(5)}


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").mkdir()
    (tmp_path / "a.nii.gz" / "kept").touch()
    with pytest.raises(FileError, match=r"a\.nii\.gz: a folder of this name is there"):
        io.write(
            tmp_path / "a.nii.gz", Volume(np.zeros((1, 2, 3, 4), np.int16), Grid.from_spacing((2, 3, 4), (1, 1, 1)))
        )
    assert (tmp_path / "a.nii.gz" / "kept").exists()
