"""What changes over a training: the learning rate, when to validate, and when to save its state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_medseg.config import OptimiserConfig
from napari_medseg.training.budget import Budget, Clock

_WARM_UP = 0.02
"""Share of the budget over which the learning rate rises."""
_VALIDATION_SHARE = 0.04
"""Largest share of the wall time for the validations along the way."""
_LAST_VALIDATION = 6
"""Cost of the last validation over one along the way: it also runs in fp32, up to four times slower, then writes."""
_SAVING_SHARE = 0.02
"""Largest share of the wall time for saving states."""
_LAST_SHARE = 0.3
"""Largest share of the wall time for the last validation."""


def learning_rate(config: OptimiserConfig, done: float) -> float:
    """The learning rate after the fraction `done` of the budget: a linear warm-up, then the fall to zero."""
    warm = min(1.0, max(done / _WARM_UP, 0.01))
    fall = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else (1 - done) ** 0.9
    return config.peak * warm * max(fall, 1e-4)


@dataclass
class ValidationSchedule:
    """When to validate: evenly over the budget, less often where validations would eat too much of the minutes."""

    budget: Budget
    validations: int
    cost_seconds: float = 0.0
    """Of one validation, as measured or estimated."""

    def is_due(self, step: int, last_fraction: float) -> bool:
        """Whether to validate now. last_fraction: of the budget, at the last validation.

        The validation at the end of the training is not among these.
        """
        if self.validations == 0:
            return False
        interval = 1 / self.validations
        minutes = self.budget.config.minutes
        if minutes is not None:
            interval = max(interval, self.cost_seconds / (_VALIDATION_SHARE * minutes * 60))
        done = self.budget.fraction(step)
        return done - last_fraction >= interval - 1e-9 and done <= 1 - interval / 2

    def expect(self, seconds: float) -> None:
        """Plan with validations of this cost; the budget keeps time for the last one at its end."""
        self.cost_seconds = seconds
        self.budget.reserve(_LAST_VALIDATION * seconds)

    def affordable(self, cumulative_seconds: list[float]) -> int:
        """How many of the cases leave most of a budget in minutes to the training; all where it is in epochs."""
        minutes = self.budget.config.minutes
        if minutes is None:
            return len(cumulative_seconds)
        most = _LAST_SHARE * minutes * 60 / _LAST_VALIDATION
        return sum(seconds <= most for seconds in cumulative_seconds)


@dataclass
class SavingSchedule:
    """When to save the state of a training: at an interval, less often where saving takes long."""

    interval_s: float
    now: Clock
    saved: float
    """When it was saved last, or the first step was due, on `now`."""
    cost_s: float = 0.0
    """Of the last saving."""

    def is_due(self) -> bool:
        return self.now() - self.saved >= max(self.interval_s, self.cost_s / _SAVING_SHARE if self.interval_s else 0.0)

    def done(self, since: float) -> None:
        """The state has been saved; that began at `since`."""
        self.saved = self.now()
        self.cost_s = self.saved - since
