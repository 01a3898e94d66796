"""The Suggest panel: what to annotate next in the images of the viewer, as a list that jumps to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout

import napari_medseg as ms
from napari_medseg.arrays.views import onto
from napari_medseg.config import SuggestConfig
from napari_medseg.doubt.candidates import Suggestion
from napari_medseg.events import Event, Finished, Notice
from napari_medseg.models.file import Model
from napari_medseg.transforms.annotated import painted_slices
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import placement, to_segmentation, to_volume
from napari_medseg.widgets.canvas.slice_in_view import turn_across
from napari_medseg.widgets.fields.channel_rows import ChannelRows
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, tell
from napari_medseg.widgets.fields.layer_box import WAITS_FOR_IMAGE
from napari_medseg.widgets.fields.model_box import ModelBox
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

if TYPE_CHECKING:
    from napari import Viewer

_WORDS = {
    "kind": Words("Suggest", {"slice": "slices", "region": "places that deserve a look", "case": "whole images"}),
    "count": Words("How many"),
    "by": Words("By", {"both": "doubt and diversity", "doubt": "doubt", "diversity": "diversity"}),
    "axis": Words("Slices along", {"auto": "the coarsest axis", "z": "z", "y": "y", "x": "x"}),
    "region_mm": Words("Edge of a place"),
    "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
    "overlap": Words("Overlap"),
}
_VISIBLE, _CHANNELS = "Looks at every visible image.", "Looks at the image with these channels."
_PAINTED = "Slices that are painted in a labels layer are annotated already."
_SUGGESTION = Qt.ItemDataRole.UserRole
_SHOWN_ROWS = 8
"""Rows of the list that are seen without scrolling."""


class SuggestPanel(Panel):
    """Lists what to annotate next. A click on a row jumps there."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._layers: dict[str, Image] = {}
        """{image of the run: its layer, the first of several channels}."""
        self.models = ModelBox(Background(self).ask)
        self.options = ConfigForm(SuggestConfig, ("kind", "count"), _WORDS)
        self.list = QListWidget()
        self.list.setToolTip("What to annotate next, the best first. A click on a row shows the place.")
        self.list.setWordWrap(True)
        self.list.setSpacing(2)
        self.list.setMinimumHeight(_SHOWN_ROWS * self.list.fontMetrics().lineSpacing() * 2)
        self.waits, self.report = caption(), caption()
        self.runner = Runner(self)
        self.progress = ProgressRow(self.runner)
        self.run_button = button("Suggest", self.suggest, "List what to annotate next, the best first.")
        layout = QVBoxLayout(self)
        self.about, rows = caption(), form(Model=self.models, **self.options.rows())
        tooltip = "A channel of the image to look at."
        self.channels = ChannelRows(napari_viewer, rows, tooltip, self._update, first=1)
        layout.addWidget(self.about)
        layout.addLayout(rows)
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.waits)
        layout.addWidget(self.run_button)
        layout.addWidget(self.progress)
        layout.addWidget(self.report)
        layout.addWidget(self.list, stretch=1)
        self.use_keys(self.run_button, self.runner.cancel)
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update)
        self.models.model_changed.connect(self._follow_model)
        self.list.itemClicked.connect(self._jump)
        self.list.itemActivated.connect(self._jump)
        for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
            event.connect(self._update)
        Background(self).ask_when_settled(devices_seen, partial(self.options.offer, "device"))
        self._follow_model(self.models.model)

    @property
    def images(self) -> list[list[Image]]:
        """The images that are looked at, each with a layer for each channel."""
        if self.channels.boxes:
            chosen = [box.layer for box in self.channels.boxes]
            return [] if None in chosen else [chosen]
        return [[layer] for layer in self._viewer.layers if isinstance(layer, Image) and layer.visible]

    def _follow_model(self, model: Model | None) -> None:
        """A row for each channel where there are several: which layers belong together is then the user's to say."""
        names = [channel.name for channel in model.spec.channels] if model else []
        several = len(names) > 1
        self.channels.follow(names if several else [])
        self.about.setText(f"{_CHANNELS if several else _VISIBLE} {_PAINTED}")
        self.order_tabs()
        self._update()

    def suggest(self) -> None:
        """Start the run; the list is filled at its end."""
        model = self.models.model
        assert model is not None, "the button is off without a model"
        with reporting():
            among, images = list(self._viewer.layers), self.images
            self._layers = {layers[0].name: layers[0] for layers in images}
            volumes = [to_volume(layers, among) for layers in images]
            labels = [to_segmentation(layer, among) for layer in among if isinstance(layer, Labels)]
            named = [replace(volume, name=name) for name, volume in zip(self._layers, volumes, strict=True)]
            tell(self.report, "")
            self.list.clear()
            self.runner.start(partial(_suggested, named, model, labels, self.options.config), "Suggest")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            tell(self.report, event.message)
        elif isinstance(event, Finished):
            for one in event.result:
                item = QListWidgetItem(f"{one.case}: {one.place}\n{one.reason}")
                item.setData(_SUGGESTION, one)
                self.list.addItem(item)
            if not event.result:
                tell(self.report, "Nothing is left to annotate.")

    def _jump(self, item: QListWidgetItem) -> None:
        """Show the voxel to look at first."""
        one: Suggestion = item.data(_SUGGESTION)
        layer = self._layers[one.case]
        if layer in self._viewer.layers:
            if one.axis is not None:
                _show_slices_along(self._viewer, layer, one.axis)
            show_voxel(self._viewer, layer, one.centre, list(self._viewer.layers))

    def _update(self, _: object = None) -> None:
        missing = ""
        if not self.images:
            missing = WAITS_FOR_IMAGE
        elif self.models.model is None:
            missing = "Waits for a model: choose one, or train one."
        tell(self.waits, missing)
        self.progress.follow(self.models.model, *self.images)
        self.run_button.setEnabled(not missing and not self.runner.is_busy)


def _show_slices_along(viewer: Viewer, layer: Image, axis: int) -> None:
    """Turn the view to slices along an axis of the stored array."""
    if viewer.dims.ndisplay == 2:
        turn_across(viewer.dims, placement(layer, list(viewer.layers)), axis)


def _suggested(
    volumes: Sequence[Volume], model: Model, labels: Sequence[Segmentation], config: SuggestConfig
) -> Iterator[Event]:
    """In the worker: the events of `iter_suggest`, with the slices that are painted in labels on the same grid."""
    from napari_medseg.doubt.candidates import axis_of

    annotated: dict[str, set[int]] = {}
    for volume in volumes:
        axis = axis_of(volume.grid, config.axis)
        ours = [onto(one, volume.grid) for one in labels]
        found = [painted_slices(one) for one in ours if one.grid.same_as(volume.grid)]
        annotated[volume.name] = {k for one in found if one is not None and one.axis == axis for k in one.indices}
    yield from ms.iter_suggest(volumes, model, annotated=annotated, config=config)
