"""Live curves of a training: the loss of every step, the Dice of every validation."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qthrottled

_INTERVAL_MS = 500
"""The canvas is drawn at this interval at most, on the thread of the window."""
_MOST_POINTS = 500
"""Points of the loss; above this number every second point is dropped, so that drawing stays fast."""
_HEIGHT = 200
_LOSS, _DICE = "#56B4E9", "#E69F00"


class Curves(QWidget):
    """A canvas with the loss on the left axis and the validation's mean Dice on the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = 0
        """How often the canvas was drawn since the last `clear`."""
        self._figure = Figure(figsize=(3.6, 2.0), facecolor="none")
        self._canvas = FigureCanvasQTAgg(self._figure)
        self._canvas.setStyleSheet("background: transparent")
        self._canvas.setFixedHeight(_HEIGHT)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._canvas)
        layout.addStretch(1)
        self._loss_axes = self._figure.add_axes((0.16, 0.22, 0.70, 0.72))
        self._dice_axes = self._loss_axes.twinx()
        (self._loss_line,) = self._loss_axes.plot([], [], color=_LOSS, linewidth=1)
        (self._dice_line,) = self._dice_axes.plot([], [], color=_DICE, linewidth=1.5, marker="o", markersize=3)
        self._style()
        self._draw_soon = qthrottled(self._draw, timeout=_INTERVAL_MS, leading=False, parent=self)
        self.clear()

    def _style(self) -> None:
        """Legible on napari's dark and light themes alike."""
        grey = "#8a8d91"
        self._loss_axes.ticklabel_format(axis="y", useOffset=False)
        self._loss_axes.set_xlabel("step", color=grey, fontsize=8)
        self._loss_axes.set_ylabel("loss", color=_LOSS, fontsize=8)
        self._dice_axes.set_ylabel("validation Dice", color=_DICE, fontsize=8)
        self._dice_axes.set_ylim(0, 1)
        self._loss_axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        self._loss_axes.yaxis.set_major_locator(MaxNLocator(4))
        self._dice_axes.yaxis.set_major_locator(MaxNLocator(4))
        for axes in (self._loss_axes, self._dice_axes):
            axes.set_facecolor("none")
            axes.tick_params(colors=grey, labelsize=7, length=2)
            for spine in axes.spines.values():
                spine.set_color(grey)

    def clear(self) -> None:
        """Forget all points."""
        self._draw_soon.cancel()
        self._losses: list[tuple[int, float]] = []
        self._dice: list[tuple[int, float]] = []
        self.draws = 0
        self._draw()

    @property
    def points(self) -> int:
        """Points of the loss that are drawn."""
        return len(self._losses)

    def add_loss(self, step: int, loss: float) -> None:
        if math.isfinite(loss):
            self._losses.append((step, loss))
        if len(self._losses) > _MOST_POINTS:
            self._losses = self._losses[::2]
        self._draw_soon()

    def add_dice(self, step: int, dice: float) -> None:
        self._dice.append((step, dice))
        self._draw_soon()

    def _draw(self) -> None:
        for line, points in ((self._loss_line, self._losses), (self._dice_line, self._dice)):
            line.set_data(*_columns(points))
        self._loss_axes.relim()
        self._loss_axes.autoscale_view()
        self._canvas.draw()
        self.draws += 1


def _columns(points: list[tuple[int, float]]) -> Any:
    return zip(*points, strict=True) if points else ([], [])
