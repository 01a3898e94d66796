"""Layers > Layer Type > Use as labels: image layers that hold labels become Labels layers in their place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.components import LayerList
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error

from napari_medseg.errors import InputError, MedsegError
from napari_medseg.io import label_files
from napari_medseg.widgets.canvas.layers import PART_KEY, labels_layer, to_volume

if TYPE_CHECKING:
    from collections.abc import Iterable


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
