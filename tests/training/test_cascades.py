"""Networks that are trained in stages: cascades of two, and those that name parts of their own."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_medseg import Grid, Segmentation, Volume, iter_train, load_model, segment, train
from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, TrainProgress, Validated
from napari_medseg.models.file import Model
from napari_medseg.registry import network
from napari_medseg.training.planning.rules import coarse_spacing, mode_for

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "augment": False, "seed": 0, "report": False}
SHAPE = (16, 24, 24)
SMALL_HYBRID: dict[str, Any] = {"features": 4, "width": 4, "planar_growth": 4, "growth": 4} | dict.fromkeys(
    ("planar_blocks", "blocks"), (1, 1, 1, 1)
)


def case(seed: int) -> tuple[Volume, Segmentation]:
    """A small bright ball somewhere in noise."""
    draw = np.random.default_rng(seed)
    centre = draw.integers(5, np.array(SHAPE) - 5)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 12
    data = draw.normal(0, 20, SHAPE) + 200 * ball
    grid = Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))
    return Volume(data[None].astype(np.int16), grid, name=f"ball {seed}"), Segmentation(
        ball.astype(np.uint8) * 7, grid, {7: "ball"}
    )


def cases(count: int = 3) -> list[tuple[Volume, Segmentation]]:
    return [case(seed) for seed in range(count)]


@pytest.fixture
def finished(tmp_path: Path) -> Any:
    def run(**options: Any) -> tuple[Model, list[Event]]:
        events = list(iter_train(cases(), out=tmp_path / "m.safetensors", **{**QUICK, "epochs": 1, **options}))
        assert isinstance(events[-1], Finished)
        return events[-1].result, events

    return run


@pytest.mark.parametrize(
    ("mode", "inputs", "patch"),
    [("2d", 1, 1), ("2.5d", 5, 5), ("triplanar", 1, 16), ("3d", 1, 16), ("auto", 1, 16)],
    ids=["2d", "2.5d", "triplanar", "3d", "auto"],
)
def test_a_network_is_trained_and_used_in_every_mode(mode: str, inputs: int, patch: int, finished: Any) -> None:
    model, _ = finished(mode=mode, slices=5, val=0.3)
    assert model.spec.mode == ("3d" if mode == "auto" else mode)
    assert model.spec.arguments["in_channels"] == inputs
    assert model.spec.patch_zyx[0] == patch
    assert segment(cases()[0][0], model).data.shape == SHAPE


@pytest.mark.parametrize(
    ("cascade", "guide", "labels", "inputs"),
    [("coarse-to-fine", "channel", {7: "ball"}, 2), ("detect", "boxes", {1: "object"}, 1)],
    ids=["coarse-to-fine", "detect"],
)
def test_one_command_trains_both_stages_into_one_file(
    cascade: str, guide: str, labels: dict[int, str], inputs: int, finished: Any
) -> None:
    model, events = finished(cascade=cascade, first_network="monai_unet" if cascade == "detect" else "")
    first = model.spec.first
    assert (first.guide, dict(first.model.labels)) == (guide, labels)
    assert first.model.network == ("monai_unet" if cascade == "detect" else "unet3d")
    assert min(first.model.spacing_zyx_mm) > 1.9
    assert model.spec.arguments["in_channels"] == inputs
    assert dict(model.spec.labels) == {7: "ball"}
    notices = [e.message for e in events if isinstance(e, Notice)]
    assert [n.split(":")[0] for n in notices] == ["first stage", "second stage"]
    assert segment(cases()[0][0], model).data.shape == SHAPE
    assert load_model(model.path.with_suffix(".training") / "first.safetensors").spec == first.model


def test_a_cascade_is_fine_tuned_with_its_first_stage_as_it_is(finished: Any, tmp_path: Path) -> None:
    model, _ = finished(cascade="coarse-to-fine")
    tuned = train(cases(), out=tmp_path / "tuned.safetensors", init=model, epochs=1, **QUICK)
    before, after = model.load_first().state_dict(), tuned.load_first().state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert any(
        not torch.equal(tuned.load_network().state_dict()[name], tensor)
        for name, tensor in model.load_network().state_dict().items()
    )


def test_a_cascade_takes_no_model_to_start_from(finished: Any, tmp_path: Path) -> None:
    model, _ = finished()
    with pytest.raises(InputError, match="a cascade is trained from its first stage on: give no model to start from"):
        train(cases(), out=tmp_path / "n.safetensors", init=model, cascade="detect", epochs=1, **QUICK)


def test_a_hybrid_trains_its_planar_part_first_and_then_everything(finished: Any) -> None:
    model, events = finished(network="hdenseunet", arguments=SMALL_HYBRID, epochs=2, val=0.3)
    notices = [e.message for e in events if isinstance(e, Notice)]
    assert [n for n in notices if "phase planar is trained (mean Dice" in n and n.endswith("now phase joint")]
    assert {"dice mean of stage planar", "dice mean"} <= set(model.spec.training.validation)
    steps = [e.step for e in events if isinstance(e, Validated)]
    assert steps == sorted(set(steps)), "the same weights are validated once"


def test_the_phases_of_a_hybrid_share_what_other_networks_leave_of_the_budget(finished: Any) -> None:
    shape = {"scheme": "acnn", "first_share": 0.5, "val": 0, "batch_size": 8}
    _, events = finished(network="hdenseunet", arguments=SMALL_HYBRID, epochs=4, **shape)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert [line.partition(":")[0] for line in told] == ["step 2", "step 3"]
    assert told[1].endswith("phase planar is trained (not validated); now phase joint")


def test_a_hybrid_whose_budget_ends_with_its_planar_part_is_written_whole(finished: Any) -> None:
    model, events = finished(network="hdenseunet", arguments=SMALL_HYBRID, epochs=1, batch_size=8, val=0.3)
    notices = [e.message for e in events if isinstance(e, Notice)]
    assert notices == ["ended in phase planar: the rest of the network has learned nothing; train it longer"]
    assert "dice mean" in model.spec.training.validation
    assert segment(cases()[0][0], model).data.shape == SHAPE


def test_a_hybrid_stopped_in_its_planar_part_has_no_score_of_that_part(tmp_path: Path) -> None:
    validated = threading.Event()
    options = {**QUICK, "arguments": SMALL_HYBRID, "epochs": 10, "batch_size": 8, "val": 0.3}
    out = tmp_path / "m.safetensors"
    for event in iter_train(cases(), network="hdenseunet", out=out, should_stop=validated.is_set, **options):
        if isinstance(event, Validated):
            validated.set()
    assert isinstance(event, Finished)
    assert "dice mean" not in event.result.spec.training.validation


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"network": "hdenseunet", "mode": "2d"}, "mode 2d does not go with network hdenseunet"),
        ({"network": "unet3d", "arguments": {"depth": 3}}, "network unet3d has no argument 'depth'"),
    ],
    ids=["mode", "arguments"],
)
def test_a_second_stage_that_cannot_be_is_refused_before_the_first_is_trained(
    second: dict[str, Any], says: str, tmp_path: Path
) -> None:
    options = {**QUICK, "cascade": "coarse-to-fine", "first_network": "unet", "epochs": 1, **second}
    with pytest.raises(InputError, match=says):
        train(cases(), out=tmp_path / "m.safetensors", **options)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("at", [("first", "epoch 1"), ("second", "preparing cases")], ids=["training", "preparing"])
def test_a_cascade_stopped_before_its_second_stage_is_its_first(at: tuple[str, str], tmp_path: Path) -> None:
    asked, stage = threading.Event(), ""
    seen: list[Event] = []
    out = tmp_path / "m.safetensors"
    options: dict[str, Any] = {**QUICK, "cascade": "coarse-to-fine", "epochs": 1, "batch_size": 1, "val": 0}
    for event in iter_train(cases(), out=out, should_stop=asked.is_set, **options):
        seen.append(event)
        message = getattr(event, "message", "")
        stage = message.split()[0] if isinstance(event, Notice) else stage
        if (stage, message) == at:
            asked.set()
    assert isinstance(seen[-2], Notice)
    assert seen[-2].message == "stopped before the second stage was trained: m.safetensors is the first stage alone"
    model = load_model(out)
    assert model.spec == load_model(tmp_path / "m.training" / "first.safetensors").spec
    assert segment(cases()[0][0], model).data.shape == SHAPE


def test_closing_a_cascade_in_its_first_stage_leaves_that_stage(tmp_path: Path) -> None:
    events = iter_train(cases(), out=tmp_path / "m.safetensors", cascade="detect", epochs=1, batch_size=1, **QUICK)
    assert isinstance(events, Generator)
    next(e for e in events if isinstance(e, TrainProgress))
    events.close()
    assert load_model(tmp_path / "m.training" / "first.safetensors").spec.first is None
    assert not (tmp_path / "m.safetensors").exists()


def test_a_detector_finds_objects_also_where_their_id_is_the_ignored_one(finished: Any) -> None:
    model, _ = finished(cascade="detect", ignore_label=1)
    assert dict(model.spec.first.model.labels) == {2: "object"}


def test_fine_tuning_a_detecting_cascade_shows_it_objects_only(finished: Any, tmp_path: Path) -> None:
    model, _ = finished(cascade="detect")
    options = {**QUICK, "init": model, "out": tmp_path / "tuned.safetensors", "epochs": 1}
    weights = [train(cases(), foreground=f, **options).load_network().state_dict() for f in (0.0, 1.0)]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())


def test_the_first_stage_holds_the_whole_volume() -> None:
    assert coarse_spacing((200, 400, 400), (1.0, 0.5, 0.5), 10**6) == pytest.approx((2.0, 2.0, 2.0), rel=0.05)
    assert coarse_spacing((20, 40, 40), (5.0, 1.0, 1.0), 10**6) == (5.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("name", "shape", "mode"),
    [("unet3d", (9, 9, 9), "3d"), ("unet3d", (1, 9, 9), "2d"), ("hdenseunet", (1, 9, 9), "3d")],
    ids=["volume", "slice", "only for volumes"],
)
def test_mode_follows_network_and_cases(name: str, shape: tuple[int, int, int], mode: str) -> None:
    assert mode_for(network(name), shape, "auto") == mode


def test_a_mode_that_the_network_lacks() -> None:
    with pytest.raises(InputError, match=r"mode 2.5d does not go with network hdenseunet, which is for 3D"):
        mode_for(network("hdenseunet"), (9, 9, 9), "2.5d")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "4d"}, r"mode is auto, 2d, 2.5d, triplanar or 3d; got '4d'"),
        ({"slices": 4}, "slices must be an odd number above 1; got 4"),
        ({"cascade": "three"}, "cascade is none, coarse-to-fine or detect; got 'three'"),
        ({"first_network": "unet"}, "first_network unet is the first of a cascade: choose coarse-to-fine or detect"),
    ],
    ids=["mode", "slices", "cascade", "first of none"],
)
def test_refuses(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainConfig(**change)
