"""A folder to type, or to choose in a dialog."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget


class FolderField(QWidget):
    """A line for a path, and a button that asks for one; `changed` is emitted when the path changes."""

    changed = Signal()

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        self.line = QLineEdit()
        self.browse_button = QToolButton()
        self.browse_button.setText("…")
        self.browse_button.setToolTip("Choose a folder.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        layout.addWidget(self.browse_button)
        self.line.textChanged.connect(lambda _: self.changed.emit())
        self.browse_button.clicked.connect(lambda _=False: self._browse())

    @property
    def path(self) -> Path | None:
        """The folder; None where the line is empty."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self.toolTip(), self.line.text())
        if chosen:
            self.line.setText(chosen)
