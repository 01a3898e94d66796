"""`convert --prune`: a shallower network, with the costs of both, and their Dice where it can be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from balls import LABELS
from napari_medseg import evaluate, load_model, networks, read, read_segmentation, segment
from napari_medseg.cli import main
from napari_medseg.models.file import Channel, Model, ModelSpec, Normalisation, TrainingRecord, write_model


@pytest.fixture
def whole(tmp_path: Path) -> Model:
    """A UNet++ of three levels that has learned nothing."""
    spec = networks()["unetpp"]
    arguments = spec.arguments(channels=(4, 8, 8), out_channels=3)
    torch.manual_seed(0)
    described = ModelSpec(
        network="unetpp",
        arguments=arguments,
        channels=(Channel(name="channel 0", modality="other"),),
        labels=LABELS,
        patch_zyx=(8, 16, 16),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=True,
        mode="3d",
        training=replace(TrainingRecord(), validation={"dice mean": 0.625}),
    )
    return write_model(tmp_path / "whole.safetensors", described, spec.build_from(arguments).state_dict())


def rows(text: str) -> dict[str, list[str]]:
    """{name of the row: its cells} of the printed table."""
    cells = [line.rsplit(maxsplit=4) for line in text.splitlines() if line.strip().startswith(("whole", "level"))]
    return {name.strip(): values for name, *values in cells}


def test_without_cases_the_dice_is_that_of_the_record(
    whole: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned.safetensors"
    assert main(["convert", str(whole.path), "-o", str(out), "--prune", "1"]) == 0
    said = capsys.readouterr()
    found = rows(said.out)
    for name, path in (("whole", whole.path), ("level 1", out)):
        parameters = sum(p.numel() for p in load_model(path).load_network().parameters())
        assert found[name][0] == f"{parameters:,}"
        assert found[name][1] == f"{path.stat().st_size / 2**20:.1f}"
    assert (found["whole"][3], found["level 1"][3]) == ("0.6250", "-")
    assert "Dice of level 1 is not measured" in said.err


def test_an_earlier_model_is_kept(whole: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pruned.safetensors"
    out.write_bytes(b"a night")
    assert main(["convert", str(whole.path), "-o", str(out), "--prune", "1"]) == 0
    assert (tmp_path / "pruned.previous.safetensors").read_bytes() == b"a night"
    assert "it is kept as pruned.previous.safetensors" in capsys.readouterr().err


def test_with_cases_both_are_measured(
    whole: Model, ball_images: Path, ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned.safetensors"
    argv = ["convert", str(whole.path), "-o", str(out), "--prune", "2"]
    assert main([*argv, "--images", str(ball_images), "--labels", str(ball_labels)]) == 0
    found = rows(capsys.readouterr().out)
    for name, path in (("whole", whole.path), ("level 2", out)):
        scores: list[float] = []
        for image in sorted(ball_images.iterdir()):
            reference = read_segmentation(next(ball_labels.glob(f"{image.name.split('.')[0]}.*")))
            table = evaluate(prediction=segment(read(image), path), reference=reference)
            scores += [row.dice for row in table.rows]
        assert float(found[name][3]) == pytest.approx(float(np.mean(scores)), abs=1e-4)
