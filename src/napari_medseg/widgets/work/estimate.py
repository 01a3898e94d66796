"""What a run would take, shown before it: worked out in the background while the user chooses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_medseg.errors import MedsegError
from napari_medseg.widgets.fields.forms import caption
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari_medseg.config import SegmentConfig
    from napari_medseg.models.file import Model
    from napari_medseg.volume import Volume

    Question = tuple[Volume, Model, SegmentConfig]

_SETTLED_MS = 300
"""A run is estimated once the user has changed nothing for this time: a spin box turned asks many times."""


class Estimate(QWidget):
    """One line: device, windows, memory; or why the choices do not go together."""

    def __init__(self) -> None:
        super().__init__()
        self.text = caption()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        self._question: Question | None = None
        self._background = Background(self)
        self._work_soon = qdebounced(self._work, timeout=_SETTLED_MS, parent=self)

    def ask(self, volume: Volume, model: Model, config: SegmentConfig) -> None:
        """Estimate this run soon."""
        self._question = (volume, model, config)
        self._work_soon()

    def clear(self, text: str = "") -> None:
        """Show this text and estimate nothing."""
        self._work_soon.cancel()
        self._question = None
        self.text.setText(text)

    def _work(self) -> None:
        assert self._question is not None, "without a question nothing is waited for"
        self._background.ask(partial(_answer, self._question), partial(self._show, self._question))

    def _show(self, question: Question, text: str) -> None:
        if question is self._question:  # else the user changed a choice meanwhile
            self.text.setText(text)


def _answer(question: Question) -> str:
    """In the worker, which is also where torch is first loaded."""
    from napari_medseg.inference import estimate

    try:
        return estimate(*question)
    except MedsegError as error:
        return str(error)
