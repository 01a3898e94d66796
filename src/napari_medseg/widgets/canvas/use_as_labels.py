"""Image layers that hold labels become Labels layers in their place.

By Layers > Layer Type > Use as labels, or by the button beside boxes of Labels layers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari.components import LayerList
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QMenu, QPushButton

from napari_medseg.errors import InputError, MedsegError
from napari_medseg.io import label_files
from napari_medseg.io.label_files import is_named_like_labels
from napari_medseg.widgets.canvas.layers import PART_KEY, labels_layer, to_volume
from napari_medseg.widgets.fields.forms import reporting
from napari_medseg.widgets.fields.layer_box import Connections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari import Viewer


def use_as_labels(layers: LayerList) -> None:
    """Replace the selected image layers by Labels layers; what holds no labels stays, and one line says why."""
    chosen = [layer for layer in layers if layer in layers.selection and isinstance(layer, Image)]
    try:
        if not chosen:
            raise InputError("select an image layer that holds labels first")
        made = [as_labels(layer, layers) for layer in chosen]
    except MedsegError as error:
        show_error(str(error))
        return
    for image, labels in zip(chosen, made, strict=True):
        put_in_place(layers, image, labels)


def put_in_place(layers: LayerList, image: Image, labels: Labels) -> None:
    """Put the labels where the image is in the list.

    Not by `layers[i] = labels`: that tells neither the canvas nor our panels that a layer came and another one went.
    """
    index = layers.index(image)
    layers.remove(image)
    layers.insert(index, labels)
    layers.selection.active = labels


def as_labels(layer: Image, among: Iterable[Layer] = ()) -> Labels:
    """The image layer as a Labels layer of the same name, in the same place. InputError where it holds no labels."""
    among = list(among)
    segmentation = label_files.as_labels(replace(to_volume(layer, among), name=layer.name))
    data, attributes, _ = labels_layer(segmentation, [layer, *among])
    metadata = {**attributes["metadata"], **{k: v for k, v in layer.metadata.items() if k == PART_KEY}}
    return Labels(data, **{**attributes, "metadata": metadata})


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
