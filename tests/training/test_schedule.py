from __future__ import annotations

from itertools import pairwise

import pytest

from clock import Clock
from napari_medseg.config import BudgetConfig, OptimiserConfig
from napari_medseg.training.budget import Budget
from napari_medseg.training.schedule import ValidationSchedule, learning_rate


def schedule(validations: int = 10, clock: Clock | None = None, **config: float) -> ValidationSchedule:
    """Ten steps an epoch."""
    clock = clock or Clock()
    chosen = BudgetConfig(**config)  # type: ignore[arg-type]
    return ValidationSchedule(Budget(chosen, 10, clock, began=clock()), validations)


@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_the_learning_rate_warms_up_and_falls_to_nothing(name: str) -> None:
    config = OptimiserConfig(learning_rate=0.01, schedule=name)  # type: ignore[arg-type]
    rates = [learning_rate(config, step / 1000) for step in range(1001)]
    assert max(rates) == pytest.approx(0.01, rel=0.03)
    peak = rates.index(max(rates))
    assert 15 <= peak <= 25
    assert rates[0] < 0.001
    assert all(a >= b for a, b in pairwise(rates[peak:]))
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(("name", "half"), [("cosine", 0.005), ("poly", 0.01 * 0.5**0.9)])
def test_the_learning_rate_half_way(name: str, half: float) -> None:
    config = OptimiserConfig(learning_rate=0.01, schedule=name)  # type: ignore[arg-type]
    assert learning_rate(config, 0.5) == pytest.approx(half)


def test_validations_are_spread_evenly_and_leave_the_end_to_the_last() -> None:
    asked = schedule(5, epochs=10)
    due, last = [], 0.0
    for step in range(1, 101):
        if asked.is_due(step, last):
            due.append(step)
            last = asked.budget.fraction(step)
    assert due == [20, 40, 60, 80]
    assert not schedule(0, epochs=10).is_due(50, 0.0)


def test_slow_validations_are_fewer() -> None:
    clock = Clock()
    asked = schedule(10, clock, minutes=10)
    due, last = [], 0.0
    for second in range(600):
        if asked.is_due(second, last):
            due.append(second)
            last = asked.budget.fraction(second)
            asked.expect(10.0)
        clock.seconds += 1
    # A validation may take 4 % of 600 s, so the next is due 10 / 24 of the budget later. It goes on from 60 / 595 over
    # the 475 s that are left.
    assert due == [60, 281]


def test_only_the_validation_cases_that_fit_into_the_minutes_are_used() -> None:
    costs = [2.0, 10.0, 40.0]
    assert schedule(epochs=1).affordable(costs) == 3
    # 30 % of 5 minutes is 90 s, for a last validation of 6 times the cost: 15 s.
    assert schedule(minutes=5).affordable(costs) == 2
    assert schedule(minutes=0.1).affordable(costs) == 0


def test_time_is_kept_for_the_last_validation() -> None:
    asked = schedule(minutes=10)
    asked.expect(10)
    assert asked.budget.reserved == 60
