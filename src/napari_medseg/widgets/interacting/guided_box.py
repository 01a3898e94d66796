"""Choosing a network that takes what a user draws: R-Net corrects labels by prompts, a memory network fills slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_medseg.errors import ModelFileError
from napari_medseg.models.file import Model, list_models, load_model, models_folder
from napari_medseg.widgets.fields.forms import button, choice, row

CORRECTS, FILLS = "deepigeos_rnet", "mem3d"
"""The networks of the registry that a user guides."""


class GuidedBox(QWidget):
    """A drop-down of the guided models in the models folder, and a button; hidden where there is none.

    ask: see `ModelBox`. `asked` is emitted by the button: correct with the chosen model. `changed` carries the Model,
    or None.
    """

    asked = Signal()
    changed = Signal(object)

    def __init__(self, ask: Callable[[Callable[[], Any], Callable[[Any], None]], None]) -> None:
        super().__init__()
        self._ready = False
        self.box = choice({}, f"Networks of {models_folder()} that take what you draw.")
        self.button = button("Correct with it", self.asked.emit, "Correct the labels by what was drawn and the model.")
        line = row(self.box, self.button)
        line.setStretch(0, 1)
        self.setLayout(line)
        self.show_models(())
        self.box.currentIndexChanged.connect(self._on_choice)
        ask(guided_models, self.show_models)

    @property
    def model(self) -> Model | None:
        model: Model | None = self.box.currentData()
        return model

    @property
    def fills(self) -> Model | None:
        """The chosen model where it is one that fills slices."""
        return self.model if self.model is not None and self.model.spec.network == FILLS else None

    def show_models(self, models: Sequence[Model]) -> None:
        """Offer these; at first none is chosen."""
        self.box.clear()
        self.box.addItem("without a network", None)
        for model in models:
            does = "fills slices" if model.spec.network == FILLS else "corrects labels"
            self.box.addItem(f"{model.path.stem} ({does})", model)
        self.setVisible(bool(models))
        self._on_choice()

    def set_ready(self, ready: bool) -> None:
        """ready: whether there is something to correct."""
        self._ready = ready
        corrects = self.model is not None and self.model.spec.network == CORRECTS
        self.button.setVisible(corrects)
        self.button.setEnabled(corrects and ready)

    def _on_choice(self, _index: int = 0) -> None:
        self.set_ready(self._ready)
        self.changed.emit(self.model)


def guided_models() -> list[Model]:
    """In the worker: the models of the models folder that a user guides; what is no model is left out."""
    found = []
    for path in list_models():
        with suppress(ModelFileError):  # the Segment panel says why it is none
            model = load_model(path)
            if model.spec.network in (CORRECTS, FILLS):
                found.append(model)
    return found
