"""Every flag that is given changes what the core is asked for, or is refused."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balls import SHAPE, balls, volume
from napari_medseg import Grid, Segmentation, Volume, io, training, write
from napari_medseg.cli import main
from napari_medseg.cli.parser import build_parser
from napari_medseg.inference import engine
from napari_medseg.metrics.study import batch

FINER = Grid.from_spacing(SHAPE, (1.9, 0.9, 0.9))
TRAIN = "train --images images --labels labels -o out.safetensors"
SEGMENT = "segment images/case0.nii.gz --model model.safetensors -o out.nii.gz"
EVALUATE = "evaluate --prediction labels --reference readers"
PLAN = "plan --images images --labels labels -o plan.json"
CONVERT = "convert whole.nii.gz -o out.nii.gz"
FLAGS: dict[str, tuple[str, ...]] = {
    # the command as it is, then with each flag; "! " where it is refused
    TRAIN: (
        "--images second",
        "--labels readers",
        "! --dataset whole",
        "--network vnet",
        "--mode 2d",
        "! --slices 5",
        "--mode 2.5d --slices 5",
        "--cascade detect",
        "! --first-network vnet",
        "--cascade detect --first-network vnet",
        "--plan plan.json",
        "--epochs 3",
        "--minutes 3",
        "--val 0.5",
        "--seed 1",
        "--device cpu",
        "--tracker mlflow",
        "! --folds 3",
        "--folds 3 -o out.json",
        "--init model.safetensors",
        "! --adapt decoder",
        "--init model.safetensors --adapt decoder",
        "--loss 0.5*dice+focal",
        "--decide-cleaning",
        "--unlabelled-slices ignore",
        "--ignore-label 2",
        "--weak boxes",
        "! --background-label 3",
        "--weak scribbles --background-label 3",
        "! --scheme other",
        "! --objects ids",
        "--scheme mask-rcnn --objects ids",
        "! --unlabelled images",
        "! --scheme mean-teacher",
        "! --unlabelled-weight 0.5",
        "! --ramp 0.5",
        "! --confidence 0.5",
        "! --rounds 2",
        "! --doubt-passes 2",
        "! --critic-width 8",
        "! --descent sgd",
        "--scheme adversarial --critic-weight 0.2",
        "--scheme acnn --shape-weight 0.1",
        "--scheme acnn --first-share 0.2",
        "--scheme synthesis --made-share 0.2",
        "! --target images",
        "! --translator light",
        "--fusion layer",
        "--modality-dropout 0.3",
        "--mirror all",
        "! --mirror all --plan plan.json",
        "--hard-patches 0.2",
        "! --hard-patches 0.2 --scheme acnn",
        "--search 3",
        "! --search 3 --plan plan.json",
        "! --search 3 --init model.safetensors",
        "! --search 3 --val 0",
        "! --search 3 --cascade coarse-to-fine",
        "! --search 3 --folds 3 -o out.json",
        "! --search-network dints",
        "--search 3 --search-network dints",
        "--resume",
        "--merge all=1,2",
        "-o other.safetensors",
    ),
    PLAN: (
        "--images second",
        "--mirror all",
        "--labels readers",
        "! --dataset whole",
        "--network vnet",
        "--mode 2d",
        "! --slices 5",
        "--mode 2.5d --slices 5",
        "--cascade coarse-to-fine",
        "! --first-network vnet",
        "--cascade coarse-to-fine --first-network vnet",
        "--minutes 3",
        "--val 0.5",
        "--seed 1",
        "--device cpu",
        "--unlabelled-slices ignore",
        "--ignore-label 2",
        "--weak boxes",
        "! --background-label 3",
        "--weak scribbles --background-label 3",
        "--merge all=1,2",
        "-o other.json",
    ),
    SEGMENT: (
        "! --images images/case1.nii.gz",
        "--model other.safetensors",
        "-o other.nii.gz",
        "--device cpu",
        "--preset fast",
        "--overlap 0.25",
        "--tta",
        "--precision fp32",
        "--backend openvino",
        "--instances components",
        "! --missing T9",
        "! --refine model.safetensors",
        "--resume",
        "--probabilities p.zarr",
        "! --uncertainty u.nii.gz",
        "--uncertainty u.zarr",
        "! --regions parts",
        "! --workers 0",
        "! --scheduler nowhere:1",
    ),
    EVALUATE: (
        "--prediction readers",
        "--reference labels",
        "--preset lits",
        "-o out.json",
        "--nsd-tolerance 2",
        "--merge all=1,2",
        "--foreground",
        "! --foreground --merge all=1,2",
        "--instances",
        "--instances ids",
        "! --iou 0.25",
        "--instances --iou 0.25",
        "! --connectivity 6",
        "--instances --connectivity 6",
        "--shape",
        "--image images",
        "--probabilities images",
        "! --calibration-bins 5",
        "--probabilities images --calibration-bins 5",
        "! --calibration-region foreground",
        "--probabilities images --calibration-region foreground",
        "--series",
        "--reader readers",
        "! --consensus vote",
        "--reader readers --consensus vote",
        "! --consensus-output c",
        "--reader readers --consensus vote --consensus-output c",
        "--compare readers",
        "! --metrics dice",
        "--compare readers --metrics dice",
        "--bootstrap 100",
        "--confidence 0.9",
        "--seed 1",
    ),
    CONVERT: (
        "-o out.nii",
        "! --chunks 8",
        "! --source images",
        "--as-labels",
        "--merge all=1,2",
        "--onto second/case0.nii.gz",
        "! --interpolation nearest",
        "--onto second/case0.nii.gz --interpolation nearest",
        "! --network vnet",
        "! --preset paper",
        "! --labels names.json",
        "! --arguments arguments.json",
        "! --spacing 1 1 1",
        "! --intensities zscore",
        "! --modality CT",
        "! --crop model.safetensors",
        "! --prune 1",
        "! --images images",
    ),
}
CASES = [(command, flag) for command, flags in FLAGS.items() for flag in flags]


@pytest.fixture
def workplace(
    tmp_path: Path, ball_images: Path, ball_labels: Path, ball_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name in ("model", "other"):
        shutil.copy(ball_model, tmp_path / f"{name}.safetensors")
    shutil.copytree(ball_images, tmp_path / "second")
    write(tmp_path / "second" / "case0.nii.gz", replace(volume(), grid=FINER))
    shutil.copytree(ball_labels, tmp_path / "readers")
    write(tmp_path / "whole.nii.gz", Volume(balls()[None], volume().grid))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_has_every_flag() -> None:
    commands = next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command, flags in FLAGS.items():
        parser = commands[command.split()[0]]
        options = {o for a in parser._actions if not isinstance(a, argparse._HelpAction) for o in a.option_strings}
        tried = {word for flag in flags for word in flag.split() if word.startswith("-")} | {"--output"}
        assert options <= tried, command


class AskedError(BaseException):
    """Raised in the place of the work, so that no command does any."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the core is asked for, and which outputs are locked."""
    found: list[str] = []

    def ask(*given: object, should_stop: object = None, **options: object) -> None:
        found.append(repr((given, options)))
        raise AskedError

    def ask_write(path: Path, x: Volume | Segmentation, **options: object) -> None:
        ask(path, type(x), x.grid.affine.tolist(), np.asarray(x.data[...]).sum(), **options)

    @contextmanager
    def lock(*paths: Path) -> Iterator[None]:
        found.append(repr(paths))
        yield

    for module, name in (
        (training, "iter_train"),
        (training, "iter_plan"),
        (training, "iter_train_folds"),
        (engine, "segmenting"),
        (batch, "iter_measure"),
    ):
        monkeypatch.setattr(module, name, ask)
    monkeypatch.setattr(io, "write", ask_write)
    for command in ("train", "plan", "segment", "evaluate", "convert"):
        monkeypatch.setattr(f"napari_medseg.cli.{command}.locked", lock)
    return found


def outcome(command: str, asked: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int | None, list[str], str]:
    """(exit status, None where the work began; what was asked; what was said) of a command."""
    asked.clear()
    try:
        status: int | None = main(command.split())
    except AskedError:
        status = None
    return status, [*asked], capsys.readouterr().err


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(("command", "flag"), CASES, ids=[f"{c.split()[0]} {f}" for c, f in CASES])
def test_a_flag_changes_the_run_or_is_refused(
    command: str, flag: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, plain, _ = outcome(command, asked, capsys)
    assert status is None
    refused, _, flag = flag.rpartition("! ")
    assert not refused
    status, changed, said = outcome(f"{command} {flag}", asked, capsys)
    if (command, f"! {flag}") in CASES:
        assert status == 2
        assert flag.split()[0].strip("-").replace("-", "_") in said.replace("-", "_")
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    else:
        assert status is None
        assert changed != plain
