"""The cases of a training: rows of an image layer and its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from napari_medseg.widgets.fields.forms import button
from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer


class CaseRow(QWidget):
    """An image layer, its true labels, and a button that removes the row."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.image = LayerBox(viewer, Image, "The image to learn from.")
        self.labels = LayerBox(viewer, Labels, "Its labels: drawn or corrected by hand.")
        self.remove_button = QToolButton()
        self.remove_button.setText("✕")
        self.remove_button.setToolTip("Remove this case; its layers stay.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.image, 1)
        layout.addWidget(self.labels, 1)
        layout.addWidget(self.remove_button)

    @property
    def pair(self) -> tuple[Any, Any] | None:
        """The two layers; None until both are chosen."""
        chosen = (self.image.layer, self.labels.layer)
        return None if None in chosen else chosen


class CaseRows(QWidget):
    """At least one row; `changed` is emitted when a row comes, goes or changes its layers."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.rows: list[CaseRow] = []
        self.add_button = button("Add case", self.add, "Another image with its labels.")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)
        self._layout.addWidget(self.add_button)
        self.add()

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """The complete rows, as (image layer, labels layer)."""
        return [row.pair for row in self.rows if row.pair is not None]

    def add(self) -> None:
        """Add a row, with layers that no other row has, if there are any."""
        row = CaseRow(self._viewer)
        for name in ("image", "labels"):
            box, taken = getattr(row, name), [getattr(r, name).layer for r in self.rows]
            free = [layer for layer in box.layers if layer not in taken]
            if free:
                box.choose(free[0])
            box.layer_changed.connect(lambda _: self.changed.emit())
        row.remove_button.clicked.connect(lambda _=False: self.remove(row))
        self._layout.insertWidget(len(self.rows), row)
        self.rows.append(row)
        self._after_change()

    def remove(self, row: CaseRow) -> None:
        """Remove a row; the last one stays."""
        self.rows.remove(row)
        self._layout.removeWidget(row)
        row.hide()
        row.deleteLater()
        self._after_change()

    def _after_change(self) -> None:
        for row in self.rows:
            row.remove_button.setVisible(len(self.rows) > 1)
        self.changed.emit()
