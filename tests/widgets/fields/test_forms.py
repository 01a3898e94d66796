"""Small pieces that the panels share."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QSpinBox, QVBoxLayout, QWidget

from napari_medseg.widgets.fields.forms import scrolling


def turn_wheel(widget: QWidget) -> None:
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(widget.mapToGlobal(middle.toPoint())),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


class Clicked(QSpinBox):  # type: ignore[misc]  # Qt comes untyped
    """A spin box that has the focus, which no window gets without a window manager."""

    def hasFocus(self) -> bool:  # noqa: N802  # Qt's name
        return True


@pytest.mark.parametrize(("kind", "value"), [(QSpinBox, 5), (Clicked, 4)])
def test_the_wheel_changes_a_field_only_after_a_click(kind: type[QSpinBox], value: int, qtbot: Any) -> None:
    content, number = QWidget(), kind()
    number.setValue(5)
    layout = QVBoxLayout(content)
    layout.addWidget(number)
    area = scrolling(content)
    qtbot.addWidget(area)
    area.show()
    qtbot.waitExposed(area)
    turn_wheel(number)
    assert number.value() == value
