"""Works of a panel one after the other, in the order in which they were asked for; none is dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_medseg.events import Event, Finished, Work, finishing
from napari_medseg.widgets.work.runner import Failed, Runner


class InOrder(QObject):
    """A queue of works, each in a worker thread; results arrive on the thread of the window.

    `idle` is emitted when the last work has ended. A work that fails ends alone: those that wait go on.
    """

    idle = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.runner = Runner(self)
        self._waiting: deque[tuple[Callable[[], Work[Any]], Callable[[Any], None]]] = deque()
        self._then: Callable[[Any], None] | None = None
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._next)

    @property
    def left(self) -> int:
        """The works that run or wait."""
        return len(self._waiting) + self.runner.is_busy

    def ask(self, compute: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Run `compute()` after what was asked for before, and then `then(result)` on the thread of the window."""
        self._waiting.append((partial(_in_one_step, compute), then))
        self._next(self.runner.is_busy)

    def drop(self) -> None:
        """Forget what waits; what runs ends, and its result is dropped."""
        self._waiting.clear()
        self._then = None

    def _next(self, busy: bool) -> None:
        if busy:
            return
        if not self._waiting:
            self.idle.emit()
            return
        work, self._then = self._waiting.popleft()
        self.runner.start(lambda: finishing(work()), "")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Finished) and self._then is not None:
            self._then(event.result)
        elif isinstance(event, Failed):
            self._then = None


def _in_one_step(compute: Callable[[], Any]) -> Work[Any]:
    yield from ()
    return compute()
