"""The commands, their flags and defaults are fixed: scripts outside the project use them."""

from __future__ import annotations

import argparse
import re

import pytest

from napari_medseg import __version__
from napari_medseg.cli import main
from napari_medseg.cli.parser import build_parser
from napari_medseg.config import SegmentConfig, TrainConfig, field_docs

SURFACE = {
    "demo": ["--out napari-medseg-demo", "--no-gui"],
    "segment": [
        "images...",
        "--images several times",
        "--model required several times",
        "-o --output required",
        "--device auto",
        "--preset auto [auto|exact|balanced|fast]",
        "--overlap",
        "--tta",
        "--precision auto [auto|fp32|bf16]",
        "--backend torch [torch|openvino]",
        "--instances auto [auto|none|components|distance]",
        "--missing several times",
        "--probabilities",
        "--uncertainty",
        "--regions",
        "--refine",
        "--workers",
        "--scheduler",
        "--resume",
    ],
    "train": [
        "--images several times",
        "--labels",
        "--dataset",
        "--network",
        "--mode auto [auto|2d|2.5d|triplanar|3d]",
        "--slices 3",
        "--cascade none [none|coarse-to-fine|detect]",
        "--first-network",
        "--fusion input [input|layer|decision]",
        "--modality-dropout 0.0",
        "--mirror none [auto|none|all]",
        "--plan",
        "--epochs",
        "--minutes",
        "--search 0.0",
        "--search-network plan [plan|dints]",
        "--val 0.2",
        "--seed 0",
        "--device auto",
        "--hard-patches 0.0",
        "--loss dice+ce",
        "--unlabelled-slices background [background|ignore]",
        "--ignore-label",
        "--weak none [none|scribbles|boxes]",
        "--background-label",
        "--scheme supervised",
        "--objects components [components|ids]",
        "--unlabelled",
        "--target",
        "--unlabelled-weight",
        "--ramp",
        "--confidence",
        "--rounds",
        "--doubt-passes",
        "--critic-width",
        "--critic-weight",
        "--shape-weight",
        "--first-share",
        "--made-share",
        "--descent auto [auto|adamw|sgd]",
        "--translator auto [auto|light|paper]",
        "--tracker none [none|tensorboard|mlflow]",
        "--folds",
        "--merge several times",
        "--init",
        "--adapt all [all|decoder|low-rank]",
        "--decide-cleaning",
        "--resume",
        "-o --output required",
    ],
    "plan": [
        "--images several times",
        "--labels",
        "--dataset",
        "--network",
        "--mode auto [auto|2d|2.5d|triplanar|3d]",
        "--slices 3",
        "--cascade none [none|coarse-to-fine|detect]",
        "--first-network",
        "--minutes",
        "--val 0.2",
        "--seed 0",
        "--device auto",
        "--mirror none [auto|none|all]",
        "--unlabelled-slices background [background|ignore]",
        "--ignore-label",
        "--weak none [none|scribbles|boxes]",
        "--background-label",
        "--merge several times",
        "-o --output required",
    ],
    "evaluate": [
        "--prediction required",
        "--reference required",
        "--preset survey [survey|lits|chaos]",
        "-o --output",
        "--nsd-tolerance 1.0",
        "--merge several times",
        "--foreground",
        "--instances [components|ids]",
        "--iou several times",
        "--connectivity 26 [6|18|26]",
        "--shape",
        "--image several times",
        "--probabilities",
        "--calibration-bins 15",
        "--calibration-region all [all|foreground]",
        "--series",
        "--reader several times",
        "--consensus none [none|vote|staple]",
        "--consensus-output",
        "--compare",
        "--metrics",
        "--bootstrap 2000",
        "--confidence 0.95",
        "--seed 0",
    ],
    "networks": ["--json"],
    "info": ["path", "--labels", "--image"],
    "convert": [
        "source",
        "-o --output required",
        "--chunks 64",
        "--source",
        "--as-labels",
        "--merge several times",
        "--onto",
        "--interpolation linear [linear|nearest]",
        "--network",
        "--preset default [default|paper]",
        "--labels",
        "--arguments",
        "--spacing",
        "--intensities",
        "--modality other [CT|MR|other]",
        "--crop",
        "--prune",
        "--images several times",
    ],
    "suggest": [
        "images...",
        "--images several times",
        "--model required several times",
        "--labels",
        "--kind slice [slice|case|region]",
        "--count 8",
        "--by both [both|doubt|diversity]",
        "--axis auto [auto|z|y|x]",
        "--region-mm 10.0",
        "--device auto",
        "--overlap 0.25",
        "-o --output",
        "--json",
    ],
    "refine": [
        "labels",
        "--image required several times",
        "--model required",
        "-o --output required",
        "--label several times",
        "--device auto",
    ],
    "interact": ["image", "--images several times", "--prompts required", "--model", "-o --output required"],
    "propagate": [
        "image",
        "--images several times",
        "--labels required",
        "--method auto [auto|geodesic|interpolation|memory|learn]",
        "--minutes 0.5",
        "--seed 0",
        "--model",
        "-o --output required",
    ],
    "clean": [
        "labels",
        "-o --output required",
        "--label several times",
        "--interpolate none [none|auto|z|y|x]",
        "--fill-holes",
        "--smooth-mm 0.0",
        "--keep-topology",
        "--islands-ml 0.0",
        "--largest",
        "--connectivity 26 [6|18|26]",
        "--source",
    ],
    "instances": [
        "labels",
        "-o --output required",
        "--method distance [distance|components]",
        "--neck 0.8",
        "--least-ml 0.0",
        "--connectivity 26 [6|18|26]",
        "--source",
    ],
    "explain": [
        "image",
        "--images several times",
        "--model required several times",
        "--label required",
        "--method grad-cam",
        "-o --output required",
        "--component",
        "--voxel",
        "--labels",
        "--device auto",
        "--check",
        "--layer fine [fine|middle|deep]",
        "--steps 16",
        "--occluder 8",
        "--overlap 0.25",
        "--seed 0",
        "--unweighted",
    ],
}


