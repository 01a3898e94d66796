"""A plot in the dock: as high as its rows need, legible on napari's dark and light themes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea

from napari_medseg.widgets.work.turns import in_turns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 260
"""Pixels of a plot that has no rows."""
_ROW_HEIGHT = 17
_TOP, _BOTTOM, _LEFT, _RIGHT = 46, 12, 12, 14
"""Pixels around the axes; names and ticks come on top of them."""
_UNDER = 34
"""Pixels for ticks and their label below the axes."""
_NAME = 22
"""Letters of a name; longer ones have an ellipsis in their middle, since sides stand at the end."""
_MEASURED = 5
"""Number of the longest names that are measured; the name with most letters is not always the widest."""
_GREY = "#8a8d91"


class Chart(QScrollArea):
    """A matplotlib canvas that scrolls where it is higher than the dock."""

    def __init__(self) -> None:
        super().__init__()
        self._figure = Figure(facecolor="none")
        self.canvas = FigureCanvasQTAgg(self._figure)
        self.canvas.setStyleSheet("background: transparent")
        self.setWidget(self.canvas)
        self.setWidgetResizable(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(_HEIGHT)
        self._is_drawn = True
        self.canvas.mpl_connect("resize_event", lambda _: self._place())
        self.canvas.mpl_connect("draw_event", self._on_draw)

    @property
    def axes(self) -> Axes:
        """The axes that are drawn."""
        return self._figure.axes[0]

    def plot(self, draw: Callable[[Axes], None], rows: int = 0) -> None:
        """Replace the plot by what `draw` puts on fresh axes, and show it in the next turn. rows: names at the left."""
        in_turns(self, partial(self._make, draw, rows), self._show)

    def _make(self, draw: Callable[[Axes], None], rows: int) -> None:
        self._is_drawn = False
        self._figure.clear()
        draw(self._figure.add_subplot())
        _style(self.axes)
        self.canvas.setFixedHeight(_TOP + _BOTTOM + _ROW_HEIGHT * rows if rows else _HEIGHT)
        self._place()

    def _show(self) -> None:
        if not self._is_drawn:  # a change of its size has drawn it
            self.canvas.draw_idle()

    def _on_draw(self, _event: object) -> None:
        self._is_drawn = True

    def _place(self) -> None:
        """Axes as wide as names and ticks leave them. matplotlib's own layout draws everything to find that out."""
        if not self._figure.axes:
            return
        width, height = self.canvas.width(), self.canvas.height()
        long = sorted(self.axes.get_yticklabels(), key=lambda label: -len(label.get_text()))[:_MEASURED]
        widest = max((label.get_window_extent().width for label in long), default=0.0)
        left = _LEFT + widest / self.canvas.device_pixel_ratio
        top, bottom = (_TOP, _BOTTOM) if self.axes.xaxis.get_label_position() == "top" else (_BOTTOM, _UNDER)
        if self.axes.get_ylabel():
            left += _LEFT
        box = (left / width, bottom / height, 1 - (left + _RIGHT) / width, 1 - (top + bottom) / height)
        self.axes.set_position(box)


def _style(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=_GREY, labelsize=8, length=2)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_GREY, fontsize=8)
    for text in axes.texts:
        text.set(color=_GREY, fontsize=8)
    names = [label.get_text() for label in axes.get_yticklabels()]
    if any(len(name) > _NAME for name in names):
        axes.set_yticks(axes.get_yticks(), [_short(name) for name in names], parse_math=False)
    for side, spine in axes.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side in ("left", axes.xaxis.get_label_position()))


def _short(name: str) -> str:
    half = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: half - 1]}…{name[-half:]}"
