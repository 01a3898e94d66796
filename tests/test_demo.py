"""The demo on the sample that comes with the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from napari_medseg import demo, evaluate, read_segmentation
from napari_medseg.cli import main
from napari_medseg.demo import DemoResult
from napari_medseg.sample import LABELS


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command has filled."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    assert main(["demo", "--no-gui", "--out", str(folder)]) == 0
    return folder


def test_the_command_leaves_labels_scores_and_a_picture_beside_the_sample(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == [
        "labels.nii.gz",
        "overview.png",
        "phantom_ct.nii.gz",
        "phantom_ct.safetensors",
        "phantom_ct_labels.nii.gz",
        "scores.csv",
    ]
    assert (out / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_the_scores_are_those_of_the_labels(out: Path) -> None:
    scores = evaluate(
        prediction=read_segmentation(out / "labels.nii.gz"),
        reference=read_segmentation(out / "phantom_ct_labels.nii.gz"),
    )
    table = pd.read_csv(out / "scores.csv")
    assert list(table["dice"]) == pytest.approx([row.dice for row in scores.rows])
    assert list(table["name"]) == [row.name for row in scores.rows]


def test_the_samples_model_finds_every_organ(out: Path) -> None:
    table = pd.read_csv(out / "scores.csv")
    assert set(table["name"][table["dice"] > 0.9]) == set(LABELS.values())


def result(folder: Path) -> DemoResult:
    scores = evaluate(
        prediction=read_segmentation(folder / "labels.nii.gz"), reference=read_segmentation(folder / "labels.nii.gz")
    )
    return DemoResult(scores, (folder / "phantom_ct.nii.gz", folder / "labels.nii.gz"), ())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display there")
def test_without_a_display_napari_is_not_opened(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo.open_in_napari(result(out)) == "no display: napari is not opened"


def test_napari_is_opened_on_image_and_labels_in_a_process_of_its_own(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    assert demo.open_in_napari(result(out)) == "opening napari"
    assert started == [
        [
            *(sys.executable, "-m", "napari", "--plugin", "napari-medseg"),
            *(str(out / "phantom_ct.nii.gz"), str(out / "labels.nii.gz")),
        ]
    ]


def test_without_napari_the_way_to_it_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    assert demo.open_in_napari(result(out)) == 'napari is not installed: pip install "napari-medseg[all]"'
