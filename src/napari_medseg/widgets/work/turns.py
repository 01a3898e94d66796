"""Work of the window's own thread, in pieces between which the window is drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QObject, QTimer

_DRAWN_MS = 10
"""Qt draws 5 ms after it was asked to. With a shorter pause it would draw several turns at once, in one long piece."""
_ANSWERED_MS = 1
"""Keys and clicks that waited while the window was drawn come first. With 0 ms the next turn would come before them."""


def in_turns(owner: QObject, first: Callable[[], object], *rest: Callable[[], object]) -> None:
    """Call the first now, and each of the others as soon as the window has done what was waiting.

    Calls that are left when the owner is destroyed are dropped.
    """
    first()
    if rest:
        _after(_DRAWN_MS, owner, partial(_after, _ANSWERED_MS, owner, partial(in_turns, owner, *rest)))


def _after(ms: int, owner: QObject, call: Callable[[], None]) -> None:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(timer.deleteLater)
    timer.timeout.connect(call)
    timer.start(ms)
