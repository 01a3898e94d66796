"""Work of the window in pieces, between which the window is drawn."""

from __future__ import annotations

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
