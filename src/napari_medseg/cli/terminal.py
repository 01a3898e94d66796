"""What the user sees: results on stdout; warnings, notes and the progress line on stderr."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from napari_medseg.arrays.boxes import holds_any
from napari_medseg.errors import MedsegWarning, warn
from napari_medseg.events import Event, Finished, Notice, Progress, Started, TrainProgress, Validated

if TYPE_CHECKING:
    from pathlib import Path

    from tqdm import tqdm

    from napari_medseg.metrics import Scores
    from napari_medseg.metrics.study.tables import Table
    from napari_medseg.volume import Segmentation


def print_result(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(f"{text}\n")


def print_labels(path: Path, labels: Segmentation) -> None:
    """Where labels were written; a warning where none is in them."""
    print_result(f"wrote {path}")
    if not holds_any(labels.data):
        warn(f"{path}: no voxel in it has a label")


def print_scores(scores: Scores) -> None:
    """The table, then the means: over the cases for each label where there are several cases, and over all rows.

    The columns after `nsd` would not fit on a terminal: they are in the means and in every file of scores.
    """
    if scores.rows:
        _print_rows(scores)
    else:
        print_result("neither prediction nor reference has a label above 0: there is nothing to measure")
    print_result(f"PA: {scores.pa:.4f}")


def _print_rows(scores: Scores) -> None:
    frame = scores.to_frame().loc[:, :"nsd"].rename(columns=_in_percent(scores))
    print_result(frame.to_string(index=False, float_format="{:.4f}".format))
    if "case" in scores.columns:
        names = {row.label: row.name for row in scores.rows}
        for label, name in sorted(names.items()):
            print_result(f"mean of {name}: {_means(scores.of_label(label))}")
    print_result(f"mean: {_means(scores)}")


def print_table(table: Table) -> None:
    """A table under its title, which says how its numbers were made."""
    print_result(f"{table.caption}:")
    print_result(table.to_frame().to_string(index=False, float_format="{:.4f}".format))


def _means(scores: Scores) -> str:
    """The means; where rows have no finite value of a metric, such as the distance of a missed label, how many have."""
    headings, rows = _in_percent(scores), scores.rows
    parts = []
    for name, value in scores.mean.items():
        count = sum(math.isfinite(getattr(row, name)) for row in rows)
        of_all = "" if count == len(rows) else f" ({count} of {len(rows)})"
        parts.append(f"{headings.get(name, name)} {value:.4f}{of_all}")
    return ", ".join(parts)


def _in_percent(scores: Scores) -> dict[str, str]:
    """{column: its heading} of those that a preset gives in percent; all others' names say their unit."""
    return {name: f"{name} (%)" for name, column in scores.definitions.items() if column.unit == "%"}


def print_note(text: str) -> None:
    """A line beside the result, above the progress line where there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Inside, each warning of ours is one line on stderr, once; other libraries' only with python -W."""
    told: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            print_note(f"warning: {text}")

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", MedsegWarning)
        warnings.showwarning = show
        yield


def follow(events: Iterator[Event], name: str) -> Any:
    """Run a generator of ours to its end with a progress line, and return its result; an interruption closes it."""
    assert isinstance(events, Generator), "our verbs are generators"
    with closing(events), closing(ProgressLine(name)) as line:
        for event in events:
            line.show(event)
            if isinstance(event, Finished):
                return event.result
    raise AssertionError("our generators end with Finished")


class ProgressLine:
    """The progress of one generator, drawn by tqdm from its events: a bar for each phase, named by the event."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bars: dict[str, tqdm[Any]] = {}
        self._val_dice = ""

    def show(self, event: Event) -> None:
        match event:
            case Started() | Notice():
                print_note(f"{self._name}: {event.message}")
            case Validated():
                self._val_dice = f", val Dice {event.mean_dice:.3f}"
            case Progress():
                self._advance(event)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()

    def _advance(self, event: Progress) -> None:
        phase = "training" if isinstance(event, TrainProgress) else event.message
        if phase not in self._bars:
            # A phase inside another one, such as a validation, leaves no line behind.
            self._bars[phase] = _new_bar(f"{self._name}: {phase}", event, leave=not self._bars)
        bar = self._bars[phase]
        if isinstance(event, TrainProgress):
            left = bar.format_interval(max(0.0, event.seconds_left))
            text = f"step {event.step}, loss {event.loss:.3f}{self._val_dice}, {left} left"
            bar.set_postfix_str(text, refresh=False)
        bar.total = event.total
        bar.update(event.done - bar.n)
        if event.done >= event.total:
            self._bars.pop(phase).close()


def _new_bar(name: str, first: Progress, *, leave: bool) -> tqdm[Any]:
    from tqdm import tqdm

    # tqdm guesses the time left from the steps done; a training knows it from its budget, which may be in minutes: then
    # what it counts are parts of it, not steps.
    in_training = isinstance(first, TrainProgress)
    text = "[{elapsed}{postfix}]" if in_training else "{n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
    return tqdm(
        desc=name,
        total=first.total,
        file=sys.stderr,
        bar_format="{l_bar}{bar}| " + text,
        mininterval=_interval_s(),
        leave=leave,
    )


def _interval_s() -> float:
    """Seconds between two drawings: a terminal shows each, a log file keeps them all."""
    return 0.1 if sys.stderr.isatty() else 10.0
