"""Which slice of a volume the viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseg.widgets.canvas.layers import placement

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


def slice_in_view(viewer: Viewer, layer: Layer) -> tuple[int, int]:
    """(axis, index) in the layer's volume as stored. In 3D, and for layers with further axes, the middle of axis 0."""
    place = placement(layer, list(viewer.layers))
    shape = place.grid.shape
    if viewer.dims.ndisplay != 2 or viewer.dims.ndim != 3 or layer.ndim != 3:
        return 0, shape[0] // 2
    shown = viewer.dims.order[0]
    axis = place.order.axes[shown]
    index = round(float(layer.world_to_data(viewer.dims.point)[shown]))
    index = min(max(index, 0), shape[axis] - 1)
    return axis, shape[axis] - 1 - index if place.order.flips[shown] else index
