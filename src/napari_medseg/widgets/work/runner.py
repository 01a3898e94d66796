"""A generator of events in a thread of its own: progress and result as Qt signals, cancel at the next step.

napari's thread pool has as many threads as the machine has processors, and other plugins share it. A work of ours takes
hours, so it runs in a thread of its own and takes none of them.

torch is first imported by the core inside the worker: on the main thread that import would freeze the window for
seconds. `inference.torch_library` keeps it from holding the window up in the worker too.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error, show_info
from napari.utils.progress import progress
from qtpy.QtCore import QCoreApplication, QEvent, QObject, Signal
from qtpy.QtWidgets import QDockWidget

from napari_medseg.errors import MedsegError
from napari_medseg.events import Event, Finished, Notice, Progress, Started

_SHORTEST_INTERVAL_S = 0.05
"""The window shows progress at this interval at most; what comes faster is dropped."""


@dataclass(frozen=True)
class Failed(Event):
    """The generator raised; this is then the last event."""

    error: Exception


@dataclass(frozen=True)
class _Stop:
    """How a work is asked to end."""

    asked: threading.Event = field(default_factory=threading.Event)
    """By the user (Cancel, or the panel was closed): a work that ends itself still finishes."""
    at_once: threading.Event = field(default_factory=threading.Event)
    """By the application or the interpreter that quits: every work is closed at its next step."""


class Runner(QObject):
    """Runs one generator of events at a time; all signals arrive on the thread of the window.

    `happened` carries every event (fast progress thinned out). `busy` carries whether something runs, and False comes
    last. The owner keeps the runner as a child: when it is destroyed, when its panel is closed and when the application
    quits, the work ends at its next step.
    """

    happened = Signal(object)
    busy = Signal(bool)
    cancelling = Signal()

    def __init__(self, parent: QObject | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, from any start."""
        super().__init__(parent)
        self.is_busy = False
        self.began = 0.0
        """When the work that runs began, on the clock."""
        self._clock = clock
        self._stop = _Stop()
        self._panel: QObject | None = None
        # The flag's own method: the runner's cannot run any more when Qt says that it is destroyed.
        self.destroyed.connect(self._stop.asked.set)

    def should_stop(self) -> bool:
        """Whether the work was asked to end; for generators that ask, from any thread."""
        return self._stop.asked.is_set()

    def start(self, events: Callable[[], Iterator[Event]], title: str, *, ends_itself: bool = False) -> None:
        """Run `events()` in a worker thread. title: what napari's progress bar calls it; "" shows no bar.

        ends_itself: from `Started` on, a cancel does not close the generator: it asks `should_stop` and still finishes.
        """
        assert not self.is_busy, "the owner disables its start button while busy"
        self._stop.asked.clear()
        self.began = self._clock()
        steps = _relay(events, self._stop, ends_itself, self._clock)
        worker = create_worker(_passing_on, steps)
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
        _WorkThread(worker, steps, self._stop).start()

    def cancel(self) -> None:
        """End the work before its next step; `busy` tells when it has ended."""
        if self.is_busy and not self._stop.asked.is_set():
            self._stop.asked.set()
            self.cancelling.emit()

    def _take(self, event: Event) -> None:
        if isinstance(event, Notice):
            show_info(event.message)
        elif isinstance(event, Failed):
            _notify(event.error)
        self.happened.emit(event)

    def eventFilter(self, panel: QObject, event: QEvent) -> bool:  # noqa: N802  # Qt's name
        """Cancel where the user closed the panel: napari takes it out of its window, and keeps it."""
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


class _WorkThread(threading.Thread):
    """Runs a napari worker, holds it until the window has taken its last signal, and is waited for by who quits."""

    def __init__(self, worker: Any, steps: Generator[Event, None, None], stop: _Stop) -> None:
        super().__init__(name="napari-medseg", daemon=True)
        self._worker, self._steps, self._stop_flags = worker, steps, stop
        self._quitting = QCoreApplication.instance().aboutToQuit
        self._on_quit = partial(_WorkThread.end_at_once, self)  # Qt holds a partial, and no method
        self._quitting.connect(self._on_quit)
        # Without an event loop (a script, a notebook) nothing quits. A thread that outlived Python would crash it.
        atexit.register(self._on_quit)
        worker.finished.connect(partial(_WorkThread.release, self))

    def run(self) -> None:
        """The work; and its end where napari ended the worker between two steps.

        As the worker's own `run`, which would replace the filters and the hook of all warnings of the process.
        """
        worker = self._worker
        worker.started.emit()
        worker._running = True
        try:
            result = worker.work()
            if isinstance(result, RuntimeError):  # Qt's, about a worker that is deleted: nobody waits for signals
                return
            if not worker.abort_requested:
                worker.returned.emit(result)
        except Exception as error:  # noqa: BLE001  # the window raises it
            worker.errored.emit(error)
        finally:
            self._steps.close()
        worker._running = False
        worker.finished.emit()
        worker._finished.emit(worker)

    def end_at_once(self) -> None:
        """Close the work at its next step, and wait for that."""
        self._stop_flags.at_once.set()
        self._stop_flags.asked.set()
        self.join()

    def release(self) -> None:
        """Nothing is left to do when the application quits."""
        self._quitting.disconnect(self._on_quit)
        atexit.unregister(self._on_quit)
        self._worker = None


def _panel_of(child: QObject) -> QObject | None:
    """The widget in a dock that the child is a part of."""
    inner, outer = None, child.parent()
    while outer is not None and not isinstance(outer, QDockWidget):
        inner, outer = outer, outer.parent()
    return inner


def _advance(bar: progress, event: Event) -> None:
    if isinstance(event, Progress):
        if bar.total != event.total:
            bar.total = event.total
        bar.update(event.done - bar.n)


def _relay(
    events: Callable[[], Iterator[Event]], stop: _Stop, ends_itself: bool, clock: Callable[[], float]
) -> Generator[Event, None, None]:
    """In the worker: the events, without progress too fast to be seen, until the end or a cancel.

    What a user can cause, and RuntimeError (which Qt workers drop; torch raises it), end in `Failed`.
    """
    last, in_charge = -math.inf, False
    try:
        with closing(_closable(events())) as running:
            for event in running:
                in_charge = in_charge or (ends_itself and isinstance(event, Started))
                ends = stop.at_once if in_charge else stop.asked
                if ends.is_set() and not isinstance(event, Finished | Failed):
                    return
                now = clock()
                if isinstance(event, Progress) and event.done < event.total and now - last < _SHORTEST_INTERVAL_S:
                    continue
                last = now
                yield event
    except (MedsegError, RuntimeError) as error:
        yield Failed(error)


def _passing_on(steps: Generator[Event, None, None]) -> Iterator[Event]:
    """A function that makes a generator, which is what napari takes."""
    yield from steps


def _closable(events: Iterator[Event]) -> Generator[Event, None, None]:
    yield from events


def _notify(error: Exception) -> None:
    """Ours as one line; anything else as napari shows a defect, with its traceback."""
    if isinstance(error, MedsegError):
        show_error(str(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def lasting_runner(window: QObject, name: str) -> Runner:
    """The runner of that name which belongs to the window: its work goes on when the panel that began it is closed.

    It is made once; a panel that is opened later finds it, with `is_busy`, and connects to its signals.
    """
    found: Runner | None = window.findChild(Runner, name)
    if found is None:
        found = Runner(window)
        found.setObjectName(name)
    return found
