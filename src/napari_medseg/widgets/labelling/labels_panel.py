"""The Labels panel: the labels of one layer, their names and sizes, and steps that make them better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtWidgets import QTabWidget, QVBoxLayout
from superqt.utils import qdebounced

from napari_medseg.config import CleanConfig, ObjectsConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Progress, Work
from napari_medseg.metrics import SizeRow, middle_voxel
from napari_medseg.metrics.descriptive.sizes import size_table_in_steps
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import (
    Placement,
    labels_layer,
    largest_label,
    placement,
    to_segmentation,
    to_volume,
)
from napari_medseg.widgets.canvas.slice_in_view import axis_in_view
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import caption, form, reporting
from napari_medseg.widgets.fields.layer_box import Connections, LayerBox
from napari_medseg.widgets.labelling.cleaning_box import CleaningBox
from napari_medseg.widgets.labelling.layer_labels import (
    Edit,
    full_colours,
    hidden_labels,
    rename,
    show_colours,
    with_hidden,
)
from napari_medseg.widgets.labelling.objects_box import ObjectsBox
from napari_medseg.widgets.labelling.size_table import SizeTable
from napari_medseg.widgets.labelling.two_clicks import TwoClicks
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.progress_row import ProgressRow

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.geometry import Shape3

_PAUSE_MS = 250
"""The table is filled again when the brush has rested for this time."""
_NAMED = 3
"""Chosen labels that are named; more are counted."""
_NO_LAYER = "Open or paint a Labels layer: its labels are listed here."
_NO_LABEL = "The layer holds no label yet: paint one."


class LabelsPanel(Panel):
    """Lists the labels of a layer, and changes them: names, what is shown, voxels."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._hidden: frozenset[int] = frozenset()
        self._connections = Connections((), self._soon)
        self.layer = LayerBox(napari_viewer, Labels, "The layer whose labels are listed.")
        self.image = LayerBox(napari_viewer, Image, "The image whose mean inside each label is shown.")
        self.hint = caption()
        self.table = SizeTable()
        self.cleaning, self.objects = CleaningBox(), ObjectsBox()
        self._clicks: TwoClicks | None = None
        self.looking, self.colouring = Background(self), Background(self)
        self.counting, self.working = Background(self), Background(self, "Labels")
        self.progress = ProgressRow(self.working.runner)
        self.done = caption()
        self._fill_soon = qdebounced(self.fill, timeout=_PAUSE_MS, parent=self)
        layout = QVBoxLayout(self)
        layout.addLayout(form(Labels=self.layer, Image=self.image))
        layout.addWidget(self.hint)
        layout.addWidget(self.table, stretch=1)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.cleaning, "Clean")
        self.tabs.addTab(self.objects, "Objects")
        for widget in (self.tabs, self.progress, self.done):
            layout.addWidget(widget)
        self._connect()
        self._on_layer(self.layer.layer)

    def _connect(self) -> None:
        self.layer.layer_changed.connect(self._on_layer)
        self.image.layer_changed.connect(self._soon)
        self.table.sizes.renamed.connect(self._rename)
        self.table.sizes.shown.connect(self._show)
        self.table.jump.connect(self.jump)
        self.table.labels_chosen.connect(self._on_choice)
        self.cleaning.asked.connect(self.clean)
        self.objects.number.connect(self.number)
        self.objects.change.connect(self.change)
        self.objects.pick.connect(self._pick)
        self.working.runner.busy.connect(self._update)

    def fill(self) -> None:
        """Count the labels in the background, and list them."""
        layer = self.layer.layer
        if layer is None:
            self._list((), None)
            return
        with reporting():
            segmentation = to_segmentation(layer, self._among)
            image, why = self._image_on(segmentation)
            work = partial(size_table_in_steps, segmentation, image)
            self.counting.ask_in_steps(work, partial(self._take, layer, why))

    def jump(self, label: int) -> None:
        """Centre the view on a label."""
        layer = self.layer.layer
        with reporting():
            find = partial(middle_voxel, to_segmentation(layer, self._among), label)
            self.looking.ask(find, partial(self._look_at, layer))

    def clean(self, title: str, knobs: Mapping[str, Any]) -> None:
        """Do a step to the chosen labels in the background. knobs: fields of CleanConfig."""
        layer = self.layer.layer
        with reporting():
            place = placement(layer, self._among)
            config = CleanConfig(labels=tuple(self.table.chosen), **knobs)
            if config.interpolate == "auto":
                config = replace(config, interpolate=self._axis_looked_along(place))
            work = partial(_edit, to_segmentation(layer, self._among), config, place)
            self.done.setText("")
            self.working.ask_in_steps(work, partial(self._apply, layer, title))

    def number(self, config: ObjectsConfig) -> None:
        """Number the objects of the layer in the background; a new layer shows them."""
        layer = self.layer.layer
        with reporting():
            self.done.setText("")
            work = partial(_numbered, to_segmentation(layer, self._among), config)
            self.working.ask_in_steps(work, partial(self._add, layer))

    def change(self, title: str, seeds: Sequence[Shape3] = ()) -> None:
        """Delete, merge or split the chosen objects in the background. seeds: voxels between which one is split."""
        layer = self.layer.layer
        with reporting():
            change = partial(_CHANGES[title], ids=tuple(self.table.chosen), seeds=seeds)
            work = partial(_changed, to_segmentation(layer, self._among), change, placement(layer, self._among))
            self.done.setText("")
            self.working.ask_in_steps(work, partial(self._apply, layer, title))

    def _pick(self, wanted: bool) -> None:
        """Wait for two clicks into the layer, or no longer."""
        layer = self.layer.layer
        if self._clicks is not None:
            self._clicks.stop()
            self._clicks = None
        if wanted and layer is not None:
            self._clicks = TwoClicks(layer, self._among, self._on_clicks)
        self._update()

    def _on_clicks(self, label: int, voxels: list[Shape3]) -> None:
        self.objects.pick_button.setChecked(False)
        self.table.choose(label)
        self.change("Split", voxels)

    def _add(self, layer: Labels, made: tuple[Segmentation, int]) -> None:
        """Show the objects of a layer, and list them. made: the objects, and how many there are."""
        found, count = made
        data, arguments, _ = labels_layer(replace(found, name=f"{layer.name} objects"), [layer, *self._among])
        self.layer.choose(self._viewer.add_labels(data, **arguments))
        layer.visible = False
        self.done.setText(f"{count:,} objects, in a layer of their own.")

    @property
    def _among(self) -> list[Any]:
        return list(self._viewer.layers)

    def _image_on(self, segmentation: Segmentation) -> tuple[Volume | None, str]:
        """The chosen image where it lies on the labels; and why it has no means otherwise."""
        layer = self.image.layer
        if layer is None:
            return None, ""
        if layer.rgb:
            return None, f"{layer.name} has no single grey value a voxel, and gives no means."
        try:
            image = to_volume(layer, self._among)
        except InputError as error:
            return None, f"no means: {error}"
        if image.grid.order_onto(segmentation.grid) is None:
            return None, f"{layer.name} lies on another grid, and gives no means: resample it first."
        return image, ""

    def _axis_looked_along(self, place: Placement) -> Any:
        """The axis of the array that the slider moves along; "auto" in 3D."""
        dims = self._viewer.dims
        return "auto" if dims.ndisplay != 2 or len(place.axes) < 3 else "zyx"[axis_in_view(dims, place)]

    def _on_layer(self, layer: Labels | None) -> None:
        self._connections.disconnect()
        self.objects.pick_button.setChecked(False)
        self._hidden = frozenset() if layer is None else hidden_labels(layer)
        if layer is not None:
            events = layer.events
            self._connections = Connections(
                (events.paint, events.data, events.features, events.colormap, events.set_data), self._on_edit
            )
            self.destroyed.connect(self._connections.disconnect)
        self.done.setText("")
        self.progress.follow(layer)
        self.fill()

    def _on_edit(self, event: Any) -> None:
        # Undo emits set_data, and so does a slider. A store on the disk is not read again for a slider.
        if event.type != "set_data" or isinstance(event.source.data, np.ndarray):
            self._soon()

    def _soon(self, _event: object = None) -> None:
        self._fill_soon()

    def _take(self, layer: Labels, why: str, rows: tuple[SizeRow, ...]) -> None:
        if layer is self.layer.layer:
            self._list(rows, layer, why)

    def _list(self, rows: tuple[SizeRow, ...], layer: Labels | None, why: str = "") -> None:
        text = why if rows else _NO_LABEL if layer is not None else _NO_LAYER
        self.hint.setText(escape(text))
        self.hint.setVisible(bool(text))
        self.table.sizes.show(rows, self._hidden, None if layer is None else full_colours(layer).map)
        self._update()

    def _rename(self, label: int, name: str) -> None:
        rename(self.layer.layer, label, name)
        self.fill()

    def _show(self, label: int, is_shown: bool) -> None:
        layer = self.layer.layer
        self._hidden = self._hidden - {label} if is_shown else self._hidden | {label}
        full, labels = full_colours(layer), [row.label for row in self.table.sizes.rows]
        made = partial(with_hidden, full, labels, self._hidden, layer.dtype)
        self.table.sizes.show(self.table.sizes.rows, self._hidden, full.map)
        self.colouring.ask(made, partial(show_colours, layer, full))

    def _look_at(self, layer: Labels, voxel_zyx: Shape3) -> None:
        if layer in self._viewer.layers:
            show_voxel(self._viewer, layer, voxel_zyx, self._among)

    def _on_choice(self) -> None:
        chosen, layer = self.table.chosen, self.layer.layer
        if len(chosen) == 1 and chosen[0] <= largest_label(layer):
            layer.selected_label = chosen[0]
        self._update()

    def _apply(self, layer: Labels, title: str, edit: Edit) -> None:
        changed = edit.apply(layer) if layer in self._viewer.layers else 0
        what = f"{changed:,} voxels changed. Ctrl+Z takes it back." if changed else "nothing to change."
        self.done.setText(f"{title}: {what}")
        self.fill()

    def _update(self, _: object = None) -> None:
        names = {row.label: row.name for row in self.table.sizes.rows}
        chosen = [names[label] for label in self.table.chosen]
        busy = self.working.runner.is_busy
        self.cleaning.set_ready(chosen[:_NAMED], len(chosen), busy=busy)
        self.objects.set_ready(chosen[:_NAMED], len(chosen), there=bool(names), busy=busy)


