"""Rows of a form with an image layer for each channel of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtWidgets import QFormLayout, QLabel

from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer


class ChannelRows:
    """Rows of a form, from the row `first` on. Until the user chooses, each shows another layer than the one above."""

    def __init__(
        self, viewer: Viewer, form: QFormLayout, tooltip: str, on_change: Callable[[object], None], *, first: int = 0
    ) -> None:
        self._viewer, self._form, self._tooltip, self._on_change = viewer, form, tooltip, on_change
        self._first = first
        self.boxes: list[LayerBox] = []

    def follow(self, names: Sequence[str]) -> None:
        """A row for each name; a single one is called "Image"."""
        while len(self.boxes) > len(names):
            self._form.removeRow(self._first + len(self.boxes) - 1)
            self.boxes.pop()
        while len(self.boxes) < len(names):
            above = self.boxes[-1] if self.boxes else None
            box = LayerBox(self._viewer, Image, self._tooltip, unlike=above)
            box.layer_changed.connect(self._on_change)
            self._form.insertRow(self._first + len(self.boxes), QLabel(), box)
            self.boxes.append(box)
        for box, name in zip(self.boxes, names, strict=True):
            box.follows_opened = len(names) == 1  # of several, none is known to be the new image
            self._form.labelForField(box).setText(name if name and len(names) > 1 else "Image")
