"""The Resample panel: a layer onto the grid of another, so that the two can be compared and trained on together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtWidgets import QVBoxLayout

from napari_medseg.config import Knob
from napari_medseg.events import Event, Finished, finishing
from napari_medseg.transforms.regrid import Interpolation, resampling_onto
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import labels_layer, placement, to_segmentation, to_volume, volume_layer
from napari_medseg.widgets.fields.config_form import Words, knob_widget
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, form, reporting
from napari_medseg.widgets.fields.layer_box import LayerBox
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

_INTERPOLATION = Knob(
    name="interpolation",
    kind=Interpolation,
    default="linear",
    doc="Linear interpolates the values of images, and for labels the mask of each label. Both keep label ids.",
)
_WORDS = Words("Interpolation", {"linear": "linear", "nearest": "nearest voxel"})


class ResamplePanel(Panel):
    """Makes a new layer: the chosen one on the grid of another."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._shown_with: list[Layer] = []
        """The layers whose place the new one gets, the first first."""
        self.layer = LayerBox(napari_viewer, (Image, Labels), "The layer to resample; it stays as it is.")
        self.onto = LayerBox(
            napari_viewer, (Image, Labels), "The layer whose grid the new one gets.", unlike=self.layer
        )
        self.interpolation = knob_widget(_INTERPOLATION, _WORDS)
        self.runner = Runner(self)
        self.progress = ProgressRow(self.runner)
        self.grids = caption()
        self.resample_button = button("Resample", self.resample, "Make a new layer on the other layer's grid.")
        layout = QVBoxLayout(self)
        layout.addLayout(form(Layer=self.layer, Onto_the_grid_of=self.onto, Interpolation=self.interpolation.native))
        layout.addWidget(self.grids)
        layout.addWidget(self.resample_button)
        layout.addWidget(self.progress)
        layout.addStretch(1)
        self.use_keys(self.resample_button, self.runner.cancel)
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update)
        for box in (self.layer, self.onto):
            box.layer_changed.connect(self._update)
        self._update()

    def resample(self) -> None:
        """Start the work; its layer is added at the end."""
        with reporting():
            source = self._noun(self.layer.layer)
            named = replace(source, name=f"{self.layer.layer.name} on {self.onto.layer.name}")
            grid, interpolation = self._grid(self.onto.layer), self.interpolation.value
            self._shown_with = [self.onto.layer, *self._viewer.layers]
            self.runner.start(lambda: finishing(resampling_onto(named, grid, interpolation)), "Resample")

    def _noun(self, layer: Image | Labels) -> Volume | Segmentation:
        among = list(self._viewer.layers)
        return to_segmentation(layer, among) if isinstance(layer, Labels) else to_volume(layer, among)

    def _grid(self, layer: Image | Labels) -> Grid:
        return placement(layer, list(self._viewer.layers)).grid

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Finished) and isinstance(event.result, Segmentation):
            data, arguments, _ = labels_layer(event.result, self._shown_with)
            self._viewer.add_labels(data, **arguments)
        elif isinstance(event, Finished):
            data, arguments, _ = volume_layer(event.result, self._shown_with)[0]
            self._viewer.add_image(data, **arguments)

    def _update(self, _: object = None) -> None:
        layers = (self.layer.layer, self.onto.layer)
        self.progress.follow(*layers)
        ready = all(layer is not None for layer in layers) and layers[0] is not layers[1]
        self.resample_button.setEnabled(ready and not self.runner.is_busy)
        with reporting():
            lines = [f"{layer.name}: {self._grid(layer).describe()}" for layer in layers] if ready else []
            self.grids.setText("\n".join(lines) or "Waits for two layers, one for each place.")
