"""Records (rows of scores, of instances) as a Qt model: numbers sorted as numbers, every column explained."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap

from napari_medseg.metrics.pairwise.columns import Column

Rgba = tuple[float, float, float, float]

_BETTER = {"higher": "Higher is better.", "lower": "Lower is better.", "zero": "Zero is best.", "": ""}
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class Record(Protocol):
    """A row: its other fields are the columns."""

    @property
    def label(self) -> int: ...
    @property
    def name(self) -> str: ...


class RecordModel(QAbstractTableModel):
    """A row per record; its header is the label's name with its colour, so that it never scrolls away."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: list[str] = []
        self.rows: list[Any] = []
        self._meaning: Mapping[str, Column] = {}
        self._swatches: dict[int, QIcon] = {}

    def show(
        self, rows: Iterable[Record], columns: Mapping[str, Column], colour_of: Callable[[int], Rgba] | None = None
    ) -> None:
        """Replace everything. columns: the fields to show, in that order. colour_of: the colour of a label's swatch."""
        self.beginResetModel()
        self.rows = list(rows)
        self.columns = list(columns)
        self._meaning = columns
        labels = {row.label for row in self.rows}
        self._swatches = {label: swatch(colour_of(label)) for label in labels} if colour_of else {}
        self.endResetModel()

    def rowCount(self, _parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802  # Qt's signature
        return len(self.rows)

    def columnCount(self, _parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802  # Qt's signature
        return len(self.columns)

    def value(self, row: int, column: int) -> Any:
        """The number or text of a cell."""
        return getattr(self.rows[row], self.columns[column])

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The text of a cell, all its digits as tooltip, numbers to the right."""
        value = self.value(index.row(), index.column())
        if role == Qt.ItemDataRole.DisplayRole:
            return text_of(value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return html.escape(str(value))
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return _RIGHT
        return None

    def headerData(  # noqa: N802  # Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Column: title over unit, with its definition as tooltip. Row: the label's colour and name."""
        if orientation == Qt.Orientation.Horizontal:
            return self._column_header(self._meaning[self.columns[section]], role)
        return self._row_header(self.rows[section], role)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Reorder the rows by a column; infinite values and missing ones come last in either order."""
        if not 0 <= column < len(self.columns):
            return
        self.layoutAboutToBeChanged.emit()
        before, kept = self.persistentIndexList(), list(self.rows)
        self.rows = _sorted(kept, self.columns[column], descending=order == Qt.SortOrder.DescendingOrder)
        now_at = {id(row): r for r, row in enumerate(self.rows)}
        after = [self.index(now_at[id(kept[index.row()])], index.column()) for index in before]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _column_header(self, column: Column, role: int) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            unit = "" if column.unit in ("", "1", "voxels") else column.unit
            return f"{column.title}\n{unit}" if unit else column.title.replace(" ", "\n", 1)
        if role == Qt.ItemDataRole.ToolTipRole:
            return (
                f"<p><b>{html.escape(column.heading)}</b><br>{html.escape(column.formula)}</p>{_BETTER[column.better]}"
            )
        return None

    def _row_header(self, row: Record, role: int) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return row.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"<p>{html.escape(row.name)}, label {row.label}</p>"
        if role == Qt.ItemDataRole.DecorationRole:
            return self._swatches.get(row.label)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None


def text_of(value: str | float) -> str:
    """Three decimals; counts and text as they are; infinity as a sign, not-a-number as a dash."""
    if isinstance(value, str | int):
        return str(value)
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if math.isfinite(value) else "∞"


def _sorted(rows: list[Any], column: str, *, descending: bool) -> list[Any]:
    """Stable; finite values by size, then infinite ones, then values that are not numbers."""
    values = {id(row): getattr(row, column) for row in rows}
    finite = [row for row in rows if _rank(values[id(row)]) == 0]
    rest = [row for row in rows if _rank(values[id(row)]) > 0]
    finite.sort(key=lambda row: values[id(row)], reverse=descending)
    return finite + sorted(rest, key=lambda row: _rank(values[id(row)]))


def _rank(value: str | float) -> int:
    if isinstance(value, str) or math.isfinite(value):
        return 0
    return 1 if math.isinf(value) else 2


def swatch(rgba: Rgba) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor.fromRgbF(*(float(v) for v in rgba)))
    return QIcon(pixmap)
