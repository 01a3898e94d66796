"""The table of scores: a row per label with its colour, the numbers of the report in its order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.metrics import Scores

#: {column of the report: its heading and what it means}
_COLUMNS = {
    "dice": ("Dice", "2 |A∩B| / (|A| + |B|): 1 is perfect"),
    "iou": ("IoU", "|A∩B| / |A∪B|: 1 is perfect"),
    "voe": ("VOE", "volumetric overlap error, 1 - IoU: 0 is perfect"),
    "rvd": ("RVD", "relative volume difference (|B| - |A|) / |A|: above 0 is too large (chaos: absolute, percent)"),
    "asd_mm": ("ASD mm", "average distance of the two surfaces"),
    "msd_mm": ("MSD mm", "largest distance of the two surfaces (Hausdorff)"),
    "hd95_mm": ("HD95 mm", "larger of the two directed 95th percentiles of the surfaces' distances"),
    "nsd": ("NSD", "fraction of both surfaces that lies within the tolerance: 1 is perfect"),
    "voxels_reference": ("voxels A", "voxels of the label in the reference, A"),
    "voxels_prediction": ("voxels B", "voxels of the label in the prediction, B"),
}


class ScoreTable(QTableWidget):
    """Shows Scores; `label_clicked` carries the id of the row that was clicked."""

    label_clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__(0, 1 + len(_COLUMNS))
        self._labels: list[int] = []
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(150)
        self.setShowGrid(False)
        self.setHorizontalHeaderLabels(["label", *(heading for heading, _ in _COLUMNS.values())])
        for column, (_, meaning) in enumerate(_COLUMNS.values(), start=1):
            self.horizontalHeaderItem(column).setToolTip(meaning)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.verticalHeader().hide()
        self.currentCellChanged.connect(self._on_row)
        self.cellClicked.connect(self._on_row)

    def show_scores(self, scores: Scores, layer: Labels) -> None:
        """Fill the table; the swatches take the colours of `layer`."""
        self.setRowCount(0)
        self._labels = [row.label for row in scores.rows]
        self.setRowCount(len(scores.rows))
        for r, values in enumerate(scores.table()):
            name = QTableWidgetItem(_swatch(layer, self._labels[r]), str(values["name"]))
            name.setToolTip(f"label {values['label']}")
            self.setItem(r, 0, name)
            for c, column in enumerate(_COLUMNS, start=1):
                self.setItem(r, c, _number(values[column]))

    def _on_row(self, row: int, *_: Any) -> None:
        if 0 <= row < len(self._labels):
            self.label_clicked.emit(self._labels[row])


def text_of(value: float) -> str:
    """Three decimals; counts as they are; infinity as a sign, not-a-number as a dash."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if math.isfinite(value) else "∞"


def _number(value: Any) -> QTableWidgetItem:
    item = QTableWidgetItem(text_of(value))
    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item


def _swatch(layer: Labels, label: int) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor.fromRgbF(*(float(v) for v in layer.get_color(label))))
    return QIcon(pixmap)
