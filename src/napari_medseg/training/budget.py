"""How much of a training is done, in epochs or in wall time, and the learning rate that follows from it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from napari_medseg.config import TrainConfig

DEFAULT_EPOCHS = 100
_WARM_UP = 0.02
_VALIDATION_SHARE = 0.08
"""Of the wall time, at most, for the validations along the way."""
_LAST_VALIDATION = 6
"""Cost of the last validation over one along the way: it runs in fp32 too, up to four times slower, then writes."""
_LAST_SHARE = 0.3
"""Of the wall time, at most, for the last validation."""
_WRITING_SECONDS, _WRITING_SHARE = 5.0, 0.01
"""Kept for writing the model and ending the process: seconds, and of the wall time at most."""


@dataclass
class Budget:
    """The clock of a training. `started` is when the user asked for it, so that reading the cases counts."""

    config: TrainConfig
    steps_per_epoch: int
    started: float = field(default_factory=time.monotonic)
    training_started: float = field(default_factory=time.monotonic)
    reserved: float = 0.0
    """Seconds at the end kept for the last validation."""

    @property
    def total_steps(self) -> int | None:
        """Steps in all, where the budget is in epochs."""
        if self.config.minutes is not None:
            return None
        return (self.config.epochs or DEFAULT_EPOCHS) * self.steps_per_epoch

    def elapsed(self) -> float:
        """Seconds since the user asked."""
        return time.monotonic() - self.started

    def fraction(self, step: int) -> float:
        """How much of the budget is used after `step` steps, 0 to 1."""
        if self.config.minutes is None:
            assert self.total_steps is not None
            return min(1.0, step / self.total_steps)
        seconds = self.config.minutes * 60
        end = self.started + seconds - self.reserved - min(_WRITING_SECONDS, _WRITING_SHARE * seconds)
        whole = end - self.training_started
        return min(1.0, (time.monotonic() - self.training_started) / whole) if whole > 0 else 1.0

    def seconds_left(self, step: int) -> float:
        """Until the end of the budget; estimated from the pace where the budget is in epochs."""
        if self.config.minutes is not None:
            return max(0.0, self.config.minutes * 60 - self.elapsed())
        done = self.fraction(step)
        return (time.monotonic() - self.training_started) * (1 - done) / done if done > 0 else math.nan

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then the schedule's fall to zero."""
        done = self.fraction(step)
        warm = min(1.0, max(done / _WARM_UP, 0.01))
        fall = 0.5 * (1 + math.cos(math.pi * done)) if self.config.schedule == "cosine" else (1 - done) ** 0.9
        return self.config.learning_rate * warm * max(fall, 1e-4)


@dataclass
class ValidationClock:
    """When to validate: evenly over the budget, less often where they would eat too much of a wall-time budget."""

    budget: Budget
    last_fraction: float = 0.0
    cost_seconds: float = 0.0

    def is_due(self, step: int) -> bool:
        """Whether the next validation is due; the last one, at the end, is not asked for here."""
        config = self.budget.config
        if config.validations == 0:
            return False
        interval = 1 / config.validations
        if config.minutes is not None:
            interval = max(interval, self.cost_seconds / (_VALIDATION_SHARE * config.minutes * 60))
        done = self.budget.fraction(step)
        return done - self.last_fraction >= interval - 1e-9 and done <= 1 - interval / 2

    def done(self, step: int, seconds: float) -> None:
        """Note a validation and what it took."""
        self.last_fraction = self.budget.fraction(step)
        self.expect(seconds)

    def expect(self, seconds: float) -> None:
        """What a validation costs; time for the last one, in training's precision and in fp32, is kept at the end."""
        self.cost_seconds = seconds
        self.budget.reserved = _LAST_VALIDATION * seconds

    def affordable(self, cumulative_seconds: list[float]) -> int:
        """How many of the cases leave most of a budget in minutes to the training; all where it is in epochs."""
        if self.budget.config.minutes is None:
            return len(cumulative_seconds)
        most = _LAST_SHARE * self.budget.config.minutes * 60 / _LAST_VALIDATION
        return sum(seconds <= most for seconds in cumulative_seconds)
