"""A training that stops and goes on from its state makes the weights of one that never stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from balls import segmentation, volume
from clock import Clock
from napari_medseg.config import AugmentationConfig, TrainConfig, configured
from napari_medseg.events import finishing, result_of
from napari_medseg.models.file import load_model
from napari_medseg.training.budget import Budget
from napari_medseg.training.cases import as_cases, prepare
from napari_medseg.training.loop import take_step
from napari_medseg.training.losses.supervised import deeply_supervised
from napari_medseg.training.patches import PatchSampler
from napari_medseg.training.saving.record import recorded
from napari_medseg.training.schemes.start import new_state
from napari_medseg.training.state import Setup, TrainState

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setup(ball_model: Path) -> Setup:
    spec = replace(load_model(ball_model).spec, spacing_zyx_mm=(2.0, 1.0, 1.0), orientation="SPL")
    config = configured(TrainConfig, None, {"epochs": 4, "precision": "fp32", "seed": 3})
    cases = as_cases([(replace(volume(seed=s), name=f"ball{s}"), segmentation()) for s in range(3)])
    prepared = [
        result_of(finishing(prepare(case, spec, config.loss, np.random.default_rng(0), None))) for case in cases
    ]
    sampler = PatchSampler(
        prepared,
        spec.patch_zyx,
        (2.0, 1.0, 1.0),
        batch_size=2,
        foreground=0.5,
        augmentation=AugmentationConfig(),
        seed=3,
        device=CPU,
    )
    clock = Clock()
    budget = Budget(config.budget, sampler.steps_per_epoch, clock, began=clock())
    return Setup(spec, config, CPU, "fp32", sampler, budget, deeply_supervised)


def advance(setup: Setup, state: TrainState, steps: int) -> list[float]:
    return [sum(take_step(setup, state, batch).values()) for batch in islice(setup.sampler.batches(state.step), steps)]


@pytest.mark.parametrize("done", [1, 4], ids=["within an epoch", "across epochs"])
def test_going_on_from_a_state_is_bit_equal_to_not_stopping(setup: Setup, done: int) -> None:
    assert setup.sampler.steps_per_epoch == 3
    whole = new_state(setup)
    losses = advance(setup, whole, done)
    saved = copy.deepcopy(whole.state_dict())
    losses_after = advance(setup, whole, 3)

    resumed = new_state(replace(setup, config=replace(setup.config, seed=99)))
    resumed.load_state_dict(saved)
    assert resumed.step == len(losses) == done
    assert advance(setup, resumed, 3) == losses_after
    expected, found = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_record_keeps_the_scores_of_labels_of_one_name_apart(setup: Setup) -> None:
    state = new_state(setup)
    state.dice = {1: 0.5, 2: 0.75}
    named = [replace(setup, spec=replace(setup.spec, labels=labels)) for labels in ({1: "a", 2: "b"}, {1: "a", 2: "a"})]
    assert recorded(named[0], state).training.validation == {"dice a": 0.5, "dice b": 0.75, "dice mean": 0.625}
    assert recorded(named[1], state).training.validation == {"dice a (1)": 0.5, "dice a (2)": 0.75, "dice mean": 0.625}


def test_a_state_holds_all_its_plain_values(setup: Setup) -> None:
    state = new_state(setup)
    state.step, state.validated_step, state.validated_fraction = 7, 6, 0.25
    state.dice, state.best_dice, state.phase_dice = {1: 0.5}, {1: 0.75}, {"planar": 0.25}
    state.history.losses.append((7, 1.5))
    saved = state.state_dict()
    state.history.losses.append((8, 1.0))

    other = new_state(setup)
    other.load_state_dict(saved)
    plain = ("step", "validated_step", "validated_fraction", "dice", "best_dice", "phase_dice", "phase")
    assert all(getattr(other, name) == getattr(state, name) for name in plain)
    assert other.history.losses == [(7, 1.5)]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda loss: loss * float("nan"), id="loss"),
        pytest.param(lambda loss: loss + (loss - loss.detach()).abs().sqrt(), id="gradient"),
    ],
)
def test_what_is_not_finite_changes_no_weight(setup: Setup, broken: Callable[[torch.Tensor], torch.Tensor]) -> None:
    unwell = replace(setup, loss=lambda *inputs: broken(deeply_supervised(*inputs)))
    state = new_state(unwell)
    before = copy.deepcopy(state.network.state_dict())
    advance(unwell, state, 1)
    assert state.step == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.network.state_dict().items())
