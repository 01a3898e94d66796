"""The buttons that number the objects of a layer, and those that change some of them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.config import ObjectsConfig
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.forms import button, caption, form, row

_WORDS = {
    "method": Words("Objects", {"distance": "cut where narrow", "components": "connected parts"}),
    "neck": Words("Neck below"),
    "least_ml": Words("Least volume"),
}
_CHOOSE = "Choose one or more rows to change these objects."
_CLICK = "Click two places in the object that belong to different pieces."


class ObjectsBox(QWidget):
    """`number` carries an ObjectsConfig; `change` the title of a step for the chosen objects; `pick` whether two places
    are to be clicked.
    """

    number = Signal(object)
    change = Signal(str)
    pick = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.options = ConfigForm(ObjectsConfig, _WORDS, _WORDS, hidden=("connectivity",))
        self.number_button = button(
            "Number the objects",
            lambda: self.number.emit(self.options.config),
            "A new layer in which every object has an id of its own, also where objects touch.",
        )
        self.target = caption(_CHOOSE)
        self.delete_button = button("Delete", lambda: self.change.emit("Delete"), "Empty the voxels of these objects.")
        self.merge_button = button(
            "Merge", lambda: self.change.emit("Merge"), "Make one object of them, with the smallest id."
        )
        self.split_button = button(
            "Split",
            lambda: self.change.emit("Split"),
            "Cut the object where it is narrow; the largest piece keeps its id.",
        )
        self.pick_button = button("Split by two clicks", lambda: None, "Then click a place in each of the two pieces.")
        self.pick_button.setCheckable(True)
        self.pick_button.toggled.connect(self.pick.emit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(form(**self.options.rows()))
        layout.addWidget(self.number_button)
        layout.addWidget(self.target)
        layout.addLayout(row(self.delete_button, self.merge_button))
        layout.addLayout(row(self.split_button, self.pick_button))
        self.options.changed.connect(self._enable_neck)

    def set_ready(self, names: Sequence[str], count: int, *, there: bool, busy: bool) -> None:
        """Say to which objects the buttons apply. names: of the first of `count` chosen ones. there: any is."""
        more = f" and {count - len(names)} more" if count > len(names) else ""
        told = f"Change <b>{escape(', '.join(names))}</b>{more}:" if count else _CHOOSE
        self.target.setText(_CLICK if self.pick_button.isChecked() else told)
        self.number_button.setEnabled(there and not busy)
        self.delete_button.setEnabled(count > 0 and not busy)
        self.merge_button.setEnabled(count > 1 and not busy)
        self.split_button.setEnabled(count == 1 and not busy)
        self.pick_button.setEnabled(there and not busy)

    def _enable_neck(self) -> None:
        """A neck matters where parts are cut."""
        self.options["neck"].enabled = self.options["method"].value == "distance"
