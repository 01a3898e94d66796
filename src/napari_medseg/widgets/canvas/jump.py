"""Bring a voxel, or a surface, to the middle of the canvas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.geometry import Shape3
from napari_medseg.widgets.canvas.layers import world_point

if TYPE_CHECKING:
    from napari.components import Camera, ViewerModel
    from napari.layers import Layer, Surface


def show_voxel(viewer: ViewerModel, layer: Layer, index_zyx: Shape3, among: Iterable[Layer] = ()) -> None:
    """Move slices and camera to a voxel of the layer's true Grid; zoom and angles stay. among: see `placement`."""
    point = world_point(layer, index_zyx, among)
    first = viewer.dims.ndim - len(point)
    viewer.dims.set_point(range(first, viewer.dims.ndim), point)
    shown = [point[axis - first] if axis >= first else 0.0 for axis in viewer.dims.displayed]
    camera = _camera(viewer)
    camera.center = (camera.center[0], *shown) if len(shown) == 2 else tuple(shown)


def show_surface(viewer: ViewerModel, layer: Surface) -> None:
    """Look at a surface of the viewer in 3D, as large as fits."""
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    low, high = layer.extent.world
    first, last = viewer.layers.extent.world
    camera = _camera(viewer)
    camera.center = tuple((low + high) / 2)
    camera.zoom *= float(np.max(last - first) / np.max(high - low))


def _camera(viewer: ViewerModel) -> Camera:
    return getattr(viewer, "scene", viewer).camera  # `viewer.camera` before napari 0.9
