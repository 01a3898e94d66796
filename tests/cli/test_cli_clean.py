"""`clean` on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.cli import main
from napari_medseg.volume import Grid, Segmentation


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    data = np.zeros((6, 8, 10), np.uint8)
    data[1:4, 1:5, 1:5], data[2, 2, 2], data[5, 7, 9], data[0, 0, 9] = 1, 0, 1, 2
    grid = Grid.from_spacing(data.shape, (5.0, 1.0, 2.0))
    ms.write(tmp_path / "labels.seg.nrrd", Segmentation(data, grid, {1: "liver", 2: "spleen"}))
    return tmp_path / "labels.seg.nrrd"


def test_the_steps_of_the_flags_are_done_and_names_stay(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.seg.nrrd"
    assert main(["clean", str(labels), "-o", str(out), "--label", "1", "--fill-holes", "--islands-ml", "0.05"]) == 0
    cleaned = ms.read_segmentation(out)
    values = np.asarray(cleaned.data)
    assert (values == 1).sum() == 48
    assert values[0, 0, 9] == 2
    assert cleaned.labels == {1: "liver", 2: "spleen"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["clean", "--islands-ml", "9"], "warning: {out}: no voxel in it has a label"),
        (["instances", "--least-ml", "9"], "there is no object of at least 9 ml: the largest has 0.47 ml"),
        (["convert", "--onto", "{far}"], "warning: {out}: no voxel in it has a label"),
    ],
)
def test_a_file_without_labels_is_told_in_one_line(
    command: list[str], told: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = tmp_path / "far.nii.gz"
    ms.write(far, Segmentation(np.zeros((2, 2, 2), np.uint8), Grid.from_spacing((2, 2, 2), (1, 1, 1), (900, 0, 0))))
    out = tmp_path / "out.nii.gz"
    name, *flags = [word.format(far=far) for word in command]
    assert main([name, str(labels), "-o", str(out), *flags]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " no " in line]
    assert len(lines) == 1
    assert told.format(out=out) in lines[0]
    assert not np.asarray(ms.read_segmentation(out).data).any()


def test_without_a_step_nothing_is_written(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", str(labels), "-o", str(tmp_path / "out.nii.gz")]) == 2
    assert "nothing to do: ask for one or more of" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [labels.name]
