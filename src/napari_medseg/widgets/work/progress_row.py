"""The row under a panel's buttons: what runs, how far it is, how long it takes, and a button that ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QWidget

from napari_medseg.events import Event, Finished, Progress, Started, TrainProgress
from napari_medseg.widgets.work.runner import Failed, Runner


class ProgressRow(QWidget):
    """Shows a runner; its button reads `end_text` (empty: no button), and `ending_text` once it was pressed.

    clock: seconds, from any start.
    """

    def __init__(
        self,
        runner: Runner,
        end_text: str = "Cancel",
        ending_text: str = "Cancelling…",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._end_text, self._ending_text = end_text, ending_text
        self._began = 0.0
        self._first: tuple[float, Progress] | None = None
        self._subject: tuple[object, ...] = ()
        self._has_failed = False
        self._stage = ""
        """What is done before there is a progress to show."""
        self._ticks = QTimer(self)
        self._ticks.setInterval(1000)
        self._ticks.timeout.connect(self._show_stage)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(14)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.end_button = QPushButton(end_text)
        self.end_button.setToolTip("End this run at its next step.")
        self.end_button.clicked.connect(runner.cancel)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 0, 0)
        layout.addWidget(self.end_button, 0, 1)
        layout.addWidget(self.text, 1, 0, 1, 2)
        layout.setColumnStretch(0, 1)
        self._show_running(False)
        runner.busy.connect(self._on_busy)
        runner.cancelling.connect(self._on_cancelling)
        runner.happened.connect(self.show_event)
        if runner.is_busy:  # since before this row was made
            self._on_busy(True)
            self._began = runner.began
        if runner.is_busy and runner.should_stop():
            self._on_cancelling()

    def _show_running(self, running: bool) -> None:
        self.bar.setVisible(running)
        self.end_button.setVisible(running and bool(self._end_text))

    def follow(self, *subject: object) -> None:
        """Say no more of a work that failed once the panel is about others: its layers, its model."""
        if subject == self._subject:
            return
        self._subject = subject
        if self._has_failed:
            self._has_failed = False
            self.text.setText("")

    def _on_busy(self, busy: bool) -> None:
        if busy:
            self._has_failed = False
            self._began, self._first = self._clock(), None
            self.bar.setRange(0, 0)
            self._stage = "Preparing…"
            self._ticks.start()
            self._show_stage()
            self.end_button.setText(self._end_text)
            self.end_button.setEnabled(True)
        else:
            self._ticks.stop()
            if self.text.text() == self._ending_text:  # neither finished nor failed
                self.text.setText(f"Ended early after {self._took()}.")
        self._show_running(busy)

    def _took(self) -> str:
        seconds = self._clock() - self._began
        return duration(seconds) if seconds >= 1 else "less than a second"

    def _show_stage(self) -> None:
        """The stage, and how long all took so far: some take minutes, and show no progress."""
        if self._stage:
            seconds = self._clock() - self._began
            self.text.setText(f"{self._stage} ({duration(seconds)})" if seconds >= 1 else self._stage)

    def _on_cancelling(self) -> None:
        self._stage = ""
        self.end_button.setText(self._ending_text)
        self.end_button.setEnabled(False)
        self.text.setText(self._ending_text)

    def show_event(self, event: Event) -> None:
        """Show how far the work is."""
        if isinstance(event, Finished | Failed | Progress):
            self._stage = ""
        if isinstance(event, Finished):
            self.text.setText(f"Done in {self._took()}.")
        elif isinstance(event, Failed):
            self._has_failed = True
            self.text.setText(str(event.error))
        elif not self.end_button.isEnabled():
            return  # the text says that it is ending
        elif isinstance(event, Started):
            self._stage = event.message
            self._show_stage()
        elif isinstance(event, Progress):
            self.bar.setRange(0, event.total)
            self.bar.setValue(event.done)
            left = self._seconds_left(event)
            time_left = f", {duration(left)} left" if math.isfinite(left) else ""
            self.text.setText(f"{_so_far(event)}{time_left}")

    def _seconds_left(self, event: Progress) -> float:
        """The event's own figure, or else by the pace since the first progress (start-up does not count)."""
        if isinstance(event, TrainProgress):
            return event.seconds_left
        now = self._clock()
        if (
            self._first is None or self._first[1].total != event.total
        ):  # another total is another kind of work, with a pace of its own
            self._first = (now, event)
        began, first = self._first
        done = event.done - first.done
        return (now - began) / done * (event.total - event.done) if done else math.nan


def _so_far(event: Progress) -> str:
    """How much is done, in words: for a training its steps, because a budget in minutes has no steps in total."""
    if isinstance(event, TrainProgress):
        return f"step {event.step}, {event.message}"
    return f"{event.done} of {event.total} {event.message}"


def duration(seconds: float) -> str:
    """ "8 s", "2 min 05 s" or "1 h 03 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
