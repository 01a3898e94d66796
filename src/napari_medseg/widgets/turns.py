"""Work of the window's own thread, in pieces between which the window is drawn; and nothing else comes on top of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QCoreApplication, QObject, QTimer

_NEXT_MS = 10
"""Qt draws 5 ms after it was asked to: sooner, several turns would be drawn at once, in one long piece. And with 0 it
calls the next among the paint events, before the keys and clicks that wait."""
_REST_MS = 300


def in_turns(owner: QObject, first: Callable[[], object], *rest: Callable[[], object]) -> None:
    """Call the first now, and each of the others as soon as the window has done what was waiting.

    What is left when the owner is destroyed is never called.
    """
    rest_collector()
    first()
    if rest:
        next_turn = QTimer(owner)
        next_turn.setSingleShot(True)
        next_turn.timeout.connect(next_turn.deleteLater)
        next_turn.timeout.connect(partial(in_turns, owner, *rest))
        next_turn.start(_NEXT_MS)


def rest_collector(ms: int = _REST_MS) -> None:
    """For so long, Python does not search for cyclic garbage; call it before work that the user waits for.

    The search looks at every object of the program at once, which takes 0.1 to 0.2 s in napari, and holds up the window
    in whichever thread it happens. It comes afterwards, when nothing else does.
    """
    application = QCoreApplication.instance()
    rest = application.findChild(_Rest) or _Rest(application)
    rest.begin(ms)


class _Rest(QTimer):
    """Of the whole program, so that overlapping calls make one rest, to the end of the last."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.setSingleShot(True)
        self.timeout.connect(gc.enable)

    def begin(self, ms: int) -> None:
        if gc.isenabled() or self.isActive():  # else somebody else turned it off, and turns it on again
            gc.disable()
            self.start(max(ms, self.remainingTime()))
