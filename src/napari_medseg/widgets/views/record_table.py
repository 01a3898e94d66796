"""A table of records: a click on a heading sorts, a click on a row is announced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_medseg.metrics.pairwise.columns import Column
from napari_medseg.widgets.views.record_model import Record, RecordModel, Rgba

_NAMES_WIDTH = 140
"""Pixels of the labels' names; longer ones have an ellipsis in their middle (sides stand at the end), and are whole in
the tooltip."""
_ROWS_MEASURED = 50
"""Rows that decide how wide a column is; measuring thousands would hold up the window."""
_ROW_HEIGHT = 22


class RecordTable(QTableView):
    """Shows records; `row_chosen` carries the one that the user chose."""

    row_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.records = RecordModel()
        self._is_silent = False
        self.setModel(self.records)
        self.setSortingEnabled(True)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(110)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._style_headers()
        self.selectionModel().currentRowChanged.connect(self._on_row)
        self.clicked.connect(self._on_row)

    def _style_headers(self) -> None:
        across, down = self.horizontalHeader(), self.verticalHeader()
        across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        across.setResizeContentsPrecision(_ROWS_MEASURED)
        across.setHighlightSections(False)
        down.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        down.setMaximumWidth(_NAMES_WIDTH)
        down.setDefaultSectionSize(_ROW_HEIGHT)
        down.setHighlightSections(False)

    @property
    def record(self) -> Any:
        """The record of the chosen row; None where no row is chosen."""
        index = self.currentIndex()
        return self.records.rows[index.row()] if index.isValid() else None

    def show_records(
        self, rows: Iterable[Record], columns: Mapping[str, Column], colour_of: Callable[[int], Rgba] | None = None
    ) -> None:
        """Fill the table; the order that the user gave it and the chosen label stay. See `RecordModel.show`."""
        chosen, header = self.record, self.horizontalHeader()
        with self._silence():
            self.records.show(rows, columns, colour_of)
            self.records.sort(header.sortIndicatorSection(), header.sortIndicatorOrder())
            if chosen is not None:
                self.choose(chosen.label)

    def choose(self, label: int) -> None:
        """Go to the first row of a label, if the table has one."""
        found = [r for r, row in enumerate(self.records.rows) if row.label == label]
        if found:
            self.setCurrentIndex(self.records.index(found[0], self.first_shown))

    @property
    def first_shown(self) -> int:
        """The first column that is not hidden; Qt scrolls to no cell of a hidden one."""
        columns = range(self.records.columnCount())
        return next((column for column in columns if not self.isColumnHidden(column)), 0)

    def mark(self, label: int) -> None:
        """Go to the first row of a label without emitting `row_chosen`: the place was shown already."""
        with self._silence():
            self.choose(label)

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """A row that is chosen inside is not a choice of the user, and `row_chosen` is not emitted."""
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    def _on_row(self, index: QModelIndex, _previous: QModelIndex | None = None) -> None:
        if index.isValid() and not self._is_silent:
            self.row_chosen.emit(self.records.rows[index.row()])
