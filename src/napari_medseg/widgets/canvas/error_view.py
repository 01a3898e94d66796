"""Two Labels layers as contours, with the voxels that differ and the worst of them; and the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_medseg.widgets.canvas.layers import world_point

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels, Layer

    from napari_medseg.metrics.pairwise.places import Place

_CONTOUR = 1
"""Width of the contours in voxels."""
_COLOUR = "#F0E442"
"""Seen on grey values and beside the colours of the errors (Okabe and Ito 2008)."""
_SIZE_PIXELS = 14
"""Size of the point on the canvas, at any zoom."""


class ErrorView:
    """Shows the errors of one pair at a time."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._contours: dict[Labels, int] = {}
        """The width of each layer's contours before; 0 for filled labels."""
        self._added: list[Layer] = []

    def show(
        self, pair: tuple[Labels, Labels], errors: Labels, worst: Place | None, among: Iterable[Layer] = ()
    ) -> None:
        """Turn the pair into contours and mark the worst place. errors: the layer of the voxels that differ.

        What was shown of an earlier pair is taken away.
        """
        self.clear()
        self._contours = {layer: layer.contour for layer in pair}
        self._added = [errors]
        for layer in pair:
            layer.contour = _CONTOUR
        if worst is not None:
            self._added.append(self._mark(pair[1], worst, among))

    def clear(self) -> None:
        """Give the layers the contours that they had, and remove what was added."""
        for layer, contour in self._contours.items():
            layer.contour = contour
        for added in self._added:
            if added in self._viewer.layers:
                self._viewer.layers.remove(added)
        self._contours, self._added = {}, []

    def _mark(self, reference: Labels, worst: Place, among: Iterable[Layer]) -> Layer:
        """A ring at the voxel, with the distance beside it."""
        apart = f"{worst.distance_mm:.1f} mm" if math.isfinite(worst.distance_mm) else "only one has it"
        size = _SIZE_PIXELS / getattr(self._viewer, "scene", self._viewer).camera.zoom
        return self._viewer.add_points(
            [world_point(reference, worst.index_zyx, among)],
            name=f"worst: {apart}",
            units=reference.units,
            size=size,
            symbol="ring",
            face_color=_COLOUR,
            border_color=_COLOUR,
            out_of_slice_display=False,
            text={"string": [apart], "color": _COLOUR, "size": 12, "anchor": "upper_left"},
        )
