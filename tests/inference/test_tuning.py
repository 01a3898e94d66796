"""How a network is fastest, by a clock that the test holds: the layout, which a run keeps, and the threads."""

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
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Filled, Progress, run_to_end
from napari_medseg.inference import tuning as tuning_module
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.tuning import Tuning, remembered, tuning
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.models.file import Model, load_model

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
    return run_to_end(tuning(predictor, model, plan, clock_of(predictor, seconds))).layout


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
    assert remembered(model, plan) == Tuning("channels last")
    slower: dict[Layout, float] = {"contiguous": 10.0, "channels last": 11.0}
    assert found(model, plan, slower) == "channels last", "nothing is measured again"


@pytest.mark.parametrize("other", [9.5, 11.0])
def test_the_usual_layout_stays_where_the_other_gains_little(ball_model: Path, other: float) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    assert found(model, plan, {"contiguous": 10.0, "channels last": other}) == "contiguous"
    assert remembered(model, plan) == Tuning("contiguous")


def test_a_measurement_can_be_cancelled_between_windows(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    predictor = load_predictor(model, plan)
    events = list(tuning(predictor, model, plan, clock_of(predictor, LONG)))
    assert [(event.done, event.total) for event in events if isinstance(event, Progress)] == [(1, 4), (2, 4), (3, 4)]


def test_a_short_run_is_not_measured(ball_model: Path) -> None:
    model = load_model(ball_model)
    assert found(model, planned(model), {"contiguous": 1e-4, "channels last": 1e-5}) == "contiguous"
    assert remembered(model, planned(model)) is None


def test_few_windows_are_not_measured(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    monkeypatch.setattr(tuning_module, "FEWEST_WINDOWS", len(plan.windows) + 1)
    assert found(model, plan, LONG) == "contiguous"


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of torch's threads, 4 at first, in place of real ones: a process that has some cannot be forked."""
    counted = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: counted[-1])
    monkeypatch.setattr(torch, "set_num_threads", counted.append)
    return counted


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose threads are ours to choose."""
    monkeypatch.setattr(tuning_module, "is_own_process", lambda: True)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def threads_of(model: Model, plan: InferencePlan, seconds: Callable[[int], float]) -> int | None:
    """The threads that are chosen where a window takes so long with each number."""

    def ticks() -> Iterator[float]:
        now = 0.0
        for looked in itertools.count():
            now += seconds(torch.get_num_threads()) if looked % 2 else 0.0
            yield now

    return run_to_end(tuning(load_predictor(model, plan), model, plan, ticks().__next__)).threads


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("preset", ["exact", "balanced"])
def test_more_threads_than_granted_cores_are_halved(ball_model: Path, preset: str) -> None:
    model = load_model(ball_model)
    plan = planned(model, preset)
    assert threads_of(model, plan, lambda threads: 10.0 * max(1, threads / 2)) == 2
    assert torch.get_num_threads() == 2
    assert threads_of(model, plan, lambda threads: 10.0) == 2, "it is remembered, whatever torch has by now"


@pytest.mark.usefixtures("own_process")
def test_threads_stay_where_fewer_are_slower(ball_model: Path) -> None:
    model = load_model(ball_model)
    assert threads_of(model, planned(model), lambda threads: 80.0 / threads) == 4
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("own_process")
def test_threads_that_the_user_set_stay(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    model = load_model(ball_model)
    assert threads_of(model, planned(model), lambda threads: 10.0 * threads) is None
    assert torch.get_num_threads() == 4


def test_threads_of_a_host_stay(ball_model: Path) -> None:
    model = load_model(ball_model)
    assert threads_of(model, planned(model), lambda threads: 10.0 * threads) is None
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("preset", "precision", "expected"), [("exact", "fp32", False), ("exact", "bf16", True)])
def test_exact_labels_in_fp32_are_computed_as_monai_does(
    ball_model: Path, preset: str, precision: str, expected: bool
) -> None:
    model = load_model(ball_model)
    assert (found(model, planned(model, preset, precision), LONG) == "channels last") == expected


@pytest.mark.parametrize(
    "content", [b"\xff", b"[]", b'{"layout": "up", "threads": 1}', b'{"layout": "contiguous", "threads": -1}']
)
def test_a_broken_memory_is_measured_anew(ball_model: Path, content: bytes) -> None:
    model = load_model(ball_model)
    plan = planned(model)
    found(model, plan, LONG)
    for path in cache_folder("tuning").iterdir():
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
    monkeypatch.setattr("napari_medseg.inference.tuning.lay", watched)
    config, out = SegmentConfig(device="cpu", preset="balanced", precision="fp32"), tmp_path / "a.zarr"
    whole = ms.segment(volume(), ball_model, config=config)
    events = ms.iter_segment(volume(), ball_model, out=out, config=config)
    assert isinstance(events, Generator)
    with closing(events):
        next(event for event in events if isinstance(event, Filled))
    for path in cache_folder("tuning").iterdir():
        path.write_text('{"layout": "contiguous", "threads": null}')
    resumed = ms.segment(volume(), ball_model, out=out, resume=True, config=config)
    assert laid == ["channels last"] * 3
    assert np.array_equal(np.asarray(resumed.data[...]), np.asarray(whole.data[...]))
