"""`explain` on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.cli import main


def test_a_map_is_written_and_what_it_means_is_told(
    ball_model: Path, ball_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = ball_images / "case0.nii.gz", tmp_path / "heat.nii.gz"
    asked = ["explain", str(image), "--model", str(ball_model), "-o", str(out), "--method", "gradient"]
    assert main([*asked, "--label", "Right ball", "--voxel", "6,14,8", "--check"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == f"wrote {out}"
    assert "random weights (mean correlation" in told.out
    assert "It says nothing of the direction" in told.err
    heat, volume = ms.read(out), ms.read(image)
    assert heat.grid.same_as(volume.grid)
    by_python = ms.explain(volume, ball_model, label=2, method="gradient", voxel=(6, 14, 8))
    np.testing.assert_array_equal(np.asarray(heat.data), np.asarray(by_python.data))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label", "liver"], "has no label 'liver': its labels are 1 left ball, 2 right ball"),
        (["--label", "1", "--method", "attention"], "has no attention over places: choose another method"),
        (["--label", "1", "--method", "lime"], "unknown method 'lime'"),
        (["--label", "1", "--voxel", "6,14"], "invalid voxel_of value"),
    ],
    ids=str,
)
def test_a_wrong_question_writes_nothing(
    ball_model: Path,
    ball_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    out = tmp_path / "heat.zarr"
    command = ["explain", str(ball_images / "case0.nii.gz"), "--model", str(ball_model), "-o", str(out), *flags]
    try:
        status: object = main(command)
    except SystemExit as left:
        status = left.code
    assert status == 2
    told = capsys.readouterr().err
    assert message in told
    assert not out.exists()