def describe(action: argparse.Action) -> str:
    """A flag as one line: its names, its default, and what else is fixed."""
    parts = [" ".join(action.option_strings) or action.dest + ("..." if action.nargs in ("+", "*") else "")]
    if action.default is not None and action.default is not False and action.default not in ("", []):
        parts.append(str(action.default))
    if action.required and action.option_strings:
        parts.append("required")
    if isinstance(action, argparse._AppendAction):
        parts.append("several times")
    if action.choices is not None:
        parts.append(f"[{'|'.join(map(str, action.choices))}]")
    return " ".join(parts)


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return next(a.choices for a in actions if isinstance(a, argparse._SubParsersAction))


def test_the_commands_and_their_flags() -> None:
    found = {
        name: [describe(a) for a in parser._actions if not isinstance(a, argparse._HelpAction)]
        for name, parser in commands().items()
    }
    assert found == SURFACE


@pytest.mark.parametrize("command", SURFACE)
def test_help_explains_every_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert command in capsys.readouterr().out
    assert all(action.help for action in commands()[command]._actions)


@pytest.mark.parametrize(
    ("command", "flag", "text"),
    [
        ("segment", "overlap", field_docs(SegmentConfig)["overlap"]),
        ("train", "minutes", field_docs(TrainConfig)["minutes"]),
    ],
    ids=["overlap", "minutes"],
)
def test_the_help_of_a_knob_is_its_field_text(command: str, flag: str, text: str) -> None:
    action = next(a for a in commands()[command]._actions if a.dest == flag)
    assert action.help is not None
    assert action.help.startswith(text)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == build_parser().format_help()


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["segmnt"], "did you mean segment?"),
        (["evaluate", "--preset", "surve"], "did you mean survey?"),
        (["qqqq"], "'suggest'):"),
    ],
    ids=["command", "choice", "nothing_like_it"],
)
def test_a_name_that_was_meant_is_told(argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    said = capsys.readouterr().err
    assert f"{meant} see napari-medseg" in said
    assert said.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"napari-medseg {__version__}\n"


WRONG_FLAGS = {
    "unknown_command": ["segmentt"],
    "unknown_flag": ["networks", "--yaml"],
    "missing_flag": ["segment", "a.nii.gz", "-o", "b.nii.gz"],
    "two_budgets": [
        "train",
        "--images",
        "a",
        "--labels",
        "b",
        "-o",
        "m.safetensors",
        "--epochs",
        "1",
        "--minutes",
        "1",
    ],
    "not_a_number": ["segment", "a.nii.gz", "--model", "m", "-o", "b.nii.gz", "--overlap", "half"],
}


@pytest.mark.parametrize("argv", WRONG_FLAGS.values(), ids=WRONG_FLAGS.keys())
def test_a_wrong_flag_is_refused_in_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert re.fullmatch(r"error: [^\n]+(:|\?) see napari-medseg[^\n]* --help\n", capsys.readouterr().err)
