"""Work of the window's own thread, cut into pieces between which the window is drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QTimer


def in_turns(first: Callable[[], object], *rest: Callable[[], object]) -> None:
    """Call the first now, and each of the others as soon as the window has done what was waiting."""
    first()
    if rest:
        QTimer.singleShot(0, partial(in_turns, *rest))
