"""How a network is fastest, by a clock that the test holds: the layout of its weights, which a run keeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import napari_medseg as ms
from balls import volume
from napari_medseg import registry
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Filled, Notice, Progress, run_to_end
from napari_medseg.inference import tuning as tuning_module
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.tuning import finding_layout, remembered
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.models.file import Model, load_model, write_model

LONG: dict[Layout, float] = {"contiguous": 10.0, "channels last": 5.0}
"""Seconds of a window in each layout, with channels last the faster one."""


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning_module, "FEWEST_WINDOWS", 2)


def planned(model: Model, preset: str = "balanced", precision: str = "fp32") -> InferencePlan:
    config = SegmentConfig(device="cpu", preset=preset, precision=precision)  # type: ignore[arg-type]
    return resolve(ImageFacts.of(volume()), model.spec, config, Machine())


def is_channels_last(network: nn.Module) -> bool:
    weights = [p for p in network.parameters() if p.ndim == 5 and p.shape[1] > 1 and p.shape[2] > 1]
    return all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in weights)


def clock_of(predictor: Predictor, seconds: dict[Layout, float]) -> Callable[[], float]:
    """A clock on which a window takes so long in each layout."""

    def ticks() -> Iterator[float]:
        now = 0.0
        for looked in itertools.count():
            if looked % 2:
                now += seconds["channels last" if is_channels_last(predictor.network) else "contiguous"]
            yield now

    return ticks().__next__


def found(model: Model, plan: InferencePlan, seconds: dict[Layout, float]) -> Layout:
    predictor = load_predictor(model, plan)
    return run_to_end(finding_layout(predictor, model, plan, clock_of(predictor, seconds)))


def test_logits_are_the_same_in_both_layouts(ball_model: Path) -> None:
    model = load_model(ball_model)
    windows = torch.randn(1, 1, *model.spec.patch_zyx, generator=torch.Generator().manual_seed(1))
    predictor = load_predictor(model, planned(model))
    usual = predictor(windows)
    lay(predictor.network, "channels last")
    assert is_channels_last(predictor.network)
    torch.testing.assert_close(predictor(windows), usual, rtol=1e-4, atol=1e-4)
    lay(predictor.network, "contiguous")
    assert torch.equal(predictor(windows), usual)


def test_the_faster_layout_is_taken_and_remembered(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    assert found(model, plan, LONG) == "channels last"
    assert remembered(model, plan) == "channels last"
    slower: dict[Layout, float] = {"contiguous": 10.0, "channels last": 11.0}
    assert found(model, plan, slower) == "channels last", "nothing is measured again"


def test_workers_that_measure_at_once_keep_one_layout(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan, predictor = planned(model), load_predictor(model, planned(model))
    here = clock_of(predictor, LONG)

    def clock() -> float:
        if remembered(model, plan) is None:  # the other worker ends first
            assert found(model, plan, {"contiguous": 10.0, "channels last": 11.0}) == "contiguous"
        return here()

    assert run_to_end(finding_layout(predictor, model, plan, clock)) == "contiguous"
    assert remembered(model, plan) == "contiguous"


@pytest.mark.parametrize("other", [9.5, 11.0])
def test_the_usual_layout_stays_where_the_other_gains_little(ball_model: Path, other: float) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    assert found(model, plan, {"contiguous": 10.0, "channels last": other}) == "contiguous"
    assert remembered(model, plan) == "contiguous"


def test_a_measurement_can_be_cancelled_between_windows(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    predictor = load_predictor(model, plan)
    events = list(finding_layout(predictor, model, plan, clock_of(predictor, LONG)))
    assert [(event.done, event.total) for event in events if isinstance(event, Progress)] == [
        (1, 4),
        (2, 4),
        (3, 4),
        (4, 4),
    ]


def test_a_short_run_is_not_measured(ball_model: Path) -> None:
    model = load_model(ball_model)
    assert found(model, planned(model), {"contiguous": 1e-4, "channels last": 1e-5}) == "contiguous"
    assert remembered(model, planned(model)) is None


def test_few_windows_are_not_measured(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    monkeypatch.setattr(tuning_module, "FEWEST_WINDOWS", len(plan.windows) + 1)
    assert found(model, plan, LONG) == "contiguous"


@pytest.mark.parametrize(("preset", "precision", "expected"), [("exact", "fp32", False), ("exact", "bf16", True)])
def test_exact_labels_in_fp32_are_computed_as_monai_does(
    ball_model: Path, preset: str, precision: str, expected: bool
) -> None:
    model = load_model(ball_model)
    assert (found(model, planned(model, preset, precision), LONG) == "channels last") == expected


@pytest.mark.parametrize("content", [b"\xff", b"", b"contiguous and more", b"channels last" * 10**6])
def test_a_broken_memory_is_measured_anew(ball_model: Path, content: bytes) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    found(model, plan, LONG)
    for path in cache_folder("layouts").iterdir():
        path.write_bytes(content)
    assert remembered(model, plan) is None
    assert found(model, plan, LONG) == "channels last"


def test_without_a_place_in_the_cache_the_run_goes_on(ball_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    model = load_model(ball_model)
    assert found(model, planned(model), LONG) == "channels last"


def test_workers_lay_the_weights_as_the_plan_says(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan = replace(planned(model), layout="channels last")
    assert is_channels_last(load_predictor(model, plan).network)


def test_a_run_that_continues_keeps_its_layout(
    ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, laid = load_model(ball_model), list[Layout]()

    def watched(network: nn.Module, how: Layout) -> None:
        laid.append(how)
        lay(network, how)

    found(model, planned(model), LONG)  # channels last from now on
    monkeypatch.setattr("napari_medseg.inference.engine.lay", watched)
    config, out = SegmentConfig(device="cpu", preset="balanced", precision="fp32"), tmp_path / "a.zarr"
    whole = ms.segment(volume(), ball_model, config=config)
    events = ms.iter_segment(volume(), ball_model, out=out, config=config)
    assert isinstance(events, Generator)
    with closing(events):
        next(event for event in events if isinstance(event, Filled))
    for path in cache_folder("layouts").iterdir():
        path.write_text("contiguous")
    resumed = ms.segment(volume(), ball_model, out=out, resume=True, config=config)
    assert laid == ["channels last"] * 3
    assert np.array_equal(np.asarray(resumed.data[...]), np.asarray(whole.data[...]))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_that_goes_on_with_other_threads_says_so(
    ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    out = tmp_path / "a.zarr"
    events = ms.iter_segment(volume(), ball_model, out=out, device="cpu")
    assert isinstance(events, Generator)
    with closing(events):
        next(event for event in events if isinstance(event, Filled))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    resumed = ms.iter_segment(volume(), ball_model, out=out, resume=True, device="cpu")
    told = [event.message for event in resumed if isinstance(event, Notice) and "threads" in event.message]
    assert len(told) == (threads != 1)
    assert all("torch threads were 1 when the run began and are 3 now" in message for message in told)


def test_a_group_norm_keeps_its_layout(ball_model: Path, tmp_path: Path) -> None:
    """torch computes it less exactly where channels come last."""
    network = registry.network("segresnet")
    arguments = network.arguments(in_channels=1, out_channels=3, init_filters=8)
    spec = replace(load_model(ball_model).spec, network="segresnet", arguments=arguments)
    write_model(tmp_path / "m.safetensors", spec, network.build_from(arguments).state_dict())
    model = load_model(tmp_path / "m.safetensors")
    assert found(model, planned(model), LONG) == "contiguous"
    assert remembered(model, planned(model)) is None
