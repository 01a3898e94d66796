"""Every flag of `train` changes what is trained: real trainings, with a flag and without it.

`test_cli_flags` shows that a flag reaches the core, or is refused. Here it must leave other weights, another plan or
record, other files, or other words.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balls import balls, segmentation, volume
from napari_medseg import Segmentation, Volume, load_model, plan, write
from napari_medseg.cli import main, terminal
from napari_medseg.cli.parser import build_parser
from napari_medseg.events import Event, Notice, Progress

pytestmark = pytest.mark.slow

BASE = "train --images images --labels labels --val 0.34 --device cpu -o out.safetensors"
SHORT = "--epochs 1"
RAMPED = "--epochs 4 --val 0"
"""The last weights, after steps in which a weight that rises over the training is above zero."""
UNLABELLED = f"--unlabelled unlabelled {RAMPED} --scheme"
FLAGS: dict[str, tuple[str, ...]] = {
    # a command, then flags that change it
    SHORT: (
        "--images second",
        "--labels parts",
        "--network nnunet",
        "--mode 2d",
        "--mode 2.5d",
        "--cascade coarse-to-fine",
        "--plan plan.json",
        "--epochs 2",
        "--search 0.001",
        "--val 0",
        "--seed 1",
        "--hard-patches 1",
        "--mirror all",
        "--loss ce",
        "--unlabelled-slices ignore",
        "--ignore-label 2",
        "--weak boxes",
        "--scheme synthesis",
        "--merge all=1,2",
        "--init base.safetensors",
        "--decide-cleaning",
        "--resume",
        "-o other.safetensors",
    ),
    f"--mode 2.5d {SHORT}": ("--slices 5",),
    f"--cascade coarse-to-fine {SHORT}": ("--first-network nnunet",),
    f"--images second {SHORT}": ("--fusion layer", "--modality-dropout 0.6"),
    f"--search 0.001 {SHORT}": ("--search-network dints",),
    f"--weak scribbles {SHORT}": ("--background-label 2",),
    f"--scheme distance-map {SHORT}": ("--objects ids",),
    f"--init base.safetensors {SHORT}": ("--adapt decoder", "--adapt low-rank"),
    f"{UNLABELLED} mean-teacher": (
        "--unlabelled second-unlabelled",
        "--unlabelled-weight 0",
        "--ramp 0.9",
        "--doubt-passes 2",
    ),
    f"{UNLABELLED} self-training": ("--confidence 0.1", "--rounds 1"),
    f"{UNLABELLED} sassnet": ("--critic-width 8", "--descent adamw"),
    f"--scheme adversarial {RAMPED}": ("--critic-weight 5",),
    f"--scheme acnn {RAMPED}": ("--shape-weight 5", "--first-share 0.9"),
    f"--scheme synthesis {SHORT}": ("--made-share 0",),
    f"--scheme adapt-statistics --target dark {SHORT}": ("--target darker",),
    f"--scheme cyclegan --target dark {RAMPED}": ("--translator paper",),
}
ELSEWHERE = {
    "--dataset": "instead of --images; tests/datasets",
    "--minutes": "other steps in every run; tests/training/test_budget.py",
    "--folds": "its output is a set; tests/training/test_folds.py",
    "--device": "the same numbers on every device; test_cli_flags",
    "--tracker": "needs an extra; tests/training/reporting",
}
"""Flags that leave the same model here, and why."""
CASES = [(command, flag) for command, flags in FLAGS.items() for flag in flags]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flags")
    for name in ("images", "labels", "second", "parts", "unlabelled", "second-unlabelled", "dark", "darker"):
        (folder / name).mkdir()
    for number in range(3):
        image, labels = volume(seed=number), balls()
        labels[0] = labels[-1] = 0
        write(folder / "images" / f"case{number}.nii.gz", image)
        write(folder / "labels" / f"case{number}.nii.gz", Segmentation(labels, image.grid, {1: "left", 2: "right"}))
        write(folder / "second" / f"case{number}.nii.gz", volume(seed=9 + number))
        write(folder / "parts" / f"case{number}.nii.gz", replace(segmentation(), data=np.where(labels == 2, 0, labels)))
        for name, seed in (("unlabelled", 20), ("second-unlabelled", 30)):
            write(folder / name / f"u{number}.nii.gz", volume(seed=seed + number))
        for name, base in (("dark", 100), ("darker", 400)):
            data = base - np.asarray(volume(seed=40 + number).data) // 2
            write(folder / name / f"t{number}.nii.gz", Volume(data.astype(np.int16), image.grid))
    pairs = [(volume(seed=seed), segmentation()) for seed in range(3)]
    plan(pairs, device="cpu", patch_zyx=(8, 12, 12), val=0.34).write(folder / "plan.json")
    return folder


def test_the_table_has_every_flag() -> None:
    commands = next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    actions = [a for a in commands["train"]._actions if not isinstance(a, argparse._HelpAction)]
    tried = {word for _, flag in CASES for word in flag.split() if word.startswith("-")} | {"--output", *ELSEWHERE}
    used = {word for command in FLAGS for word in command.split()}
    assert {option for action in actions for option in action.option_strings} <= tried | used


Left = tuple[Any, ...]


def left_by(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    """What a training leaves: names of files, weights, the specification without times, and what was said."""
    said: list[str] = []

    def follow(events: Iterator[Event], name: str) -> Any:
        def heard() -> Iterator[Event]:
            for event in events:
                said.extend([event.message] if isinstance(event, Notice) else [])
                said.extend([event.message] if isinstance(event, Progress) and event.done == event.total else [])
                yield event

        return kept(heard(), name)

    kept = terminal.follow
    before = {path for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(terminal, "follow", follow)
        assert main(command.split()) == 0
    new = sorted(path for path in folder.rglob("*") if path.is_file() and path not in before)
    models = [path for path in new if path.suffix == ".safetensors" and path.parent == folder]
    found = [(path.name, digest(path)) for path in models]
    for path in new:
        path.unlink()
    return sorted({path.name for path in new}), found, sorted(set(said))


def digest(path: Path) -> str:
    model = load_model(path)
    spec = json.loads(model.spec.to_json())
    spec["training"] = {k: v for k, v in spec["training"].items() if k not in ("minutes", "versions")}
    weights = [(name, tensor.numpy().tobytes()) for name, tensor in sorted(model.load_network().state_dict().items())]
    return hashlib.sha256(repr((json.dumps(spec, sort_keys=True), weights)).encode()).hexdigest()


@pytest.fixture(scope="module")
def plain() -> dict[str, Left]:
    """{command: what it leaves without a further flag}."""
    return {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("command", "flag"), CASES, ids=[f"{flag} of {command}" for command, flag in CASES])
def test_a_flag_changes_what_is_trained(
    command: str, flag: str, workplace: Path, plain: dict[str, Left], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "base.safetensors" in command + flag and not (workplace / "base.safetensors").exists():
        monkeypatch.chdir(workplace)
        assert main(f"{BASE} {SHORT} --seed 7 -o base.safetensors".split()) == 0
    if command not in plain:
        plain[command] = left_by(f"{BASE} {command}", workplace, monkeypatch)
        if command == SHORT:
            assert left_by(f"{BASE} {command}", workplace, monkeypatch) == plain[command]
    assert left_by(f"{BASE} {command} {flag}", workplace, monkeypatch) != plain[command]
