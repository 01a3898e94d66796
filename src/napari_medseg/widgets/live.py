"""Scores that follow painting: shortly after the last stroke, the labels that it touched are computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

from napari_medseg.metrics import Scores
from napari_medseg.metrics.edits import EditedScores
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.background import Background
from napari_medseg.widgets.compared_layers import ComparedLayers
from napari_medseg.widgets.forms import reporting
from napari_medseg.widgets.layer_box import Connections

if TYPE_CHECKING:
    from napari.layers import Labels

_EDITS = ("paint", "set_data", "scale", "translate", "rotate", "shear", "affine", "units")
_PAUSE_MS = 250
"""How long the brush rests before the scores are computed."""


@dataclass(frozen=True, eq=False)
class _Followed:
    prediction: Labels
    reference: Labels
    held: tuple[Any, Any]
    """The arrays that the layers held when they were measured."""
    grids: tuple[Grid, Grid]
    edited: EditedScores

    def is_whole(self, pair: Mapping[str, Segmentation]) -> bool:
        """Whether the layers, now `pair`, still hold the arrays that are watched, on their grids."""
        arrays = self.prediction.data, self.reference.data
        return all(now is then for now, then in zip(arrays, self.held, strict=True)) and all(
            now.grid.same_as(then) for now, then in zip(pair.values(), self.grids, strict=True)
        )


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
        b, a = self._compared.pair_of(prediction, reference).values()
        self._followed = _Followed(prediction, reference, (prediction.data, reference.data), (b.grid, a.grid), edited)
        # Strokes, and whatever draws the layer anew: undo, scripts, and moving through the slices, which edits nothing.
        events = [layer.events[name] for layer in (prediction, reference) for name in _EDITS]
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
        with reporting():
            pair = self._compared.pair_of(followed.prediction, followed.reference)
            if followed.is_whole(pair):
                self.background.ask(followed.edited.update, partial(self._on_updated, followed))
            else:
                config = followed.edited.scores.config
                self.background.ask(partial(EditedScores, **pair, config=config), partial(self._on_measured, followed))

    def _on_updated(self, followed: _Followed, changed: bool) -> None:
        if changed and followed is self._followed:
            self._show(followed.edited.scores)

    def _on_measured(self, followed: _Followed, edited: EditedScores) -> None:
        if followed is self._followed:
            self.follow(followed.prediction, followed.reference, edited)
            self._show(edited.scores)
