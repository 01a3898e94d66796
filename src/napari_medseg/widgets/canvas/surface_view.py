"""Surfaces alone in 3D, and the way back to the slices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_medseg.widgets.canvas.jump import show_surface
from napari_medseg.widgets.work.turns import in_turns

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer, Surface


class SurfaceView(QObject):
    """Shows a surface without the layers that would cover it; `is_on` carries whether there is a way back."""

    is_on = Signal(bool)

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._hidden: list[Layer] = []
        """Layers that were visible before the first surface."""
        self._surfaces: list[Surface] = []
        """Surfaces that were shown since, the newest last."""

    def show(self, surface: Surface) -> None:
        """Add a surface, hide everything else, and look at it, in turns.

        Each turn draws one thing that takes long. The colour bar is made while the surface is hidden.
        `show_slices` and a newer surface end the turns that are left.
        """
        steps = (
            partial(self._viewer.add_layer, surface),
            partial(setattr, surface, "visible", False),
            partial(_show_colour_bar, surface),
            partial(setattr, surface, "visible", True),
            partial(setattr, self._viewer.dims, "ndisplay", 3),
            partial(show_surface, self._viewer, surface),
        )
        in_turns(
            self, partial(self._clear_for, surface), *(partial(self._while_newest, surface, step) for step in steps)
        )

    def show_slices(self) -> None:
        """Show the slices as they were before the first surface; the surfaces stay in the layer list, hidden."""
        if not self._surfaces:
            return
        shows = [(surface, False) for surface in self._surfaces] + [(layer, True) for layer in self._hidden]
        self._hidden, self._surfaces = [], []
        self.is_on.emit(False)
        in_turns(
            self,
            partial(setattr, self._viewer.dims, "ndisplay", 2),
            *(partial(setattr, layer, "visible", visible) for layer, visible in shows),
        )

    def _clear_for(self, surface: Surface) -> None:
        """Hide everything that is visible. `show_slices` shows it again, except the surfaces."""
        shown = [layer for layer in self._viewer.layers if layer.visible]
        self._hidden += [layer for layer in shown if layer not in self._surfaces]
        self._surfaces.append(surface)
        for covering in shown:
            covering.visible = False
        self.is_on.emit(True)

    def _while_newest(self, surface: Surface, step: Callable[[], object]) -> None:
        if self._surfaces and self._surfaces[-1] is surface:
            step()


def _show_colour_bar(layer: Surface) -> None:
    if hasattr(layer, "colorbar"):  # napari 0.7 and later; the caption states the range in any case
        layer.colorbar.visible = True
