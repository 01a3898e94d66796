"""What all panels share: their place in the window, scrolling, keys, and help."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from qtpy.QtCore import QCoreApplication, QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QDockWidget, QLayout, QMainWindow, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_medseg.widgets.fields.forms import row, scrolling
from napari_medseg.widgets.fields.help_button import HelpButton

P = TypeVar("P", bound="Panel")

_PLACED = QEvent.Type(QEvent.registerEventType())
_LEAST_HEIGHT = 20
"""Pixels below the title. Two panels one below the other, below napari's controls of labels and its list of layers,
must not stretch a window of 700 pixels."""
_FOCUS = "*:focus { border: 1px solid #3d8fe0; }"
"""napari's themes hardly show which field has the focus. This blue stands out on the dark and the light one."""


class Panel(QWidget):
    """Lies with our other panels as tabs. One below the other they would be higher than a screen.

    The panel joins them when it is opened. The user may drag it elsewhere, and it stays there. What a subclass lays out
    scrolls, above a line with help.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run_button: QPushButton | None = None
        self._cancel: Callable[[], None] | None = None
        self._content: QWidget | None = None
        # The event arrives after napari has made the dock, and before the window grows for it.
        QCoreApplication.postEvent(self, QEvent(_PLACED))

    def use_keys(self, run: QPushButton, cancel: Callable[[], None]) -> None:
        """Return clicks `run`, and Esc calls `cancel`, wherever the focus is in the panel."""
        self._run_button, self._cancel = run, cancel

    def order_tabs(self) -> None:
        """Let Tab go through the fields as they are laid out; for a panel whose rows have changed."""
        layout = self._content.layout() if self._content is not None else None
        fields = list(_fields(layout)) if layout is not None else []
        for before, after in itertools.pairwise(fields):
            QWidget.setTabOrder(before, after)

    def event(self, event: QEvent) -> bool:
        if event.type() == _PLACED and self._content is None:
            self._frame()
            dock = self.parent()
            window = dock.parent() if isinstance(dock, QDockWidget) else None
            if isinstance(dock, QDockWidget):
                dock.setMinimumHeight(0)  # napari asks for more than two panels below its own docks have
                # Its tab; napari's own title and menu keep the name of the plugin.
                dock.setWindowTitle(dock.windowTitle().removesuffix(" (napari-medseg)"))
            if isinstance(window, QMainWindow):
                _join_others(window, dock)
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  # Qt's name
        """Return and Esc; they arrive here where the field with the focus has no use for them."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._run_button is not None:
            focused = self.focusWidget()
            (focused if isinstance(focused, QPushButton) else self._run_button).click()
        elif event.key() == Qt.Key.Key_Escape and self._cancel is not None:
            self._cancel()
        else:
            super().keyPressEvent(event)

    def _frame(self) -> None:
        """Move what the subclass has laid out into an area that scrolls."""
        layout = self.layout()
        if layout is None:
            return
        self._content = content = QWidget()
        content.setMinimumSize(self.minimumSize())
        content.setLayout(layout)
        content.setStyleSheet(_FOCUS)
        self.setMinimumSize(0, _LEAST_HEIGHT)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scrolling(content), stretch=1)
        foot = row(HelpButton())
        foot.insertStretch(0, 1)
        whole.addLayout(foot)
        self.order_tabs()


def other_panel(panel: Panel, kind: type[P]) -> P | None:
    """The panel of that kind in the same window, brought to the front; None where there is none."""
    dock = panel.parent()
    window = dock.parent() if isinstance(dock, QDockWidget) else None
    if not isinstance(window, QMainWindow):
        return None
    for other in window.findChildren(QDockWidget):
        found = other.widget()
        if isinstance(found, kind):
            other.show()
            other.raise_()
            return found
    return None


def _fields(layout: QLayout) -> Iterator[QWidget]:
    """The widgets that take the focus, from top to bottom."""
    for i in range(layout.count()):
        item = layout.itemAt(i)
        widget, inner = item.widget(), item.layout()
        if widget is not None and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            yield widget
        for page in range(widget.count()) if isinstance(widget, QTabWidget) else ():
            if (in_page := widget.widget(page).layout()) is not None:
                yield from _fields(in_page)
        inner = inner if widget is None else widget.layout()
        if inner is not None:
            yield from _fields(inner)


def _join_others(window: QMainWindow, dock: QDockWidget) -> None:
    area = window.dockWidgetArea(dock)
    for other in window.findChildren(QDockWidget):
        is_ours = other is not dock and isinstance(other.widget(), Panel)
        if is_ours and not other.isHidden() and not other.isFloating() and window.dockWidgetArea(other) == area:
            window.tabifyDockWidget(other, dock)
            dock.show()  # napari does so later, and raises nothing
            dock.raise_()
            return
