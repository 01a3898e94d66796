"""Scores that follow painting: shortly after the last stroke, the labels that changed are computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from qtpy.QtWidgets import QCheckBox
from superqt.utils import qdebounced

from napari_medseg.metrics import Scores
from napari_medseg.metrics.pairwise.edits import EditedScores
from napari_medseg.widgets.fields.forms import reporting
from napari_medseg.widgets.fields.layer_box import Connections
from napari_medseg.widgets.measuring.compared_layers import ComparedLayers, LayerPair
from napari_medseg.widgets.work.background import Background

_EDITS = ("paint", "set_data", "scale", "translate", "rotate", "shear", "affine", "units")
_PAUSE_MS = 250
"""The scores are computed when the brush has rested for this time."""


@dataclass(frozen=True, eq=False)
class _Followed:
    pair: LayerPair
    """The layers as they were measured."""
    edited: EditedScores


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
        self._update_soon = qdebounced(self._update, timeout=_PAUSE_MS, parent=self)
        self.toggled.connect(self._soon)

    def follow(self, pair: LayerPair, edited: EditedScores) -> None:
        """From now on, edits of the pair's layers; `edited` holds the scores of the pair."""
        self._connections.disconnect()
        self._followed = _Followed(pair, edited)
        # Strokes, undo and scripts; moving through the slices also emits set_data, and changes no score.
        events = [layer.events[name] for layer in pair.layers for name in _EDITS]
        self._connections = Connections(events, self._soon)
        self.destroyed.connect(self._connections.disconnect)
        self.setEnabled(True)
        self._soon()  # what was edited since

    def _soon(self, _event: object = None) -> None:
        if self.isChecked():
            self._update_soon()

    def _update(self) -> None:
        followed = self._followed
        if followed is None:
            return
        with reporting():
            now = self._compared.pair_of(*followed.pair.layers)
            if now.same_as(followed.pair):
                self.background.ask(followed.edited.update, partial(self._on_updated, followed))
            else:
                afresh = partial(EditedScores, **now.segmentations, config=followed.edited.scores.config)
                self.background.ask(afresh, partial(self._on_measured, followed, now))

    def _on_updated(self, followed: _Followed, changed: bool) -> None:
        if changed and followed is self._followed:
            self._show(followed.edited.scores)

    def _on_measured(self, followed: _Followed, now: LayerPair, edited: EditedScores) -> None:
        if followed is self._followed:
            self.follow(now, edited)
            self._show(edited.scores)
