"""The objects of a session: whether each is shown, colour, name, volume, lock, and the way to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

_SHOW, _NAME, _ML, _LOCK, _JUMP = range(5)
_COLUMNS = ("show", "object", "ml", "lock", "")
_TIPS = (
    "A tick shows the object in the image; without it the object is hidden, and stays as it is.",
    "Click: draw for this object. Double click or F2: rename it. Delete: delete it.",
    "The object's volume in millilitres.",
    "A tick keeps the object as it is, whatever is drawn.",
    "Look at the middle of the object.",
)
_GO = "➜"
_ROW_HEIGHT = 24
_SWATCH = 14
"""Pixels a side of a row's colour."""
_LEAST_HEIGHT = 122
"""Pixels: the heading and four rows."""


@dataclass(frozen=True)
class ObjectRow:
    """What the list says of an object. colour: RGBA from 0 to 1."""

    label: int
    name: str
    millilitres: float
    locked: bool
    colour: tuple[float, float, float, float]
    shown: bool = True


class ObjectList(QTableWidget):
    """`chosen` carries a label, `shown` and `locked` (label, whether), `renamed` (label, name), `wanted` a label.

    `deleted` carries the label of the row on which Delete was pressed.
    """

    chosen = Signal(int)
    shown = Signal(int, bool)
    locked = Signal(int, bool)
    renamed = Signal(int, str)
    wanted = Signal(int)
    deleted = Signal(int)

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.setHorizontalHeaderLabels(_COLUMNS)
        for column, tip in enumerate(_TIPS):
            self.horizontalHeaderItem(column).setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.EditKeyPressed | triggers.DoubleClicked)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)  # Tab leaves the table
        self.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        self.setMinimumHeight(_LEAST_HEIGHT)
        self.setToolTip("The objects: the chosen one is drawn. Delete deletes it.")
        self.labels: list[int] = []
        self._rows: list[ObjectRow] = []
        self.itemSelectionChanged.connect(self._on_selection)
        self.itemChanged.connect(self._on_change)
        self.cellClicked.connect(self._on_click)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  # Qt's name
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and 0 <= self.currentRow() < len(self.labels):
            self.deleted.emit(self.labels[self.currentRow()])
        else:
            super().keyPressEvent(event)

    def show_rows(self, rows: Iterable[ObjectRow], chosen: int) -> None:
        """Show these objects; `chosen` is the one that is drawn. A name that is being written stays open."""
        rows = list(rows)
        self.blockSignals(True)
        if rows != self._rows:
            self._fill(rows)
        if chosen in self.labels and self.currentRow() != self.labels.index(chosen):
            self.selectRow(self.labels.index(chosen))
        self.blockSignals(False)

    def forget(self) -> None:
        """Show the rows anew next time: what the user changed was refused."""
        self._rows = []

    def _fill(self, rows: list[ObjectRow]) -> None:
        self._rows, self.labels = rows, [row.label for row in rows]
        self.setRowCount(len(rows))
        for n, row in enumerate(rows):
            name = QTableWidgetItem(row.name)
            name.setData(Qt.ItemDataRole.DecorationRole, _swatch(QColor.fromRgbF(*row.colour)))
            volume = QTableWidgetItem(f"{row.millilitres:.1f}" if row.millilitres else "")
            volume.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            jump = QTableWidgetItem(_GO if row.millilitres else "")
            jump.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            for item in (volume, jump):
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            items = (_tick(row.shown), name, volume, _tick(row.locked), jump)
            for column, (item, tip) in enumerate(zip(items, _TIPS, strict=True)):
                item.setToolTip(tip)
                self.setItem(n, column, item)

    def _on_selection(self) -> None:
        row = self.currentRow()
        if 0 <= row < len(self.labels):
            self.chosen.emit(self.labels[row])

    def _on_click(self, row: int, column: int) -> None:
        if column == _JUMP:
            self.wanted.emit(self.labels[row])

    def _on_change(self, item: QTableWidgetItem) -> None:
        label, ticked = self.labels[item.row()], item.checkState() == Qt.CheckState.Checked
        self.forget()
        if item.column() == _SHOW:
            self.shown.emit(label, ticked)
        elif item.column() == _LOCK:
            self.locked.emit(label, ticked)
        elif item.column() == _NAME:
            self.renamed.emit(label, item.text().strip())


def _swatch(colour: QColor) -> QIcon:
    """The colour, the same in the row that is chosen: Qt would tint it."""
    square, icon = QPixmap(_SWATCH, _SWATCH), QIcon()
    square.fill(colour)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(square, mode)
    return icon


def _tick(ticked: bool) -> QTableWidgetItem:
    made = QTableWidgetItem()
    made.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsUserCheckable)
    made.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
    return made
