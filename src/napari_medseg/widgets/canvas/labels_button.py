"""The button beside boxes of Labels layers, for labels that opened as an image."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtWidgets import QMenu, QPushButton

from napari_medseg.io.label_files import is_named_like_labels
from napari_medseg.widgets.canvas.use_as_labels import as_labels, put_in_place
from napari_medseg.widgets.fields.forms import reporting
from napari_medseg.widgets.fields.layer_box import Connections

if TYPE_CHECKING:
    from napari import Viewer


class LabelsButton(QPushButton):
    """Lists the image layers; the one that is chosen becomes a Labels layer in its place.

    Shown while an image layer is named like labels, or fewer Labels layers are there than the panel needs.
    """

    def __init__(self, viewer: Viewer, needs: int) -> None:
        super().__init__("Use an image layer as labels")
        self.setToolTip("For labels that opened as an image: choose the layer.")
        self._layers, self._needs = viewer.layers, needs
        menu = QMenu(self)
        menu.aboutToShow.connect(self._list)
        self.setMenu(menu)
        events = viewer.layers.events
        self._connections = Connections((events.inserted, events.removed, events.renamed), self._update)
        self.destroyed.connect(self._connections.disconnect)
        self._update()

    def _list(self) -> None:
        """The images that are named like labels come first."""
        self.menu().clear()
        for layer in sorted(self._images(), key=lambda layer: not is_named_like_labels(layer.name)):
            self.menu().addAction(layer.name, partial(self._use, layer))

    def _use(self, layer: Image) -> None:
        with reporting():
            put_in_place(self._layers, layer, as_labels(layer, self._layers))

    def _images(self) -> list[Image]:
        return [layer for layer in reversed(self._layers) if isinstance(layer, Image)]

    def _update(self, _event: object = None) -> None:
        images = self._images()
        is_short = sum(isinstance(layer, Labels) for layer in self._layers) < self._needs
        self.setVisible(any(is_short or is_named_like_labels(layer.name) for layer in images))
