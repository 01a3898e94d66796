"""Two clicks of the user into a Labels layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseg.geometry import Shape3
from napari_medseg.widgets.canvas.layers import world_point

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

_LOOKING = "pan_zoom"


class TwoClicks:
    """Waits for two clicks into one object of a layer; the mouse paints nothing meanwhile.

    done: is called with the object's id and both voxels (z, y, x) of the array on the true grid. A click beside
    all objects, or into another one than the first, counts as none.
    """

    def __init__(self, layer: Labels, among: Iterable[Layer], done: Callable[[int, list[Shape3]], None]) -> None:
        """among: the viewer's layers, see `placement`."""
        self._layer, self._among, self._done = layer, list(among), done
        self._object, self._voxels = 0, list[Shape3]()
        self._mode = str(layer.mode)
        layer.mode = _LOOKING
        layer.mouse_drag_callbacks.append(self._on_press)

    def stop(self) -> None:
        """Wait no longer; the mouse does again what it did."""
        if self._on_press in self._layer.mouse_drag_callbacks:
            self._layer.mouse_drag_callbacks.remove(self._on_press)
            self._layer.mode = self._mode

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:  # a drag moves the view
            self._take(layer, event)

    def _take(self, layer: Labels, event: Any) -> None:
        index = [round(v) for v in layer.world_to_data(event.position)]
        if not all(0 <= i < n for i, n in zip(index, layer.data.shape, strict=True)):
            return
        value = int(layer.data[tuple(index)])
        if value and self._object in (0, value):
            self._object = value
            self._voxels.append(self._voxel(event.position[-layer.ndim :]))
        if len(self._voxels) == 2:
            self.stop()
            self._done(self._object, self._voxels)

    def _voxel(self, position: Any) -> Shape3:
        """The voxel of the true grid at a place of the layer's world."""
        corners = np.vstack([np.zeros(3), np.eye(3)])
        origin, *ends = (np.array(world_point(self._layer, corner, self._among)) for corner in corners)
        steps = (np.array(ends) - origin).T
        # A layer of two axes says nothing of the third: the least solution has 0 there.
        z, y, x = np.rint(np.linalg.lstsq(steps, np.array(position) - origin, rcond=None)[0]).astype(int).tolist()
        return z, y, x