def _edit(segmentation: Segmentation, config: CleanConfig, place: Placement) -> Work[Edit]:
    """In the worker: clean a copy, since the user may paint meanwhile; and see what differs."""
    from napari_medseg.refinement.cleaning import clean_in_steps

    before = replace(segmentation, data=np.array(segmentation.data[:, :, :]))
    after = yield from clean_in_steps(before, config)
    return Edit.between(before, after, place)


def _numbered(segmentation: Segmentation, config: ObjectsConfig) -> Work[tuple[Segmentation, int]]:
    """In the worker: number the objects, of a copy where the user may paint meanwhile."""
    from napari_medseg.inference.objects.instances import instances_in_steps

    if isinstance(segmentation.data, np.ndarray):
        segmentation = replace(segmentation, data=segmentation.data.copy())
    found = yield from instances_in_steps(segmentation, config)
    return found, int(np.asarray(found.data).max(initial=0))


def _changed(
    segmentation: Segmentation, change: Callable[[Segmentation], Segmentation], place: Placement
) -> Work[Edit]:
    """In the worker: change a copy, and see what differs."""
    before = replace(segmentation, data=np.array(segmentation.data[:, :, :]))
    yield Progress(0, 1, "objects")
    return Edit.between(before, change(before), place)


def _deleted(segmentation: Segmentation, *, ids: Sequence[int], seeds: Sequence[Shape3]) -> Segmentation:
    from napari_medseg.refinement.objects import delete_objects

    return delete_objects(segmentation, ids)


def _merged(segmentation: Segmentation, *, ids: Sequence[int], seeds: Sequence[Shape3]) -> Segmentation:
    from napari_medseg.refinement.objects import merge_objects

    return merge_objects(segmentation, ids)


def _split(segmentation: Segmentation, *, ids: Sequence[int], seeds: Sequence[Shape3]) -> Segmentation:
    from napari_medseg.refinement.objects import split_object

    return split_object(segmentation, ids[0], seeds)


_CHANGES: Mapping[str, Callable[..., Segmentation]] = MappingProxyType(
    {"Delete": _deleted, "Merge": _merged, "Split": _split}
)
"""{title of a step for chosen objects: what does it}."""
