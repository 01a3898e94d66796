"""2D images as 2D layers: colours in one layer, and mm only where the file states the size of a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import GRID_KEY, labels_layer, volume_layer

if TYPE_CHECKING:
    from napari_medseg.widgets.canvas.layers import LayerData

_OF_THE_AXES = ("scale", "translate", "units")


def flat_layers(noun: Volume | Segmentation) -> list[LayerData]:
    """A slice, of one voxel's depth, as layers of two axes."""
    layers = [labels_layer(noun)] if isinstance(noun, Segmentation) else volume_layer(noun)
    flat = [(data[0], _flat(attributes, noun.grid), kind) for data, attributes, kind in layers]
    is_rgb = isinstance(noun, Volume) and noun.channels == ("red", "green", "blue") and noun.data.dtype == np.uint8
    if not is_rgb:
        return flat
    _, attributes, kind = flat[0]
    kept = {name: value for name, value in attributes.items() if name != "contrast_limits"}
    colours = np.stack([np.asarray(data) for data, _, _ in flat], axis=-1)
    return [(colours, {**kept, "name": noun.name, "rgb": True}, kind)]


def _flat(attributes: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """The attributes without the axis of depth. Without a size the layer has no Grid: who uses it warns."""
    made = {**attributes, **{name: attributes[name][1:] for name in _OF_THE_AXES}}
    if grid.in_pixels:
        del made["units"]
        made["metadata"] = {key: value for key, value in made["metadata"].items() if key != GRID_KEY}
    return made
