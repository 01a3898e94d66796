"""The log of a training, collected from its events: a row for each step and each validation."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from napari_medseg.events import Event, MadeUp, Notice, Pictured, Started, TrainProgress, Validated
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
        self.made_up: tuple[MadeUp, ...] = ()
        """What the training learned from beside the cases."""

    @property
    def seconds(self) -> float:
        """Since the log began."""
        return self._now() - self._began

    def resume(self, rows: Sequence[Row]) -> None:
        """Go on from the rows of the run that this one resumes, in its stage; the seconds go on too."""
        self.rows = list(rows)
        self._stage = max(0, rows[-1].stage - 1)
        self._began -= rows[-1].seconds

    def add(self, event: Event) -> Row | None:
        """Take an event; the row that it became, if it became one. Rows of steps that are done again fall away."""
        row = None
        match event:
            case Started():
                self._stage += 1
                self.plans.append(event.message)
            case Notice():
                self.notices.append(event.message)
            case Pictured():
                self.made_up = event.pictures
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
            while self.rows and _repeats(row, self.rows[-1]):
                self.rows.pop()
            self.rows.append(row)
        return row

    def csv(self, labels: Mapping[int, str]) -> bytes:
        """The rows as a CSV file, with a column of the Dice of each label. Values that a row lacks are empty."""
        ids = sorted({label for row in self.rows for label in row.dice})
        names = {label: f"dice_{labels.get(label, label)}" for label in ids}
        if len(set(names.values())) < len(names):
            names = {label: f"dice_{label}" for label in ids}
        return csv_bytes([*_COLUMNS, *names.values()], [_plain(row, names) for row in self.rows])


def rows_of(text: str, labels: Mapping[int, str]) -> list[Row]:
    """The rows in the text of a log. labels: those of its training. Raises ValueError or KeyError for other text."""
    ids = {f"dice_{label}": label for label in labels} | {f"dice_{name}": label for label, name in labels.items()}
    return [
        Row(
            int(row["stage"]),
            int(row["step"]),
            int(row["epoch"]),
            float(row["seconds"]),
            float(row["loss"] or math.nan),
            float(row["learning_rate"] or math.nan),
            {label: float(row[name]) for name, label in ids.items() if row.get(name)},
            float(row["dice_mean"] or math.nan),
            row["is_best"] == "1",
        )
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def _repeats(row: Row, earlier: Row) -> bool:
    """Whether an earlier row is of a step, or of a validation, that is done again: its run got further than its state.

    A validation comes after the step of its number.
    """
    places = [(each.stage, each.step, bool(each.dice)) for each in (row, earlier)]
    return places[1] >= places[0] and places[0] != places[1]


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
