"""What the four panels share: their place in the window."""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_PLACED = QEvent.Type(QEvent.registerEventType())


class Panel(QWidget):
    """Lies with our other panels as tabs. One below the other they would be higher than a screen.

    The panel joins them when it is opened. The user may drag it elsewhere, and it stays there.
    """

    def __init__(self) -> None:
        super().__init__()
        # The event arrives after napari has made the dock, and before the window grows for it.
        QCoreApplication.postEvent(self, QEvent(_PLACED))

    def event(self, event: QEvent) -> bool:
        if event.type() == _PLACED:
            dock = self.parent()
            window = dock.parent() if isinstance(dock, QDockWidget) else None
            if isinstance(window, QMainWindow):
                _join_others(window, dock)
        return bool(super().event(event))


def _join_others(window: QMainWindow, dock: QDockWidget) -> None:
    area = window.dockWidgetArea(dock)
    for other in window.findChildren(QDockWidget):
        is_ours = other is not dock and isinstance(other.widget(), Panel)
        if is_ours and not other.isHidden() and not other.isFloating() and window.dockWidgetArea(other) == area:
            window.tabifyDockWidget(other, dock)
            dock.show()  # napari does so later, and raises nothing
            dock.raise_()
            return
