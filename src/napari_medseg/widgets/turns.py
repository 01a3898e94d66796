"""Work of the window's own thread, in pieces between which the window is drawn; and nothing else comes on top of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QObject, QTimer

from napari_medseg.widgets.collector import rest_collector

_NEXT_MS = 10
"""Qt draws 5 ms after it was asked to: sooner, several turns would be drawn at once, in one long piece. And with 0 it
calls the next among the paint events, before the keys and clicks that wait."""


def in_turns(owner: QObject, first: Callable[[], object], *rest: Callable[[], object]) -> None:
    """Call the first now, and each of the others as soon as the window has done what was waiting.

    What is left when the owner is destroyed is never called. Meanwhile the collector of garbage rests.
    """
    rest_collector()
    first()
    if rest:
        next_turn = QTimer(owner)
        next_turn.setSingleShot(True)
        next_turn.timeout.connect(next_turn.deleteLater)
        next_turn.timeout.connect(partial(in_turns, owner, *rest))
        next_turn.start(_NEXT_MS)
