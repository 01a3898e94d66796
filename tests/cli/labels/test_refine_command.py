"""The command refine, and segment with a refiner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from napari_medseg.cli import main

SHAPE = (8, 20, 20)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, labels that lie a voxel off, a refiner and a model, in the current folder."""
    truth, given = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    truth[2:6, 5:14, 5:14] = 1
    given[2:6, 6:15, 5:14] = 1
    grid = ms.Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))
    ms.write(tmp_path / "image.nii.gz", ms.Volume(truth[None], grid))
    ms.write(tmp_path / "labels.nii.gz", ms.Segmentation(given, grid, {1: "label 1"}))
    spec = spec_of(patch=(4, 10, 10))
    write_brighter(tmp_path / "refiner.safetensors", spec)
    write_brighter(tmp_path / "model.safetensors", segmenter(spec))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_labels_are_refined_into_any_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "refine",
        "labels.nii.gz",
        "--image",
        "image.nii.gz",
        "--model",
        "refiner.safetensors",
        "--device",
        "cpu",
    ]
    for out in ("better.nii.gz", "better.zarr"):
        assert main([*command, "-o", out]) == 0
        assert f"wrote {out}" in capsys.readouterr().out
        found = ms.read_segmentation(out)
        wanted = np.asarray(ms.read("image.nii.gz").data[0]) > 0
        np.testing.assert_array_equal(np.asarray(found.data[...]) > 0, wanted)
        assert found.labels == {1: "label 1"}
        refined = found.provenance["refined"]
        assert isinstance(refined, dict)
        assert refined["model_sha256"] == ms.load_model("refiner.safetensors").sha256
    assert main([*command, "-o", "kept.nii.gz", "--label", "2"]) == 2
    assert "the refiner refiner.safetensors has no label 2: it changes 1" in capsys.readouterr().err
    assert not (folder / "kept.nii.gz").exists()


def test_segment_refines_what_the_model_gives(folder: Path) -> None:
    command = ["segment", "image.nii.gz", "--model", "model.safetensors", "--device", "cpu", "-o", "out.nii.gz"]
    assert main([*command, "--refine", "refiner.safetensors", "--resume"]) == 0
    assert "refined" in ms.read_segmentation("out.nii.gz").provenance
    assert [path.name for path in folder.iterdir() if path.name.startswith(".medseg")] == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["segment", "image.nii.gz", "--model", "refiner.safetensors"], "cannot segment: it is a refiner"),
        (["refine", "labels.nii.gz", "--image", "image.nii.gz", "--model", "model.safetensors"], "is no refiner"),
        (
            ["segment", "image.nii.gz", "--model", "model.safetensors", "--refine", "model.safetensors"],
            "is no refiner: it segments",
        ),
        (["refine", "labels.nii.gz", "--image", "labels.nii.gz", "--model", "none"], "no such"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    command: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "-o", "out.nii.gz"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out.nii.gz").exists()
