"""The labels that will be trained, and their names, which the user may change."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

_MOST_ROWS = 5
"""Rows that are seen at once; more scroll."""


class LabelNames(QTableWidget):
    """A row for each label: its id and its name. `renamed` carries the id and the new name that the user gave it."""

    renamed = Signal(int, str)

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.setHorizontalHeaderLabels(["Label", "Name"])
        self.setToolTip("The labels to learn. A name that you give here is kept in the labels layer and in the model.")
        self.verticalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.cellChanged.connect(self._on_change)
        self.hide()

    @property
    def names(self) -> dict[int, str]:
        """{id: name} as the table shows them."""
        return {int(self.item(k, 0).text()): self.item(k, 1).text() for k in range(self.rowCount())}

    def show_names(self, names: Mapping[int, str]) -> None:
        """Show these labels; nothing where there is none."""
        if self.names == dict(names):
            return
        self.blockSignals(True)
        self.setRowCount(len(names))
        for k, (label, name) in enumerate(sorted(names.items())):
            number = QTableWidgetItem(str(label))
            number.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.setItem(k, 0, number)
            self.setItem(k, 1, QTableWidgetItem(name))
        self.blockSignals(False)
        height = self.verticalHeader().defaultSectionSize() * min(len(names), _MOST_ROWS)
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + height + 4)
        self.setVisible(bool(names))

    def _on_change(self, row: int, column: int) -> None:
        if column == 1:
            self.renamed.emit(int(self.item(row, 0).text()), self.item(row, 1).text().strip())
