"""Which slice of a volume the viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseg.widgets.canvas.layers import Placement, placement

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import Dims
    from napari.layers import Layer


def slice_in_view(viewer: Viewer, layer: Layer) -> tuple[int, int]:
    """(axis, index) in the layer's volume as stored; in 3D the middle of axis 0."""
    place = placement(layer, list(viewer.layers))
    shape = place.grid.shape
    if viewer.dims.ndisplay != 2:
        return 0, shape[0] // 2
    axis = axis_in_view(viewer.dims, place)
    index = round(float(place.to_grid(layer.world_to_data(viewer.dims.point))[axis]))
    return axis, min(max(index, 0), shape[axis] - 1)


def axis_in_view(dims: Dims, place: Placement) -> int:
    """The axis of the volume, as stored, across the slices that the viewer shows; in 3D, that it showed in 2D.

    dims: of a viewer, which may have further axes. Where two axes of the volume are hidden, the last one in its order.
    """
    axes = place.axes
    if len(axes) < 3:  # a 2D image is one slice
        return place.order.axes[0]
    hidden = [axis - dims.ndim for axis in dims.order[:-2] if axis - dims.ndim in axes]
    return place.order.axes[axes.index(hidden[-1])]


def turn_across(dims: Dims, place: Placement, axis: int) -> None:
    """Turn the view so that its slices in 2D are those across an axis of the volume, as stored; a 2D image stays."""
    axes = [dims.ndim + a for a in place.axes]
    if len(axes) < 3:
        return
    across = axes.pop(place.order.axes.index(axis))
    if set(dims.order[-2:]) != set(axes):
        dims.order = (*(a for a in range(dims.ndim) if a not in (across, *axes)), across, *axes)
