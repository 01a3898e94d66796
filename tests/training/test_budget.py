from __future__ import annotations

import pytest

from clock import Clock
from napari_medseg.config import BudgetConfig
from napari_medseg.training.budget import Budget


def budget(clock: Clock, steps_per_epoch: int, **config: float) -> Budget:
    """A budget whose first step is due now."""
    return Budget(BudgetConfig(**config), steps_per_epoch, clock, began=clock())  # type: ignore[arg-type]


def test_epochs_count_steps() -> None:
    four = budget(Clock(), 5, epochs=4)
    assert four.total_steps == 20
    assert [four.fraction(s) for s in (0, 5, 20, 30)] == [0, 0.25, 1, 1]
    assert [four.epoch(s) for s in (0, 1, 5, 6, 20)] == [0, 0, 0, 1, 3]


def test_without_a_budget_there_are_100_epochs() -> None:
    assert budget(Clock(), 5).total_steps == 500


def test_minutes_count_from_the_first_step_and_go_on_where_a_training_is_resumed() -> None:
    # Of 120 s, 1.2 are kept for writing: 118.8 s are left for the steps.
    clock = Clock()
    two = budget(clock, 5, minutes=2)
    clock.seconds += 500
    two.begin()
    assert two.total_steps is None
    assert two.fraction(0) == 0
    clock.seconds += 59.4
    assert two.fraction(3) == pytest.approx(0.5)
    assert two.seconds_left(3) == pytest.approx(60.6)
    clock.seconds += 500
    two.begin(spent=59.4)
    assert two.fraction(3) == pytest.approx(0.5)
    clock.seconds += 29.7
    assert two.fraction(4) == pytest.approx(0.75)
    two.reserve(80)
    assert two.fraction(4) == 1


def test_what_is_reserved_changes_the_pace_and_never_what_is_done() -> None:
    # Of 100 s, 1 is kept for writing. 20 s of 99 are used, then of 69, then of 89: what is left has other lengths.
    clock = Clock()
    asked = budget(clock, 5, minutes=100 / 60)
    clock.seconds += 20
    before = asked.fraction(4)
    asked.reserve(30)
    assert asked.fraction(4) == pytest.approx(before) == pytest.approx(20 / 99)
    clock.seconds += 24.5  # half of the 49 s that are left
    half = asked.fraction(5)
    assert half == pytest.approx((1 + before) / 2)
    asked.reserve(10)
    assert asked.fraction(5) == pytest.approx(half)
    clock.seconds += 44.5
    assert asked.fraction(6) == pytest.approx(1)


def test_what_was_reserved_is_still_kept_where_a_training_is_resumed() -> None:
    clock = Clock()
    asked = budget(clock, 5, minutes=100 / 60)
    clock.seconds += 20
    asked.reserve(30)
    clock.seconds += 24.5
    before = asked.fraction(5)
    resumed = budget(clock, 5, minutes=100 / 60)
    clock.seconds += 7
    resumed.begin(44.5, before, 30)
    assert resumed.fraction(5) == pytest.approx(before)
    clock.seconds += 24.5
    assert resumed.fraction(6) == pytest.approx(1)


def test_the_time_left_of_epochs_follows_the_pace() -> None:
    clock = Clock()
    ten = budget(clock, 10, epochs=10)
    clock.seconds += 30
    assert ten.seconds_left(25) == pytest.approx(90)
