"""`interact` and `propagate` on files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from click_phantoms import balls, dice
from napari_medseg import io
from napari_medseg.cli import main

CENTRE = (10, 11, 12)


def run(*argv: object) -> int:
    status: int = main([str(a) for a in argv])
    return status


@pytest.fixture
def image(tmp_path: Path) -> Path:
    volume, _ = balls((20, 22, 24), CENTRE, radius=6)
    ms.write(tmp_path / "image.nii.gz", volume)
    return tmp_path / "image.nii.gz"


@pytest.fixture
def log(image: Path, tmp_path: Path) -> Path:
    session = ms.interact(ms.read(image))
    session.add(ms.Point(CENTRE, label=3))
    session.add(ms.Point((10, 11, 16), label=3))
    session.save(tmp_path / "prompts.json")
    return tmp_path / "prompts.json"


def test_a_session_is_done_again_bit_for_bit(image: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    assert run("interact", image, "--prompts", log, "-o", out) == 0
    expected = ms.resume_interaction(log, ms.read(image)).segmentation
    found = io.load(out, as_labels=True)
    np.testing.assert_array_equal(ms.read_segmentation(out).data, expected.data[...])
    assert found.provenance["prompts_sha256"] == hashlib.sha256(log.read_bytes()).hexdigest()
    assert found.provenance["input_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert found.provenance["method"] == "auto"


def test_prompts_written_by_hand(image: Path, tmp_path: Path) -> None:
    point = {"do": "point", "at": CENTRE, "label": 2}
    prompts = tmp_path / "mine.json"
    prompts.write_text(json.dumps({"napari_medseg_interaction": 1, "steps": [point]}))
    assert run("interact", image, "--prompts", prompts, "-o", tmp_path / "out.nrrd") == 0
    assert set(np.unique(np.asarray(ms.read_segmentation(tmp_path / "out.nrrd").data)).tolist()) == {0, 2}


def test_slices_become_a_volume(image: Path, tmp_path: Path) -> None:
    _, (mask,) = balls((20, 22, 24), CENTRE, radius=6)
    some = np.zeros(mask.shape, np.uint8)
    some[[6, 10, 14]] = mask[[6, 10, 14]]
    grid = ms.read(image).grid
    labels = tmp_path / "slices.nii.gz"
    ms.write(labels, ms.Segmentation(some, grid, {1: "ball"}))
    assert run("propagate", image, "--labels", labels, "-o", tmp_path / "out.nii.gz") == 0
    found = ms.read_segmentation(tmp_path / "out.nii.gz")
    expected = ms.propagate(ms.read(image), ms.read_segmentation(labels))
    np.testing.assert_array_equal(found.data, expected.data[...])
    assert found.labels == {1: "ball"}


def test_slices_along_two_axes_become_a_volume(image: Path, tmp_path: Path) -> None:
    """Along one axis all of them were taken for annotated, and nothing was filled."""
    _, (mask,) = balls((20, 22, 24), CENTRE, radius=6)
    some = np.zeros(mask.shape, np.uint8)
    some[[7, 13]] = mask[[7, 13]]
    some[:, :, [9, 15]] = mask[:, :, [9, 15]]
    labels, out = tmp_path / "slices.nii.gz", tmp_path / "out.nii.gz"
    ms.write(labels, ms.Segmentation(some, ms.read(image).grid, {1: "ball"}))
    assert run("propagate", image, "--labels", labels, "-o", out) == 0
    found = np.asarray(ms.read_segmentation(out).data) == 1
    assert dice(found, mask) > 0.9
    told = ms.propagate(ms.read(image), ms.read_segmentation(labels), slices={0: [7, 13], 2: [9, 15]})
    np.testing.assert_array_equal(found, np.asarray(told.data[...]) == 1)


@pytest.mark.parametrize(
    ("name", "flag", "message"),
    [
        ("interact", "--prompts", "--model sam.safetensors: models that take prompts are not supported"),
        ("propagate", "--labels", "sam.safetensors: no such file"),
    ],
)
def test_models_of_another_kind_are_refused(
    name: str, flag: str, message: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, image, flag, image, "--model", "sam.safetensors", "-o", tmp_path / "out.nii.gz") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the log of an interactive session"),
        ('{"napari_medseg_interaction": 1, "steps": [{"do": "point", "at": [99, 0, 0], "label": 1}]}', "outside"),
    ],
    ids=["no log", "outside"],
)
def test_a_log_that_does_not_fit_is_refused_in_one_line(
    content: str, message: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(content)
    assert run("interact", image, "--prompts", prompts, "-o", tmp_path / "new" / "out.nii.gz") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert str(prompts) in said
    assert not (tmp_path / "new").exists()


def test_an_input_is_never_replaced(image: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("interact", image, "--prompts", log, "-o", image) == 2
    assert "would replace its input" in capsys.readouterr().err
