"""`segment --resume` after an interruption, into a file that is written at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balls import volume
from napari_medseg import Grid, Volume, io, read, read_segmentation, segment, write
from napari_medseg.cli import main, terminal
from napari_medseg.errors import FileError
from napari_medseg.events import Event, Filled
from napari_medseg.inference import engine
from napari_medseg.inference.runs.files import unfinished_beside
from napari_medseg.io.disk.locks import partial_beside


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
    told = capsys.readouterr()
    assert "is done already" in told.err
    assert "wrote" not in told.out
    assert out.stat().st_mtime_ns == before
    assert main([*command, "--resume", "--probabilities", str(tmp_path / "later.zarr")]) == 0
    assert np.array_equal(np.asarray(read(tmp_path / "later.zarr").data).argmax(0), expected), "it was not done yet"


def test_labels_that_cannot_be_written_are_not_lost(
    ball_model: Path, ball_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "labels.nii.gz"
    out.parent.mkdir()
    command = ["segment", str(ball_images / "case0.nii.gz"), "--model", str(ball_model), "-o", str(out)]

    def full(*_: object, **__: object) -> None:
        raise FileError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(io, "write", full)
        assert main(command) == 2
    assert not out.exists()
    with monkeypatch.context() as patched:
        patched.setattr(engine, "segmenting", full)
        assert main([*command, "--resume"]) == 0
    expected = np.asarray(segment(read(ball_images / "case0.nii.gz"), ball_model).data)
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    assert [f.name for f in out.parent.iterdir()] == ["labels.nii.gz"]


def test_outputs_have_names_of_their_own(
    ball_model: Path, ball_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "labels.zarr")
    command = ["segment", str(ball_images / "case0.nii.gz"), "--model", str(ball_model), "-o", out]
    assert main([*command, "--probabilities", out]) == 2
    assert "need names of their own" in capsys.readouterr().err
    assert not Path(out).exists()
    stores = []
    for name in ("x.nii", "x.nii.gz", "x.nrrd"):
        with unfinished_beside(tmp_path / name) as store:
            stores.append(store)
    assert len({*stores, partial_beside(tmp_path / "x.zarr")}) == 4
