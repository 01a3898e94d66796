"""Scores that follow painting: shortly after the last stroke, the labels that it touched are computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

from napari_medseg.metrics import Scores
from napari_medseg.metrics.edits import EditedScores
from napari_medseg.widgets.background import Background
from napari_medseg.widgets.compared_layers import ComparedLayers
from napari_medseg.widgets.layer_box import Connections

if TYPE_CHECKING:
    from napari.layers import Labels

_PAUSE_MS = 250
"""How long the brush rests before the scores are computed."""


@dataclass(frozen=True, eq=False)
class _Followed:
    prediction: Labels
    reference: Labels
    arrays: tuple[Any, Any]
    """What the layers held when they were measured."""
    edited: EditedScores

    @property
    def is_whole(self) -> bool:
        """Whether the layers still hold the arrays that are watched; a script may have given them others."""
        return self.prediction.data is self.arrays[0] and self.reference.data is self.arrays[1]


class LiveUpdates(QCheckBox):
    """While it is checked, `show` is called with the scores after each edit of the layers that are followed."""

    def __init__(self, compared: ComparedLayers, show: Callable[[Scores], None]) -> None:
        super().__init__("Update while painting")
        self.setToolTip("A moment after a brush stroke, compute the labels again that it touched.")
        self.setEnabled(False)
        self.background = Background(self)
        self._compared, self._show = compared, show
        self._followed: _Followed | None = None
        self._connections = Connections((), self._soon)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._update)
        self.toggled.connect(self._soon)

    def follow(self, prediction: Labels, reference: Labels, edited: EditedScores) -> None:
        """From now on, edits of these layers, whose scores `edited` holds."""
        self._connections.disconnect()
        self._followed = _Followed(prediction, reference, (prediction.data, reference.data), edited)
        # Strokes, and whatever draws the layer anew: undo, scripts, and moving through the slices, which edits nothing.
        events = [
            emitter for layer in (prediction, reference) for emitter in (layer.events.paint, layer.events.set_data)
        ]
        self._connections = Connections(events, self._soon)
        self.destroyed.connect(self._connections.disconnect)
        self.setEnabled(True)

    def _soon(self, _event: object = None) -> None:
        if self.isChecked():
            self._pause.start()

    def _update(self) -> None:
        followed = self._followed
        if followed is None:
            return
        if followed.is_whole:
            self.background.ask(followed.edited.update, partial(self._on_updated, followed))
        else:
            pair = self._compared.pair_of(followed.prediction, followed.reference)
            config = followed.edited.scores.config
            self.background.ask(partial(EditedScores, **pair, config=config), partial(self._on_measured, followed))

    def _on_updated(self, followed: _Followed, changed: bool) -> None:
        if changed and followed is self._followed:
            self._show(followed.edited.scores)

    def _on_measured(self, followed: _Followed, edited: EditedScores) -> None:
        if followed is self._followed:
            self.follow(followed.prediction, followed.reference, edited)
            self._show(edited.scores)
