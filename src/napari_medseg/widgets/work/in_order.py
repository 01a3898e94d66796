"""Works of a panel one after the other, in the order in which they were asked for; none is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_medseg.events import Event, Finished
from napari_medseg.widgets.work.runner import Failed, Runner


@dataclass(eq=False)
class _Work:
    compute: Callable[[], Any]
    then: Callable[[Any], None]
    lasts: bool
    is_wanted: bool = True


class InOrder(QObject):
    """A queue of works in a worker thread; results arrive on the thread of the window.

    `idle` is emitted when the last work has ended. A work that fails ends alone: those that wait go on. The worker does
    all that was asked for, also after the queue is destroyed; who quits the application waits for it.
    """

    idle = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.runner = Runner(self)
        self._asked: deque[_Work] = deque()
        """Those whose results have not arrived."""
        self._waiting: deque[_Work] = deque()
        """Those that the worker has not begun: only it takes from them."""
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._start)

    @property
    def left(self) -> int:
        """The works that run or wait."""
        return len(self._asked)

    def ask(self, compute: Callable[[], Any], then: Callable[[Any], None], *, lasts: bool = False) -> None:
        """Run `compute()` after what was asked for before, and then `then(result)` on the thread of the window.

        lasts: `drop` leaves it.
        """
        work = _Work(compute, then, lasts)
        self._asked.append(work)
        self._waiting.append(work)
        self._start(self.runner.is_busy)

    def drop(self) -> None:
        """Forget what waits, but for what lasts; what runs ends, and its result is dropped."""
        for work in self._asked:
            work.is_wanted = work.lasts

    def _start(self, busy: bool) -> None:
        if self._waiting and not busy:
            waiting = self._waiting
            self.runner.start(lambda: _done(waiting), "")

    def _on_event(self, event: Event) -> None:
        work = self._asked.popleft()  # first: `then` may let Qt deliver the next result
        try:
            if isinstance(event, Finished) and work.is_wanted:
                work.then(event.result)
        finally:
            if not self._asked:
                self.idle.emit()


def _done(waiting: deque[_Work]) -> Iterator[Event]:
    """In the worker: how each work ended. There is no step between two of them at which a cancel could end them."""
    while waiting:
        work = waiting.popleft()
        event: Event
        try:
            event = Finished(work.compute() if work.is_wanted else None)
        except Exception as error:  # noqa: BLE001  # the window tells it
            event = Failed(error)
        yield event
