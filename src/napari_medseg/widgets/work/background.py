"""One work at a time. A request that comes while a work runs waits, and replaces the request that waited before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_medseg.events import Event, Finished, Work, finishing
from napari_medseg.widgets.work.runner import Runner

SETTLED_MS = 1000
"""A work that loads torch begins when its panel has stood for this time.

Two threads that compute share Python's lock: a panel that is built while torch is imported takes four times as long.
"""


@dataclass(frozen=True)
class _Request:
    work: Callable[[], Work[Any]]
    then: Callable[[Any], None]


class Background(QObject):
    """Computes in a worker thread and hands the result to the window."""

    def __init__(self, parent: QObject, title: str = "") -> None:
        super().__init__(parent)
        self.runner = Runner(self)
        self._title = title
        self._running: _Request | None = None
        self._waiting: _Request | None = None
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._start_waiting)
        # A method, which Qt holds weakly: a function that held this object would let it go while Qt deletes it.
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.timeout.connect(self._settle)

    def ask(self, compute: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Run `compute()` in the worker as soon as it is free, and `then(result)` on the thread of the window."""
        self.ask_in_steps(partial(_in_one_step, compute), then)

    def ask_when_settled(self, compute: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """The same, once the panel has stood for a moment."""
        self._waiting = _Request(partial(_in_one_step, compute), then)
        self._settling.start(SETTLED_MS)

    def ask_in_steps(self, work: Callable[[], Work[Any]], then: Callable[[Any], None]) -> None:
        """The same for work in steps, which shows its progress and can be cancelled."""
        self._waiting = _Request(work, then)
        self._start_waiting(self.runner.is_busy)

    def _settle(self) -> None:
        self._start_waiting(self.runner.is_busy)

    def _start_waiting(self, busy: bool) -> None:
        if busy or self._waiting is None:
            return
        self._running, self._waiting = self._waiting, None
        work = self._running.work
        self.runner.start(lambda: finishing(work()), self._title)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Finished) and self._running is not None:
            self._running.then(event.result)


def _in_one_step(compute: Callable[[], Any]) -> Work[Any]:
    yield from ()
    return compute()
