"""`segment --resume` after an interruption, into a file that is written at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balls import volume
from napari_medseg import Grid, Volume, read, read_segmentation, segment, write
from napari_medseg.cli import main, terminal
from napari_medseg.events import Event, Filled


def test_an_interrupted_run_is_continued_and_a_done_one_is_left(
    ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = np.asarray(volume(seed=0).data)
    data = np.concatenate([one] * -(-150 // one.shape[1]), axis=1)[:, :150, :20, :22]
    image, out = tmp_path / "tall.nii.gz", tmp_path / "labels.nii.gz"
    write(image, Volume(data, Grid(data.shape[1:], volume().grid.affine)))
    command = ["segment", str(image), "--model", str(ball_model), "-o", str(out), "--device", "cpu"]

    def interrupt(self: terminal.ProgressLine, event: Event) -> None:
        if isinstance(event, Filled):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(terminal.ProgressLine, "show", interrupt)
        assert main([*command, "--probabilities", str(tmp_path / "p.zarr")]) == 130
    said = capsys.readouterr().err
    assert "the same command with --resume continues" in said
    assert "MiB of memory beside the network, at most" in said
    assert not out.exists()
    assert main([*command, "--resume"]) == 2
    assert "differs in probabilities" in capsys.readouterr().err
    assert main([*command, "--resume", "--probabilities", str(tmp_path / "p.zarr")]) == 0
    expected = np.asarray(segment(read(image), ball_model, device="cpu").data)
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    assert np.array_equal(np.asarray(read(tmp_path / "p.zarr").data).argmax(0), expected)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["labels.nii.gz", "p.zarr", "tall.nii.gz"]
    before = out.stat().st_mtime_ns
    capsys.readouterr()
    assert main([*command, "--resume"]) == 0
    assert "is done already" in capsys.readouterr().err
    assert out.stat().st_mtime_ns == before
