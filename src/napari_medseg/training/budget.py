"""How much of a training is done, in epochs or in wall time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from napari_medseg.config import BudgetConfig

DEFAULT_EPOCHS = 100
"""Length of a training whose budget is empty."""
_WRITING_SECONDS, _WRITING_SHARE = 5.0, 0.01
"""Time kept for writing the model and ending the process: seconds, but at most this share of the wall time."""

Clock = Callable[[], float]
"""Seconds since any fixed moment."""


@dataclass
class Budget:
    """The budget of one network's training and the clock that measures it."""

    config: BudgetConfig
    steps_per_epoch: int
    now: Clock
    began: float
    """When its first step was due, on `now`: reading and preparing the cases do not count."""
    spent: float = 0.0
    """Seconds used before then: by the training that this one resumes."""
    reserved: float = 0.0
    """Seconds at the end kept for the last validation, see `reserve`."""
    reserved_at: tuple[float, float] = (0.0, 0.0)
    """(seconds used, fraction) when they were reserved."""

    def begin(self, spent: float = 0.0, done: float | None = None, reserved: float = 0.0) -> None:
        """The first step is due now.

        spent: seconds that an earlier run of the same training used. done, reserved: the fraction that it had reached,
        and the seconds that it kept at the end; None where the budget is another one, or where that is not known.
        """
        self.began, self.spent = self.now(), spent
        if done is not None:
            self.reserved, self.reserved_at = reserved, (spent, done)

    def reserve(self, seconds: float) -> None:
        """Keep other seconds at the end from now on: the fraction goes on from where it is, faster or slower."""
        if self.config.minutes is not None:
            self.reserved_at = self.elapsed(), self.fraction(0)
        self.reserved = seconds

    @property
    def total_steps(self) -> int | None:
        """Steps in all; None where the budget is in minutes."""
        if self.config.minutes is not None:
            return None
        return (self.config.epochs or DEFAULT_EPOCHS) * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch, counted from 0, to which the step of that number (from 1) belongs."""
        return max(0, step - 1) // self.steps_per_epoch

    def elapsed(self) -> float:
        """Seconds used so far."""
        return self.spent + self.now() - self.began

    def fraction(self, step: int) -> float:
        """How much of the budget is used after `step` steps, 0 to 1."""
        if self.config.minutes is None:
            assert self.total_steps is not None
            return min(1.0, step / self.total_steps)
        seconds, (used, done) = self.config.minutes * 60, self.reserved_at
        left = seconds - self.reserved - min(_WRITING_SECONDS, _WRITING_SHARE * seconds) - used
        return min(1.0, done + (1 - done) * (self.elapsed() - used) / left) if left > 0 else 1.0

    def seconds_left(self, step: int) -> float:
        """Until the end of the budget; estimated from the pace where the budget is in epochs."""
        if self.config.minutes is not None:
            return max(0.0, self.config.minutes * 60 - self.elapsed())
        done = self.fraction(step)
        return self.elapsed() * (1 - done) / done if done > 0 else math.nan
