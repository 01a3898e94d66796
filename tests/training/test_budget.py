from __future__ import annotations

import pytest

from clock import Clock
from napari_medseg.config import BudgetConfig
from napari_medseg.training.budget import Budget


def budget(clock: Clock, steps_per_epoch: int, asked_before: float = 0.0, **config: float) -> Budget:
    """A budget whose training begins now, `asked_before` seconds after the user asked."""
    chosen = BudgetConfig(**config)  # type: ignore[arg-type]
    return Budget(chosen, steps_per_epoch, clock, asked=clock() - asked_before, began=clock())


def test_epochs_count_steps() -> None:
    four = budget(Clock(), 5, epochs=4)
    assert four.total_steps == 20
    assert [four.fraction(s) for s in (0, 5, 20, 30)] == [0, 0.25, 1, 1]
    assert [four.epoch(s) for s in (0, 1, 5, 6, 20)] == [0, 0, 0, 1, 3]


def test_without_a_budget_there_are_100_epochs() -> None:
    assert budget(Clock(), 5).total_steps == 500


def test_minutes_count_from_when_the_user_asked() -> None:
    # Of 120 s, 20 are gone and 1.2 are kept for writing: 98.8 s are left for the steps.
    clock = Clock()
    two = budget(clock, 5, asked_before=20, minutes=2)
    assert two.total_steps is None
    assert two.fraction(0) == 0
    clock.seconds += 49.4
    assert two.fraction(3) == pytest.approx(0.5)
    assert two.seconds_left(3) == pytest.approx(50.6)
    two.reserved = 50
    assert two.fraction(3) == 1


def test_the_time_left_of_epochs_follows_the_pace() -> None:
    clock = Clock()
    ten = budget(clock, 10, epochs=10)
    clock.seconds += 30
    assert ten.seconds_left(25) == pytest.approx(90)
