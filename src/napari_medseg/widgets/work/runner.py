"""A generator of events in a worker thread: progress and result as Qt signals, cancel at the next step.

torch is first imported by the core inside the worker: on the main thread that import would freeze the window for
seconds, here it holds it for 0.16 s once (loading the shared library keeps the interpreter's lock).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error, show_info
from napari.utils.progress import progress
from qtpy.QtCore import QEvent, QObject, QThreadPool, Signal
from qtpy.QtWidgets import QDockWidget

from napari_medseg.errors import MedsegError
from napari_medseg.events import Event, Finished, Notice, Progress, Started
from napari_medseg.widgets.work.collector import rest_collector

_SHORTEST_INTERVAL_S = 0.05
"""Progress faster than this is not passed on: the window draws it at this pace at most."""

_BEGINNING_MS = 3000
"""In which a work loads what it needs; short works end in it."""


@dataclass(frozen=True)
class Failed(Event):
    """The generator raised; the last event then."""

    error: Exception


class Runner(QObject):
    """Runs one generator of events at a time; all signals arrive on the thread of the window.

    `happened` carries every event (fast progress thinned out), `busy` whether something runs: False comes last. The
    owner keeps it as a child: when it is destroyed, or its panel is closed, the work ends at its next step.
    """

    happened = Signal(object)
    busy = Signal(bool)
    cancelling = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.is_busy = False
        self._cancelled = threading.Event()
        self._panel: QObject | None = None
        # The flag's own method: the runner's cannot run any more when Qt says that it is destroyed.
        self.destroyed.connect(self._cancelled.set)

    def should_stop(self) -> bool:
        """Whether the work was asked to end; for generators that ask, from any thread."""
        return self._cancelled.is_set()

    def start(self, events: Callable[[], Iterator[Event]], title: str, *, ends_itself: bool = False) -> None:
        """Run `events()` in a worker thread. title: what napari's progress bar calls it; none without a title.

        ends_itself: from `Started` on, a cancel does not close the generator: it asks `should_stop` and still finishes.
        """
        assert not self.is_busy, "the owner disables its start button while busy"
        rest_collector(_BEGINNING_MS)
        _make_room()
        self._cancelled.clear()
        worker = create_worker(_relay, events, self._cancelled, ends_itself)
        if title:
            bar = progress(total=0, desc=title)
            worker.yielded.connect(partial(_advance, bar))
            worker.finished.connect(bar.close)
        worker.yielded.connect(self._take)
        worker.finished.connect(self._end)
        self._set_busy(True)
        self._panel = _panel_of(self)
        if self._panel is not None:
            self._panel.installEventFilter(self)
        worker.start()

    def cancel(self) -> None:
        """End the work before its next step; `busy` tells when it has ended."""
        if self.is_busy and not self._cancelled.is_set():
            self._cancelled.set()
            self.cancelling.emit()

    def _take(self, event: Event) -> None:
        if isinstance(event, Finished):
            rest_collector()
        if isinstance(event, Notice):
            show_info(event.message)
        elif isinstance(event, Failed):
            _notify(event.error)
        self.happened.emit(event)

    def eventFilter(self, panel: QObject, event: QEvent) -> bool:  # noqa: N802  # Qt's name
        """napari takes a panel whose ✕ was clicked out of its window, and keeps it."""
        if event.type() == QEvent.Type.ParentChange and panel.parent() is None:
            self.cancel()
        return False

    def _end(self) -> None:
        if self._panel is not None:
            self._panel.removeEventFilter(self)
        self._set_busy(False)

    def _set_busy(self, is_busy: bool) -> None:
        self.is_busy = is_busy
        self.busy.emit(is_busy)


def _make_room() -> None:
    """Qt's threads are as few as the processors; while they all train or segment, another work would wait unseen."""
    pool = QThreadPool.globalInstance()
    pool.setMaxThreadCount(max(pool.maxThreadCount(), pool.activeThreadCount() + 1))


def _panel_of(child: QObject) -> QObject | None:
    """What lies in a dock, of all that the child is a part of."""
    inner, outer = None, child.parent()
    while outer is not None and not isinstance(outer, QDockWidget):
        inner, outer = outer, outer.parent()
    return inner


def _advance(bar: progress, event: Event) -> None:
    if isinstance(event, Progress):
        if bar.total != event.total:
            bar.total = event.total
        bar.update(event.done - bar.n)


def _relay(events: Callable[[], Iterator[Event]], cancelled: threading.Event, ends_itself: bool) -> Iterator[Event]:
    """In the worker: the events, without progress too fast to be seen, until the end or a cancel.

    What a user can cause, and RuntimeError (which Qt workers drop; torch raises it), end in `Failed`.
    """
    last, in_charge = 0.0, False
    try:
        with closing(_closable(events())) as running:
            for event in running:
                in_charge = in_charge or (ends_itself and isinstance(event, Started))
                if cancelled.is_set() and not in_charge and not isinstance(event, Finished):
                    return
                now = time.monotonic()
                if isinstance(event, Progress) and event.done < event.total and now - last < _SHORTEST_INTERVAL_S:
                    continue
                last = now
                yield event
    except (MedsegError, RuntimeError) as error:
        yield Failed(error)


def sparing_a_core(events: Iterator[Event]) -> Iterator[Event]:
    """In the worker: the events of work that takes all cores but one, so that the window is drawn meanwhile."""
    from napari_medseg.inference import spare_one_core

    spare_one_core()
    yield from events


def _closable(events: Iterator[Event]) -> Generator[Event, None, None]:
    yield from events


def _notify(error: Exception) -> None:
    """Ours as one line; anything else as napari shows a defect, with its traceback."""
    if isinstance(error, MedsegError):
        show_error(str(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)
