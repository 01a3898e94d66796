"""Two runs on one output: the second is refused at once, and names the first; a killed one blocks no one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from napari_medseg import load_model
from napari_medseg.cli import main
from napari_medseg.errors import FileError
from napari_medseg.io.outputs import locked
from processes import started

RUN = """
import sys
from napari_medseg.cli import main
status = main(sys.argv[1:])
print("torch loaded" if "torch" in sys.modules else "torch not loaded")
sys.exit(status)
"""
ENDLESS = """
import sys
from napari_medseg import cli
def told(events, name):
    print("training", flush=True)
    return follow(events, name)
follow, cli.terminal.follow = cli.terminal.follow, told
cli.main(sys.argv[1:])
"""
"""Says where it is once it trains, and goes on for as long as it is let."""
HOLD = """
import sys
from pathlib import Path
from napari_medseg.io.disk.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_second_training_is_refused_and_a_killed_one_is_not_in_the_way(
    ball_images: Path, ball_labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    train = ["train", "--images", str(ball_images), "--labels", str(ball_labels), "-o", str(out), "--val", "0"]
    before = sorted(tmp_path.iterdir())
    with started(ENDLESS, *train, "--epochs", "100000") as first:
        command = [sys.executable, "-c", RUN, *train, "--epochs", "1"]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        first.kill()
        first.wait()
    assert second.returncode == 2
    assert second.stderr == (
        f"error: {out}: process {first.pid} is writing it: wait until that has ended, or choose another name\n"
    )
    assert second.stdout == "torch not loaded\n", "it is refused before anything slow is done"
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".model.safetensors.lock", *before]
    assert main([*train, "--epochs", "1"]) == 0
    assert load_model(out).spec.network == "unet3d"
    assert sorted(tmp_path.iterdir()) == sorted([*before, out, tmp_path / "model.training"])


def test_several_outputs_are_locked_by_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "out" / f"{number}.nii.gz" for number in range(5000)]
    with locked(*paths), ThreadPoolExecutor(1) as other_run:
        assert len(list((tmp_path / "out").iterdir())) == 1
        with pytest.raises(FileError, match=rf"several outputs: process {os.getpid()} is writing it"):
            other_run.submit(locked(*paths[:2]).__enter__).result()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("segment {image} --model {model} -o {out}", "labels.nii.gz"),
        ("segment {image} --model {model} -o {out}", "labels.zarr"),
        ("convert {image} -o {out}", "image.nii.gz"),
        ("evaluate --prediction {image} --reference {image} -o {out}", "scores.csv"),
    ],
    ids=["segment to a file", "segment to a store", "convert", "evaluate"],
)
def test_the_second_run_is_refused(
    command: str, out: str, ball_labels: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "results" / out
    target.parent.mkdir()
    argv = command.format(image=ball_labels / "case0.nii", model=ball_model, out=target).split()
    with started(HOLD, target) as first:
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert re.fullmatch(rf"error: {target}: process {first.pid} is writing it: [^\n]*\n", error)
        first.communicate("")
    assert list(target.parent.iterdir()) == []
    assert main(argv) == 0
    assert list(target.parent.iterdir()) == [target]
