"""A drop-down of the viewer's layers of one type."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy

from napari_medseg.widgets.fields.forms import NarrowBox

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer
    from napari.utils.events import EventEmitter


WAITS_FOR_IMAGE = "Waits for an image: open a file, or File > Open Sample > Medical segmentation."
"""What a panel says that has no image to work on."""
LEFT_OUT = "none: left out"
"""What a box shows in which no layer is meant."""


class LayerBox(NarrowBox):
    """Follows layers as they are added, removed, renamed and reordered; the chosen layer stays chosen.

    `layer_changed` carries the chosen layer, or None, when it becomes another. `layers` are those to choose from.
    first: which of some layers, the top one first, is chosen at first; by default the top one. unlike: until the user
    chooses, choose another layer than that box, if there is one. beside(layer, the other box's): until the user
    chooses, choose one of which it is true, if there is one. without: layers that are not offered.
    """

    layer_changed = Signal(object)

    def __init__(
        self,
        viewer: Viewer,
        kind: type[Layer] | tuple[type[Layer], ...],
        tooltip: str = "",
        *,
        first: Callable[[Sequence[Layer]], Layer] = itemgetter(0),
        unlike: LayerBox | None = None,
        beside: Callable[[Layer, Layer], bool] = lambda _layer, _other: True,
        without: Callable[[], Container[Layer]] = tuple,
    ) -> None:
        super().__init__()
        self._without = without
        self._unlike, self._beside = unlike, beside
        self._first_of = first
        self.follows_opened = False
        """Whether each layer that is opened is chosen, until the user chooses."""
        self._kinds = kind if isinstance(kind, tuple) else (kind,)
        self.layers: list[Layer] = []
        self._list = viewer.layers
        self._chosen: Layer | None = None
        self._chosen_by_user = False
        self._offers_none = False
        self.left_out = False
        """Whether the user wants none of the layers."""
        self._tooltip = tooltip
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.currentIndexChanged.connect(self._on_choice)
        self.activated.connect(self._on_choice)  # also where the user confirms the layer that is shown
        events = viewer.layers.events
        self._connections = Connections(
            (events.inserted, events.removed, events.reordered, events.renamed), self._on_layers
        )
        self.destroyed.connect(self._connections.disconnect)
        if unlike is not None:
            unlike.layer_changed.connect(self.refresh)
        self.refresh()

    @property
    def layer(self) -> Any:
        """The chosen layer; None while the viewer has no layer of the type, and where it is left out."""
        return self._chosen

    def offer_none(self, offered: bool) -> None:
        """Whether the user may want none of the layers."""
        if offered != self._offers_none:
            self._offers_none = offered
            self.left_out = False
            self.refresh()

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer of the list, as the user would."""
        self.setCurrentIndex(self.layers.index(layer) if layer in self.layers else -1)
        self._chosen_by_user = True

    def _on_layers(self, event: object) -> None:  # napari hands an event to what has no default for it
        self.refresh(event)

    def refresh(self, event: object = None) -> None:
        """List the layers as the layer list shows them, the top one first."""
        kept_out = self._without()
        layers = (layer for layer in reversed(self._list) if isinstance(layer, self._kinds))
        self.layers = [layer for layer in layers if layer not in kept_out]
        self.blockSignals(True)
        self.clear()
        for layer in self.layers:
            self.addItem(layer.name)
            self.setItemData(self.count() - 1, layer.name, Qt.ItemDataRole.ToolTipRole)
        if self._offers_none and self.layers:
            self.addItem(LEFT_OUT)
        self.left_out = self.left_out and self._offers_none and bool(self.layers)
        keeps = self._keeps()
        self._chosen_by_user = self._chosen_by_user and keeps
        chosen = self._opened(event) or (self._chosen if keeps else self._first())
        index = self.layers.index(chosen) if chosen else -1
        self.setCurrentIndex(len(self.layers) if self.left_out else index)
        self.blockSignals(False)
        self.setEnabled(bool(self.layers))
        kind = self._kinds[0].__name__ if len(self._kinds) == 1 else "layer"
        self.setPlaceholderText("" if self.layers else f"no {kind} yet")
        self._on_index()

    @property
    def _taken(self) -> Layer | None:
        """The layer that the other box shows."""
        return self._unlike.layer if self._unlike is not None else None

    def _keeps(self) -> bool:
        """Whether the chosen layer stays chosen."""
        return self._chosen in (self.layers if self._chosen_by_user else self._fitting())

    def _first(self) -> Layer | None:
        """The layer that is chosen before the user chooses."""
        fitting = self._fitting()
        return self._first_of(fitting) if fitting else None

    def _fitting(self) -> list[Layer]:
        """Those to choose from before the user chooses."""
        taken = self._taken
        others = [layer for layer in self.layers if layer != taken] or self.layers
        return [layer for layer in others if taken is None or self._beside(layer, taken)] or others

    def _opened(self, event: object) -> Layer | None:
        """The layer that was opened now, where the box follows it: from a file or a sample, and no result of a run."""
        if not self.follows_opened or self._chosen_by_user or getattr(event, "type", "") != "inserted":
            return None
        layer: Layer = event.value  # type: ignore[attr-defined]  # napari's events have what they are given
        is_opened = layer.source.path or layer.source.sample
        return layer if is_opened and layer in self.layers else None

    def _on_choice(self, index: int) -> None:
        self._chosen_by_user = True
        self.left_out = self._offers_none and index == len(self.layers)
        self._on_index()

    def _on_index(self) -> None:
        index = self.currentIndex()
        self.setToolTip("\n".join(filter(None, (self.currentText(), self._tooltip))))
        layer = self.layers[index] if 0 <= index < len(self.layers) else None
        if layer != self._chosen:  # napari hands plugins proxies
            self._chosen = layer
            self.layer_changed.emit(layer)


class Connections:
    """A callback on several napari emitters until `disconnect`.

    Not a part of the widget: its own methods cannot run any more when Qt emits `destroyed`. Not a lambda either: the
    garbage collector may have cleared it before.
    """

    def __init__(self, emitters: Iterable[EventEmitter], callback: Callable[[object], None]) -> None:
        self._emitters, self._callback = tuple(emitters), callback
        for emitter in self._emitters:
            emitter.connect(callback)

    def disconnect(self, _destroyed: object = None) -> None:
        for emitter in self._emitters:
            emitter.disconnect(self._callback)
        self._emitters = ()
