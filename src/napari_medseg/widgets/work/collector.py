"""Python's search for cyclic garbage, put off while the user waits for something else."""

from __future__ import annotations

import gc
import time

from qtpy.QtCore import QCoreApplication, QObject, QTimer

_REST_MS = 300
_LONGEST_MS = 3000
"""A rest ends then, and another one begins: what draws meanwhile (matplotlib) makes much garbage."""
_YOUNG, _ALL = 1, 2
"""Generations: what was made in a rest is collected after it, in some milliseconds."""
_RESTS = 100
"""In a row, after which all is searched."""


def rest_collector(ms: int = _REST_MS) -> None:
    """For so long, Python does not search for cyclic garbage; call it before work that the user waits for.

    The search looks at every object of the program at once, which takes 0.1 to 0.2 s in napari, and holds up the window
    in whichever thread it happens. It comes afterwards, when nothing else does. ms: 3000 at most.
    """
    application = QCoreApplication.instance()
    rest = application.findChild(_Rest) or _Rest(application)
    rest.begin(ms)


class _Rest(QTimer):
    """Of the whole program, so that overlapping calls make one rest, to the end of the last."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._ends_at = 0.0
        self.setSingleShot(True)
        self.timeout.connect(self._end)

    def begin(self, ms: int) -> None:
        """Or go on, where it has begun and is not too long then."""
        if self.isActive() and self._ends_at < time.monotonic() + ms / 1000:
            self._end()
        if self.isActive():
            self.start(max(ms, self.remainingTime()))
        elif gc.isenabled():  # else somebody else turned it off, and turns it on again
            self._ends_at = time.monotonic() + _LONGEST_MS / 1000
            gc.disable()
            self.start(ms)

    def _end(self) -> None:
        self.stop()
        gc.enable()
        gc.collect(_YOUNG if gc.get_count()[_ALL] < _RESTS else _ALL)
