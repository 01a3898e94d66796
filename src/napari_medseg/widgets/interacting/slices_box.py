"""What the Interact panel offers for the slices of an object: a bar of their quality, the next one, and filling."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QToolTip, QVBoxLayout, QWidget

from napari_medseg.config import PropagateConfig
from napari_medseg.interactive.slices import SliceQuality
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.forms import button, caption, form, row
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

_WEAK, _SURE = QColor("#d9822b"), QColor("#3d8fe0")
"""The colours of 0 and of 1: told apart by those who see no red or no green, too."""
_HEIGHT, _MARK = 26, 5
"""Pixels of the bar, and of the marks below it."""
_WORDS = {
    "method": Words("Fill", {"auto": "by the image", "interpolation": "by shapes alone", "learn": "by learning"}),
    "minutes": Words("Minutes"),
}
_WHEN = {
    "auto": "At once, by the image and the painted shapes.",
    "interpolation": "At once, by the painted shapes: where the image shows no border.",
    "learn": "Learns the painted slices for so long, while you go on. The best from five slices on.",
}
"""{method: when to use it, and how long it takes}"""


class QualityBar(QWidget):
    """A column a slice, from weak to sure. Painted slices have a mark. `wanted` carries the slice that is clicked.

    The columns stand, and are numbered, as on napari's slider.
    """

    wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.quality: SliceQuality | None = None
        self._steps: list[int] = []
        """Of the slider, one a slice."""
        self.setMinimumWidth(80)
        self.setFixedHeight(_HEIGHT)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def show_quality(self, quality: SliceQuality | None, steps: Sequence[int] = ()) -> None:
        """Draw the slices of an object; None hides the bar. steps: of napari's slider, one a slice."""
        self.quality, self._steps = quality, list(steps)
        self.setVisible(quality is not None)
        self.update()

    def slice_at(self, x: float) -> int:
        """The slice that is drawn at a pixel from the left."""
        assert self.quality is not None, "it is hidden without one"
        count = len(self.quality.values)
        column = min(count - 1, max(0, int(x * count / max(1, self.width()))))
        return self.quality.first + self._order[column]

    @property
    def _order(self) -> list[int]:
        """The slices from left to right, as the slider goes."""
        assert self.quality is not None, "it is hidden without one"
        found = list(range(len(self.quality.values)))
        return found[::-1] if self._steps and self._steps[-1] < self._steps[0] else found

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802  # Qt's name
        self.wanted.emit(self.slice_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802  # Qt's name
        QToolTip.showText(event.globalPosition().toPoint(), self.told(self.slice_at(event.position().x())), self)

    def told(self, index: int) -> str:
        """What the bar says of a slice."""
        assert self.quality is not None, "it is hidden without one"
        step = self._steps[index - self.quality.first] if self._steps else index
        if index in self.quality.painted:
            return f"slice {step}: painted"
        return f"slice {step}: agrees by {self.quality.values[index - self.quality.first]:.2f} with the painted ones"

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802  # Qt's name
        if self.quality is None:
            return
        painter, width = QPainter(self), self.width() / len(self.quality.values)
        for column, n in enumerate(self._order):
            value, left = self.quality.values[n], column * width
            painter.fillRect(QRectF(left, 0, width + 0.5, _HEIGHT - _MARK - 2), _between(value))
            if self.quality.first + n in self.quality.painted:
                mark = self.palette().color(QPalette.ColorRole.WindowText)
                painter.fillRect(QRectF(left, _HEIGHT - _MARK, max(2.0, width), _MARK), mark)
        painter.end()


class SlicesBox(QWidget):
    """`fill` carries whether only what lies between painted slices is filled; `next` asks for the slice to paint.

    runner: of the network that learns slices.
    """

    fill = Signal(bool)
    next = Signal()

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner, self._painted = runner, 0
        self.options = ConfigForm(PropagateConfig, ("method", "minutes"), _WORDS, hidden=("epochs", "seed", "device"))
        self.options["method"].tooltip = "\n".join(
            f"{name}: {_WHEN[way]}" for way, name in _WORDS["method"].choices.items()
        )
        self.when = caption()
        self.progress = ProgressRow(runner)
        self.bar = QualityBar()
        self.next_button = button(
            "Next slice",
            self.next.emit,
            "Look at the slice to paint next: the one with most in doubt; before you painted any, the largest.",
        )
        self.between_button = button(
            "Fill between slices", lambda: self.fill.emit(True), "Fill the object between the slices that you painted."
        )
        self.volume_button = button(
            "Fill the volume",
            lambda: self.fill.emit(False),
            "Fill the object from the slices that you painted, beyond the outermost ones too.",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form(**self.options.rows()))
        self.options.offer("method", _WHEN)  # once it is laid out: magicgui offers all again where a parent changes
        layout.addWidget(self.when)
        layout.addLayout(row(self.between_button, self.volume_button))
        layout.addWidget(self.progress)
        line = row(self.bar, self.next_button)
        line.setStretch(0, 1)
        layout.addLayout(line)
        self.bar.show_quality(None)
        self.progress.hide()
        self.options.changed.connect(self._update)
        runner.busy.connect(self._on_busy)
        self._update()

    @property
    def config(self) -> PropagateConfig:
        """How objects are filled."""
        return self.options.config

    def set_ready(self, *, has_object: bool, painted: int) -> None:
        """painted: the slices of the object that are painted."""
        self.next_button.setEnabled(has_object)
        self._painted = painted
        self._update()

    def _on_busy(self, busy: bool) -> None:
        self.progress.setVisible(busy)
        self._update()

    def _update(self) -> None:
        method = self.config.method
        self.when.setText(_WHEN[method])
        self.options.show("minutes", method == "learn")
        waits = method == "learn" and self._runner.is_busy
        self.between_button.setEnabled(self._painted > 1 and not waits)
        self.volume_button.setEnabled(self._painted > 0 and not waits)


def _between(value: float) -> QColor:
    parts = [w + (s - w) * value for w, s in zip(_WEAK.getRgbF(), _SURE.getRgbF(), strict=True)]
    return QColor.fromRgbF(*parts)
