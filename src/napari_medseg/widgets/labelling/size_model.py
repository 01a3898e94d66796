"""The rows of the Labels table as a Qt model: what is shown, colour and name, ml, mean."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal

from napari_medseg.metrics import SizeRow
from napari_medseg.widgets.views.record_model import Rgba, swatch, text_of

SHOWN, NAME, VOLUME, MEAN, JUMP = range(5)
_HEADINGS = ("Show", "Label", "ml", "Mean", "")
_TIPS = (
    "A tick shows the label; without it the label is hidden.",
    "Double-click a name to change it; it is saved with the layer.",
    "Volume of the label in millilitres.",
    "Mean intensity of the image inside the label.",
    "A click centres the view on the label.",
)
_GO = "➜"
_NUMBERS = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class SizeModel(QAbstractTableModel):
    """`renamed` and `shown` carry a label id with its new name, or with whether it is to be shown."""

    renamed = Signal(int, str)
    shown = Signal(int, bool)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[SizeRow] = []
        self._hidden: Collection[int] = ()
        self._swatches: dict[int, Any] = {}

    def show(self, rows: Sequence[SizeRow], hidden: Collection[int], colour_of: Callable[[int], Rgba] | None) -> None:
        """Replace everything; where the labels are the same, only the cells, so that the selection stays."""
        same = [row.label for row in rows] == [row.label for row in self.rows]
        if not same:
            self.beginResetModel()
        self.rows, self._hidden = list(rows), hidden
        self._swatches = {row.label: swatch(colour_of(row.label)) for row in rows} if colour_of else {}
        if same and rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, JUMP))
        elif not same:
            self.endResetModel()

    def rowCount(self, _parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802  # Qt's signature
        return len(self.rows)

    def columnCount(self, _parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802  # Qt's signature
        return len(_HEADINGS)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """A tick for what is shown; a name can be written."""
        flags = super().flags(index)
        if index.column() == SHOWN:
            return flags | Qt.ItemFlag.ItemIsUserCheckable
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == NAME else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A tick, a name with its colour, numbers to the right, and the way to the label."""
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.CheckStateRole and column == SHOWN:
            return Qt.CheckState.Unchecked if row.label in self._hidden else Qt.CheckState.Checked
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return ("", row.name, text_of(row.volume_ml), text_of(row.mean), _GO)[column]
        if role == Qt.ItemDataRole.DecorationRole and column == NAME:
            return self._swatches[row.label]
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row, column)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (VOLUME, MEAN):
            return _NUMBERS
        if role == Qt.ItemDataRole.TextAlignmentRole and column == JUMP:
            return Qt.AlignmentFlag.AlignCenter
        return None

    def _tip(self, row: SizeRow, column: int) -> str:
        if column == NAME:
            return f"<p>{html.escape(row.name)}, label {row.label}: {row.voxels:,} voxels. {_TIPS[NAME]}</p>"
        return str({VOLUME: row.volume_ml, MEAN: row.mean}.get(column, _TIPS[column]))

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: N802
        """Announce what the user changed; who listens changes the layer and shows new rows."""
        label = self.rows[index.row()].label
        if role == Qt.ItemDataRole.CheckStateRole and index.column() == SHOWN:
            self.shown.emit(label, Qt.CheckState(value) == Qt.CheckState.Checked)
            return True
        if role == Qt.ItemDataRole.EditRole and index.column() == NAME and value != self.rows[index.row()].name:
            self.renamed.emit(label, str(value))
            return True
        return False

    def headerData(  # noqa: N802  # Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """The headings, each explained."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        return {Qt.ItemDataRole.DisplayRole: _HEADINGS[section], Qt.ItemDataRole.ToolTipRole: _TIPS[section]}.get(role)
