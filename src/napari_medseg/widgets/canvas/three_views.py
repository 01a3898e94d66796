"""Three linked views (axial, coronal, sagittal) with cross hairs, by the plugin napari-orthogonal-views (BSD-3)."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import NotSupportedError
from napari_medseg.widgets.canvas.orientation import show_orientation

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import ViewerModel

_PLUGIN = "napari_orthogonal_views"
_HEAD_UP = (-1, -3, -2)
"""The axes of the sagittal view: the one across it, down, to the right. The plugin's own order lays it on its side."""


def toggle_three_views(viewer: Viewer) -> bool:
    """Show the coronal and the sagittal view beside the axial one, or hide them; returns whether they are shown.

    Every view has the head up and letters at its edges. Raises NotSupportedError where the plugin is not installed.
    """
    if importlib.util.find_spec(_PLUGIN) is None:
        raise NotSupportedError(
            "three views need napari-orthogonal-views: pip install napari-orthogonal-views, and start napari again"
        )
    manager = _manager(viewer)
    if manager.is_shown():
        manager.hide()
        return False
    manager.show()
    sagittal = manager.right_widget
    sagittal.order = _HEAD_UP
    sagittal._set_orth_views_dims_order()
    manager.set_cross_hairs(True)
    for model in linked_models(viewer):
        show_orientation(model)
        model.reset_view()
    return True


def linked_models(viewer: Viewer) -> list[ViewerModel]:
    """The models of the other views while they are shown; their layers are copies that share the arrays."""
    if importlib.util.find_spec(_PLUGIN) is None:
        return []
    manager = _manager(viewer)
    if not manager.is_shown():
        return []
    return [widget.vm_container.viewer_model for widget in (manager.right_widget, manager.bottom_widget)]


def _manager(viewer: Viewer) -> Any:
    return importlib.import_module(f"{_PLUGIN}.ortho_view_manager")._get_manager(viewer)
