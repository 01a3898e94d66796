"""Three linked views (axial, coronal, sagittal) with cross hairs, by the plugin napari-orthogonal-views (BSD-3).

Version 0.5.0 of it counts slices from the world's origin, where a patient's image seldom begins: cross hairs and the
camera's moves are ours. It also lays the sagittal view on its side, and warns of the colours of an empty layer.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel

from napari_medseg.errors import NotSupportedError
from napari_medseg.widgets.canvas.linked.shapes import CARRIED, same_shapes
from napari_medseg.widgets.canvas.orientation import show_orientation

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import ViewerModel

_PLUGIN = "napari_orthogonal_views"
_HEAD_UP = (-1, -3, -2)
"""The axes of the sagittal view: the one across it, down, to the right."""
_COLOURS = ("face_color", "border_color")
_PRESS_T = "Press T to center view on mouse"
"""What the plugin says."""
_CROSS_HAIRS = "crosshairs"
"""The plugin's name of the overlay."""


def toggle_three_views(viewer: Viewer) -> bool:
    """Show the coronal and the sagittal view beside the axial one, or hide them; returns whether they are shown.

    Every view has the head up and letters at its edges. Raises NotSupportedError where the plugin is not installed, and
    for what is no volume.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)  # what napari hands plugins warns of each access to its window
    manager = _shown(viewer)
    if manager is not None:
        manager.cleanup()
        manager.main_window.removeEventFilter(manager._close_event_filter)  # it would clean up what is gone
        viewer.scene.overlays.pop(_CROSS_HAIRS, None)
        _fit_later(viewer, manager.main_window)
        return False
    if importlib.util.find_spec(_PLUGIN) is None:
        raise NotSupportedError(
            "three views need napari-orthogonal-views: pip install napari-orthogonal-views, and start napari again"
        )
    if viewer.dims.ndim < 3:
        raise NotSupportedError("three views need a volume, and the layers have two axes: open a 3D image")
    _show(viewer, importlib.import_module(f"{_PLUGIN}.ortho_view_manager")._get_manager(viewer))
    return True


def linked_models(viewer: Viewer) -> list[ViewerModel]:
    """The models of the other views while they are shown; their layers are copies that share the arrays."""
    manager = _shown(getattr(viewer, "__wrapped__", viewer))
    if manager is None:
        return []
    return [widget.vm_container.viewer_model for widget in (manager.right_widget, manager.bottom_widget)]


def _shown(viewer: Viewer) -> Any | None:
    """The plugin's manager of a viewer while its views are shown. A new manager would take the window apart."""
    plugin = sys.modules.get(f"{_PLUGIN}.ortho_view_manager")
    manager = None if plugin is None else plugin._VIEWER_MANAGERS.get(viewer)
    return manager if manager is not None and manager.is_shown() else None


def _show(viewer: Viewer, manager: Any) -> None:
    ours = {Points: set(_COLOURS), Shapes: CARRIED}
    manager.set_sync_filters({kind: {"forward_exclude": n, "reverse_exclude": n} for kind, n in ours.items()})
    manager.register_layer_hook(Points, _same_look, "medseg_look")
    manager.register_layer_hook(Shapes, same_shapes, "medseg_shapes")
    manager.show()
    sagittal, coronal = manager.right_widget, manager.bottom_widget
    sagittal.order = _HEAD_UP
    manager.crosshair_overlay = _place_cross_hairs(viewer)
    for widget in (sagittal, coronal):
        _follow(widget)
        widget.vm_container.crosshair_overlay = _place_cross_hairs(widget.vm_container.viewer_model)
    manager.update_dims_order()
    manager.set_axes(False)
    manager.set_cross_hairs(True)
    for label in manager.main_controls_widget.findChildren(QLabel):
        if label.text() == _PRESS_T:
            label.setText("T centers on the mouse; in Interact: not here")
    for model in (viewer, *linked_models(viewer)):
        show_orientation(model)
    _fit_later(viewer, sagittal)


def _fit_later(viewer: Viewer, widget: Any) -> None:
    """Fit the images into their views once these have their sizes, and only while the widget is there."""
    later = QTimer(widget)
    later.setSingleShot(True)
    later.timeout.connect(viewer.reset_view)
    later.timeout.connect(later.deleteLater)
    later.start(0)


def _follow(widget: Any) -> None:
    """Both models look at one point of the world, and the camera goes after it where it leaves the canvas."""
    both = (widget.viewer, widget.vm_container.viewer_model)
    for model in both:
        widget._disconnect(model.dims.events.current_step, widget._update_current_step)
        widget._connect(model.dims.events.current_step, partial(_look_at_same, both))


def _look_at_same(models: tuple[ViewerModel, ViewerModel], event: Any) -> None:
    point = tuple(event.source.point)
    for model in models:
        if model.dims is not event.source and tuple(model.dims.point) != point:
            model.dims.point = point
            _keep_in_sight(model)


def _keep_in_sight(model: ViewerModel) -> None:
    if model.dims.ndisplay != 2:
        return
    camera = model.scene.camera
    half = np.array(model.canvas.viewbox_size(model.layers)) / (2 * camera.zoom)
    at = np.array([model.dims.point[axis] for axis in model.dims.displayed])
    seen = np.array(camera.center[-2:])
    if (np.abs(at - seen) > half).any():
        camera.center = (camera.center[0], *np.where(np.abs(at - seen) > half, at, seen))


def _same_look(layer: Points, copy: Points) -> list[tuple[Any, Callable[[Any], None]]]:
    """A hook of the plugin: the clicks of a copy have the layer's size and colours. An empty layer has none to give."""

    def follow(_event: Any = None) -> None:
        if len(layer.data) and len(layer.data) == len(copy.data):
            for name in _COLOURS:
                setattr(copy, name, getattr(layer, name))

    follow()
    copy.current_size = float(layer.current_size)
    signals = [getattr(layer.events, name) for name in _COLOURS]
    for signal in signals:
        signal.connect(follow)
    return [(signal, follow) for signal in signals]


def _place_cross_hairs(model: ViewerModel) -> Any:
    model.scene.overlays.pop(_CROSS_HAIRS, None)
    overlay = _cross_hairs()(blending="translucent_no_depth", axis_order=(-3, -2, -1))
    model.scene.overlays[_CROSS_HAIRS] = overlay
    return overlay


@cache
def _cross_hairs() -> type:
    """The plugin's cross hairs at the point of the world that the views look at."""
    from napari._vispy.utils.visual import overlay_to_visual

    plugin = importlib.import_module(f"{_PLUGIN}.cross_hair_overlay")

    class CrossHairs(plugin.CrosshairOverlay):  # type: ignore[name-defined]
        pass

    class Lines(plugin.VispyCrosshairOverlay):  # type: ignore[name-defined]
        def _move_crosshairs(self) -> None:
            dims = self.viewer.dims
            shown = [*dims.displayed[::-1], *dims.not_displayed[::-1]][:3]
            at = np.zeros(3)  # a viewer that is emptied has two axes
            at[: len(shown)] = np.array(dims.point)[shown]
            self.node.set_position(at)

    overlay_to_visual[CrossHairs] = Lines
    return CrossHairs
