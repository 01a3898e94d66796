"""The log of a training, collected from its events: a row for each step and each validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from napari_medseg.events import Event, Notice, Started, TrainProgress, Validated
from napari_medseg.metrics.csv_file import csv_bytes

_COLUMNS = ("stage", "step", "epoch", "seconds", "loss", "learning_rate", "dice_mean", "is_best")


@dataclass(frozen=True)
class Row:
    """A step, or a validation where `dice` is not empty."""

    stage: int
    """1, or 2 for the second network of a cascade."""
    step: int
    epoch: int
    seconds: float
    """Since the log began."""
    loss: float = math.nan
    learning_rate: float = math.nan
    dice: Mapping[int, float] = field(default_factory=dict)
    """{label id: mean Dice}."""
    dice_mean: float = math.nan
    is_best: bool = False


class RunLog:
    """The rows of a training so far."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._stage = 0
        self.rows: list[Row] = []
        self.plans: list[str] = []
        """The line of each stage's plan."""
        self.notices: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the log began."""
        return self._now() - self._began

    def add(self, event: Event) -> Row | None:
        """Take an event; the row that it became, if it became one."""
        row = None
        match event:
            case Started():
                self._stage += 1
                self.plans.append(event.message)
            case Notice():
                self.notices.append(event.message)
            case TrainProgress():
                row = Row(self._stage, event.step, event.epoch, self.seconds, event.loss, event.learning_rate)
            case Validated():
                row = Row(
                    self._stage,
                    event.step,
                    event.epoch,
                    self.seconds,
                    dice=dict(event.dice),
                    dice_mean=event.mean_dice,
                    is_best=event.is_best,
                )
        if row is not None:
            self.rows.append(row)
        return row

    def csv(self, labels: Mapping[int, str]) -> bytes:
        """The rows as a CSV file, with a column of the Dice of each label. Values that a row lacks are empty."""
        ids = sorted({label for row in self.rows for label in row.dice})
        names = {label: f"dice_{labels.get(label, label)}" for label in ids}
        if len(set(names.values())) < len(names):
            names = {label: f"dice_{label}" for label in ids}
        return csv_bytes([*_COLUMNS, *names.values()], [_plain(row, names) for row in self.rows])


def _plain(row: Row, names: Mapping[int, str]) -> dict[str, str | int | float]:
    numbers = {"loss": row.loss, "learning_rate": row.learning_rate, "dice_mean": row.dice_mean}
    return {
        "stage": row.stage,
        "step": row.step,
        "epoch": row.epoch,
        "seconds": round(row.seconds, 3),
        **{name: "" if math.isnan(value) and row.dice else value for name, value in numbers.items()},
        "dice_mean": row.dice_mean if row.dice else "",
        "is_best": int(row.is_best) if row.dice else "",
        **{name: row.dice.get(label, "") for label, name in names.items()},
    }
