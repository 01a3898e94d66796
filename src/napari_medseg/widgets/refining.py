"""The Refine panel: a refiner makes the labels of a layer better, and the user compares before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout

from napari_medseg.config import RefineConfig
from napari_medseg.errors import MedsegError
from napari_medseg.events import Work
from napari_medseg.models.file import Model
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.layers import Placement, placement, to_segmentation, to_volume
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, row
from napari_medseg.widgets.fields.layer_box import LayerBox
from napari_medseg.widgets.fields.model_box import ModelBox
from napari_medseg.widgets.labelling.layer_labels import Edit
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow

if TYPE_CHECKING:
    from napari import Viewer

_WORDS = {
    "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
    "labels": Words("Labels to change"),
}
_NO_REFINER = "{} segments images. A refiner is trained from its errors: scheme boundary-patch or point-rend."
_NO_LAYERS = "Waits for a Labels layer, an image and a refiner."


class RefinePanel(Panel):
    """Makes the labels of a layer better along their boundaries, in place: one step of the layer's history."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._edit: Edit | None = None
        """What the last run changed in the layer, until another layer is chosen or the change is taken back."""
        self.layer = LayerBox(napari_viewer, Labels, "The labels to make better.")
        self.images: list[LayerBox] = []
        self.models = ModelBox(Background(self).ask, with_sample=False)
        self.options = ConfigForm(RefineConfig, (), _WORDS)
        self.hint = caption()
        self.working = Background(self, "Refine")
        self.progress = ProgressRow(self.working.runner)
        self.refine_button = button(
            "Refine", self.refine, "Make the labels of this layer better. Ctrl+Z takes it back."
        )
        self.before_button = button("Show before", self.compare, "Show the labels as they were; again to see them now.")
        self.before_button.setCheckable(True)
        self.undo_button = button("Undo", self.undo, "Take back what the last run changed; later paint stays.")
        self.done = caption()
        self._form: QFormLayout = form(Labels=self.layer)
        self._lay_out()
        self._connect()
        self._follow_model(self.models.model)

    def _lay_out(self) -> None:
        assert self.options.advanced is not None, "its knobs are folded"
        layout = QVBoxLayout(self)
        layout.addLayout(form(Refiner=self.models))
        layout.addLayout(self._form)
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.hint)
        layout.addWidget(self.refine_button)
        layout.addWidget(self.progress)
        layout.addWidget(self.done)
        layout.addLayout(row(self.before_button, self.undo_button))
        layout.addStretch(1)
        self.use_keys(self.refine_button, self.working.runner.cancel)

    def _connect(self) -> None:
        self.models.model_changed.connect(self._follow_model)
        self.layer.layer_changed.connect(self._forget)
        self.working.runner.busy.connect(self._update)
        Background(self).ask_when_settled(devices_seen, partial(self.options.offer, "device"))

    def refine(self) -> None:
        """Start the run; it works on a copy, since the user may paint meanwhile."""
        layer, model = self.layer.layer, self.models.model
        assert model is not None, "the button is off without a refiner"
        self._forget()
        with reporting():
            place = placement(layer, self._among)
            volume = to_volume([box.layer for box in self.images], self._viewer.layers)
            work = partial(_edited, volume, to_segmentation(layer, self._among), model, self.options.config, place)
            self.working.ask_in_steps(work, partial(self._apply, layer))

    def compare(self) -> None:
        """Show the labels as they were before the last run, or as they are now."""
        if self._edit is not None:
            self._edit.show(self.layer.layer, before=self.before_button.isChecked())

    def undo(self) -> None:
        """Take back what the last run changed."""
        edit, layer = self._edit, self.layer.layer
        if edit is None:
            return
        self._forget()  # the labels are shown as they are now
        edit.reversed().apply(layer)
        self.done.setText("Taken back.")

    @property
    def _among(self) -> list[Any]:
        return list(self._viewer.layers)

    def _follow_model(self, model: Model | None) -> None:
        """As many image rows as the refiner has channels."""
        names = [channel.name for channel in model.spec.channels] if model else [""] * max(1, len(self.images))
        while len(self.images) > len(names):
            self._form.removeRow(len(self.images))
            self.images.pop()
        while len(self.images) < len(names):
            box = LayerBox(self._viewer, Image, "The image that the labels lie on.")
            box.layer_changed.connect(self._update)
            self._form.insertRow(1 + len(self.images), QLabel(), box)
            self.images.append(box)
        for box, name in zip(self.images, names, strict=True):
            self._form.labelForField(box).setText(name if name and len(names) > 1 else "Image")
        self.order_tabs()
        self._update()

    def _apply(self, layer: Labels, edit: Edit) -> None:
        changed = edit.apply(layer) if layer in self._viewer.layers else 0
        self._edit = edit if changed and layer is self.layer.layer else None
        self.done.setText(
            f"{changed:,} voxels changed. Ctrl+Z takes it back." if changed else "The refiner changed nothing."
        )
        self._update()

    def _forget(self, _: object = None) -> None:
        """The last run is over: its change stays as it is shown."""
        if self._edit is not None and self.before_button.isChecked() and self.layer.layer in self._viewer.layers:
            self._edit.show(self.layer.layer, before=False)
        self._edit = None
        self.before_button.setChecked(False)
        self.done.setText("")
        self._update()

    def _update(self, _: object = None) -> None:
        model = self.models.model
        hint = self._why_not(model)
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))
        self.progress.follow(model, self.layer.layer, *to_layers(self.images))
        busy = self.working.runner.is_busy
        self.refine_button.setEnabled(not hint and not busy)
        for made in (self.before_button, self.undo_button):
            made.setEnabled(self._edit is not None and not busy)

    def _why_not(self, model: Model | None) -> str:
        """Why nothing can be refined yet; empty where all is there."""
        if model is not None and model.spec.refines is None:
            return _NO_REFINER.format(model.path.stem)
        if model is None or self.layer.layer is None or any(box.layer is None for box in self.images):
            return _NO_LAYERS
        return self._grids_differ(to_layers(self.images))

    def _grids_differ(self, images: Sequence[Image]) -> str:
        try:
            labels = placement(self.layer.layer, self._among).grid
            image = placement(images[0], self._among).grid
        except MedsegError as error:
            return str(error)
        if labels.order_onto(image) is None:
            return f"{self.layer.layer.name} and {images[0].name} lie on different grids: resample one first."
        return ""


def to_layers(boxes: Sequence[LayerBox]) -> list[Image]:
    """The layers that boxes show."""
    return [box.layer for box in boxes]


def _edited(
    volume: Volume, segmentation: Segmentation, model: Model, config: RefineConfig, place: Placement
) -> Work[Edit]:
    """In the worker: refine a copy, and see what differs."""
    from napari_medseg.refinement.refining import refine_in_steps

    before = replace(segmentation, data=np.array(segmentation.data[:, :, :]))
    after = yield from refine_in_steps(volume, before, model, config)
    order = after.grid.order_onto(before.grid)
    assert order is not None, "the core has compared the grids"
    return Edit.between(before, replace(after, data=order.apply(np.asarray(after.data)), grid=before.grid), place)
