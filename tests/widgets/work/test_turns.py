"""Work of the window in pieces, during which the collector of garbage rests."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import pytest
from qtpy.QtCore import QObject, QTimer

from napari_medseg.widgets.work.turns import in_turns


@pytest.fixture
def owner(qtbot: Any) -> QObject:
    return QObject()


def test_what_is_left_ends_with_its_owner(qtbot: Any) -> None:
    order: list[str] = []
    owner = QObject()
    in_turns(owner, partial(order.append, "first"), partial(order.append, "second"))
    owner.deleteLater()
    qtbot.wait(100)
    assert order == ["first"]


def test_the_window_works_between_the_turns(owner: QObject, qtbot: Any) -> None:
    order: list[str] = []
    QTimer.singleShot(0, partial(order.append, "window"))
    in_turns(owner, partial(order.append, "first"), partial(order.append, "second"), partial(order.append, "third"))
    assert order == ["first"]
    qtbot.waitUntil(lambda: order[-1] == "third")
    assert order == ["first", "window", "second", "third"]


def test_the_collector_rests_from_the_first_turn_to_after_the_last(owner: QObject, qtbot: Any) -> None:
    enabled: list[bool] = []
    steps = [lambda: enabled.append(gc.isenabled())] * 3
    in_turns(owner, *steps)
    qtbot.waitUntil(lambda: len(enabled) == 3)
    assert enabled == [False] * 3
    qtbot.waitUntil(gc.isenabled)


def test_the_collector_comes_back_after_a_turn_that_fails(owner: QObject, qtbot: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        in_turns(owner, lambda: 1 // 0)
    qtbot.waitUntil(gc.isenabled)
