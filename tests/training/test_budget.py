from __future__ import annotations

import pytest

from napari_medseg.config import TrainConfig
from napari_medseg.training import budget as budget_module
from napari_medseg.training.budget import Budget, ValidationClock


class Clock:
    """A clock that the test turns."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budget_module, "time", clock)
    return clock


def test_epochs_count_steps() -> None:
    budget = Budget(TrainConfig(epochs=4), steps_per_epoch=5)
    assert budget.total_steps == 20
    assert [budget.fraction(s) for s in (0, 5, 20, 30)] == [0, 0.25, 1, 1]


def test_minutes_count_from_when_the_user_asked(clock: Clock) -> None:
    # of 120 s, 20 are gone and 1.2 are kept for writing
    budget = Budget(TrainConfig(minutes=2), 5, started=clock.now - 20, training_started=clock.now)
    assert budget.fraction(0) == 0
    clock.now += 49.4
    assert budget.fraction(3) == pytest.approx(0.5)
    assert budget.seconds_left(3) == pytest.approx(50.6)
    budget.reserved = 50
    assert budget.fraction(3) == 1


def test_the_time_left_of_epochs_follows_the_pace(clock: Clock) -> None:
    budget = Budget(TrainConfig(epochs=10), 10, training_started=clock.now)
    clock.now += 30
    assert budget.seconds_left(25) == pytest.approx(90)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_learning_rate_warms_up_and_falls_to_nothing(schedule: str) -> None:
    config = TrainConfig(epochs=10, learning_rate=0.01, schedule=schedule)  # type: ignore[arg-type]
    rates = [Budget(config, 100).learning_rate(s) for s in range(1001)]
    assert max(rates) == pytest.approx(0.01, rel=0.03)
    peak = rates.index(max(rates))
    assert 15 <= peak <= 25
    assert rates[0] < 0.001
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert rates[-1] < 1e-5


def test_validations_are_spread_evenly_and_leave_the_end_to_the_last() -> None:
    clock = ValidationClock(Budget(TrainConfig(epochs=10, validations=5), 10))
    due = []
    for step in range(1, 101):
        if clock.is_due(step):
            due.append(step)
            clock.done(step, 1.0)
    assert due == [20, 40, 60, 80]
    assert not ValidationClock(Budget(TrainConfig(epochs=10, validations=0), 10)).is_due(50)


def test_slow_validations_are_fewer(clock: Clock) -> None:
    budget = Budget(TrainConfig(minutes=10, validations=10), 10, started=clock.now, training_started=clock.now)
    asked = ValidationClock(budget)
    due = []
    for second in range(600):
        if asked.is_due(second):
            due.append(second)
            asked.done(second, 20.0)
        clock.now += 1
    # a validation may take 8 % of 600 s, so the next is due 20 / 48 of the 475 s later that are left
    assert due == [60, 246]


def test_only_the_validation_cases_that_fit_into_the_minutes_are_used() -> None:
    costs = [2.0, 10.0, 40.0]
    assert ValidationClock(Budget(TrainConfig(epochs=1), 1)).affordable(costs) == 3
    # 30 % of 5 minutes is 90 s, for a last validation of 6 times the cost: 15 s
    assert ValidationClock(Budget(TrainConfig(minutes=5), 1)).affordable(costs) == 2
    assert ValidationClock(Budget(TrainConfig(minutes=0.1), 1)).affordable(costs) == 0


def test_time_is_kept_for_the_last_validation() -> None:
    budget = Budget(TrainConfig(minutes=10), 1)
    ValidationClock(budget).expect(10)
    assert budget.reserved == 60
