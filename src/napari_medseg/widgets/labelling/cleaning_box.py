"""The buttons of the steps that make labels better, with their sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_medseg.config import CleanConfig, knobs_of
from napari_medseg.widgets.fields.config_form import Words, knob_widget
from napari_medseg.widgets.fields.forms import button, caption, row

_SIZES = {"islands_ml": 0.1, "smooth_mm": 1.0}
"""{field of CleanConfig: value that its widget opens with}."""
_SIZE_WIDTH = 116
"""Pixels of a number with its unit."""
_CHOOSE = "Choose one or more rows to change their labels."


class CleaningBox(QWidget):
    """`asked` carries the title of a step, and the fields of CleanConfig that ask for it."""

    asked = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        knobs = knobs_of(CleanConfig)
        self.sizes: dict[str, Any] = {}
        for name, value in _SIZES.items():
            self.sizes[name] = knob_widget(knobs[name], Words(name))
            self.sizes[name].value = value
            self.sizes[name].native.setMinimumWidth(_SIZE_WIDTH)
        self.target = caption(_CHOOSE)
        self.buttons: dict[str, QPushButton] = {}
        self._add("Remove parts below", "islands_ml", lambda: self.sizes["islands_ml"].value)
        self._add("Smooth by", "smooth_mm", lambda: self.sizes["smooth_mm"].value)
        self._add("Keep the largest part", "largest", lambda: True)
        self._add("Fill holes", "fill_holes", lambda: True)
        self._add("Fill in between painted slices", "interpolate", lambda: "auto")
        self.buttons["interpolate"].setToolTip(
            "Shapes in the slices between painted ones, along the axis that you look along; in 3D along the axis on "
            "which the label has most gaps."
        )
        sizes = QGridLayout()
        for line, name in enumerate(_SIZES):
            sizes.addWidget(self.buttons[name], line, 0)
            sizes.addWidget(self.sizes[name].native, line, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.target)
        layout.addLayout(sizes)
        layout.addLayout(row(self.buttons["largest"], self.buttons["fill_holes"]))
        layout.addWidget(self.buttons["interpolate"])

    def set_ready(self, names: Sequence[str], count: int, *, busy: bool) -> None:
        """Say to which labels the steps apply. names: of the first of `count` chosen labels."""
        more = f" and {count - len(names)} more" if count > len(names) else ""
        self.target.setText(f"Change <b>{escape(', '.join(names))}</b>{more}:" if count else _CHOOSE)
        for made in self.buttons.values():
            made.setEnabled(count > 0 and not busy)

    def _add(self, text: str, knob: str, value: Callable[[], Any]) -> None:
        def ask() -> None:
            self.asked.emit(text, {knob: value()})

        self.buttons[knob] = button(text, ask, knobs_of(CleanConfig)[knob].doc)
