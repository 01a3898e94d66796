"""What a run would take, said before it: worked out in the background while the user chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.errors import MedsegError
from napari_medseg.widgets.fields.forms import caption

if TYPE_CHECKING:
    from napari_medseg.config import SegmentConfig
    from napari_medseg.models.file import Model
    from napari_medseg.volume import Volume

    Question = tuple[Volume, Model, SegmentConfig]

_SETTLED_MS = 300
"""Questions asked faster than this (a spin box turned) are answered once, the last one."""


class Estimate(QWidget):
    """One line: device, windows, memory; or why the choices do not go together."""

    def __init__(self) -> None:
        super().__init__()
        self.text = caption()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        self._question: Question | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLED_MS)
        self._timer.timeout.connect(self._work)

    def ask(self, volume: Volume, model: Model, config: SegmentConfig) -> None:
        """Estimate this run soon."""
        self._question = (volume, model, config)
        self._timer.start()

    def clear(self, text: str = "") -> None:
        """Show this text and estimate nothing."""
        self._timer.stop()
        self._question = None
        self.text.setText(text)

    def _work(self) -> None:
        assert self._question is not None
        worker = create_worker(_answer, self._question)
        worker.returned.connect(self._show)
        worker.start()

    def _show(self, answer: tuple[Question, str]) -> None:
        question, text = answer
        if question is self._question:  # else another was asked meanwhile
            self.text.setText(text)


def _answer(question: Question) -> tuple[Question, str]:
    """In the worker, which is also where torch is first loaded."""
    from napari_medseg.inference import estimate

    try:
        return question, estimate(*question)
    except MedsegError as error:
        return question, str(error)
