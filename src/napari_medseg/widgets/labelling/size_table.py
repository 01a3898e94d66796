"""The table of the labels of one layer: a tick, a name to write, ml, mean, and the way to the label."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_medseg.widgets.labelling.size_model import JUMP, NAME, SizeModel

_ROW_HEIGHT = 22
_LEAST_HEIGHT = 120
"""Pixels of the table: its heading and four rows."""


class SizeTable(QTableView):
    """`labels_chosen` : other rows are chosen. `jump` carries the label whose arrow is clicked."""

    labels_chosen = Signal()
    jump = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.sizes = SizeModel()
        self.setModel(self.sizes)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMinimumHeight(_LEAST_HEIGHT)
        self.setTabKeyNavigation(False)  # Tab leaves the table
        across, down = self.horizontalHeader(), self.verticalHeader()
        across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        across.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        across.setHighlightSections(False)
        down.setDefaultSectionSize(_ROW_HEIGHT)
        down.hide()
        self.selectionModel().selectionChanged.connect(lambda *_: self.labels_chosen.emit())
        self.sizes.modelReset.connect(self.labels_chosen.emit)
        self.clicked.connect(self._on_click)

    @property
    def chosen(self) -> list[int]:
        """The labels of the chosen rows, in the order of the table."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [self.sizes.rows[row].label for row in rows]

    def choose(self, label: int) -> None:
        """Choose the row of a label, and no other."""
        row = next((row for row, size in enumerate(self.sizes.rows) if size.label == label), None)
        if row is not None:
            self.selectRow(row)

    def _on_click(self, index: QModelIndex) -> None:
        if index.column() == JUMP:
            self.jump.emit(self.sizes.rows[index.row()].label)
