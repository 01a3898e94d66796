"""Scores that follow painting: shortly after the last stroke, the labels that it touched are computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

from napari_medseg.metrics import Scores
from napari_medseg.metrics.edits import EditedScores
from napari_medseg.widgets.background import Background
from napari_medseg.widgets.layer_box import Connections

if TYPE_CHECKING:
    from napari.layers import Labels

_PAUSE_MS = 250
"""How long the brush rests before the scores are computed."""


class LiveUpdates(QCheckBox):
    """While it is checked, `show` is called with the scores after each edit of the layers that are followed."""

    def __init__(self, show: Callable[[Scores], None]) -> None:
        super().__init__("Update while painting")
        self.setToolTip("A moment after a brush stroke, compute the labels again that it touched.")
        self.setEnabled(False)
        self.background = Background(self)
        self._show = show
        self._edited: EditedScores | None = None
        self._connections = Connections((), self._soon)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._update)
        self.toggled.connect(self._soon)

    def follow(self, layers: tuple[Labels, ...], edited: EditedScores) -> None:
        """From now on, edits of these layers, whose scores `edited` holds."""
        self._connections.disconnect()
        self._edited = edited
        # Strokes, and whatever draws the layer anew: undo, scripts, and moving through the slices, which edits nothing.
        events = [emitter for layer in layers for emitter in (layer.events.paint, layer.events.set_data)]
        self._connections = Connections(events, self._soon)
        self.destroyed.connect(self._connections.disconnect)
        self.setEnabled(True)

    def _soon(self, _event: object = None) -> None:
        if self.isChecked():
            self._pause.start()

    def _update(self) -> None:
        if self._edited is not None:
            self.background.ask(self._edited.update, self._on_updated)

    def _on_updated(self, changed: bool) -> None:
        if changed and self._edited is not None:
            self._show(self._edited.scores)
