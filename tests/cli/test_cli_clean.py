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


def test_without_a_step_nothing_is_written(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", str(labels), "-o", str(tmp_path / "out.nii.gz")]) == 2
    assert "nothing to do: ask for one or more of" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [labels.name]
