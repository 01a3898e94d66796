"""The objects of a session: colour, name, volume, lock and eye; a double click looks at one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

_NAME, _ML, _LOCK = 0, 1, 2
_COLUMNS = ("object", "ml", "lock")


@dataclass(frozen=True)
class ObjectRow:
    """What the list says of an object. colour: RGBA from 0 to 1."""

    label: int
    name: str
    millilitres: float
    locked: bool
    colour: tuple[float, float, float, float]


class ObjectList(QTableWidget):
    """`chosen` carries a label, `locked` (label, whether), `renamed` (label, name), `wanted` a label to look at."""

    chosen = Signal(int)
    locked = Signal(int, bool)
    renamed = Signal(int, str)
    wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.setHorizontalHeaderLabels(_COLUMNS)
        self.verticalHeader().hide()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setToolTip("Click: draw for this object. Double click: look at it. F2: rename it.")
        header = self.horizontalHeader()
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_ML, _LOCK):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.setMinimumHeight(110)
        self.labels: list[int] = []
        self.itemSelectionChanged.connect(self._on_selection)
        self.itemChanged.connect(self._on_change)
        self.cellDoubleClicked.connect(lambda row, _column: self.wanted.emit(self.labels[row]))

    def show_rows(self, rows: Iterable[ObjectRow], chosen: int) -> None:
        """Show these objects; `chosen` is the one that is drawn."""
        rows = list(rows)
        self.blockSignals(True)
        self.labels = [row.label for row in rows]
        self.setRowCount(len(rows))
        for n, row in enumerate(rows):
            name = QTableWidgetItem(row.name)
            name.setData(Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*row.colour))
            volume = QTableWidgetItem(f"{row.millilitres:.1f}" if row.millilitres else "")
            volume.setFlags(volume.flags() & ~Qt.ItemFlag.ItemIsEditable)
            lock = QTableWidgetItem()
            lock.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsUserCheckable)
            lock.setCheckState(Qt.CheckState.Checked if row.locked else Qt.CheckState.Unchecked)
            for column, item in enumerate((name, volume, lock)):
                self.setItem(n, column, item)
        if chosen in self.labels:
            self.selectRow(self.labels.index(chosen))
        self.blockSignals(False)

    def _on_selection(self) -> None:
        row = self.currentRow()
        if 0 <= row < len(self.labels):
            self.chosen.emit(self.labels[row])

    def _on_change(self, item: QTableWidgetItem) -> None:
        label = self.labels[item.row()]
        if item.column() == _LOCK:
            self.locked.emit(label, item.checkState() == Qt.CheckState.Checked)
        elif item.column() == _NAME:
            self.renamed.emit(label, item.text())
