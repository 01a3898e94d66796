"""The three linked views: what is asked of the plugin that shows them, by a stand-in for it; and without it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.errors import NotSupportedError
from napari_medseg.volume import Grid, Volume
from napari_medseg.widgets.canvas.layers import volume_layer
from napari_medseg.widgets.canvas.orientation import letters_of
from napari_medseg.widgets.canvas.three_views import linked_models, toggle_three_views


@dataclass
class View:
    """A view beside the main one: its axes are those of the main view, in this order."""

    order: tuple[int, int, int]
    viewer_model: ViewerModel = field(default_factory=ViewerModel)

    @property
    def vm_container(self) -> View:
        return self

    def _set_orth_views_dims_order(self) -> None:
        main = (0, 1, 2)
        self.viewer_model.dims.order = tuple(main[axis] for axis in self.order)


@dataclass
class Manager:
    """As much of the plugin's manager as is asked for."""

    right_widget: View = field(default_factory=lambda: View((-1, -2, -3)))
    bottom_widget: View = field(default_factory=lambda: View((-2, -3, -1)))
    shown: bool = False
    cross_hairs: bool = False

    def is_shown(self) -> bool:
        return self.shown

    def show(self) -> None:
        self.shown = True
        image = Volume(np.zeros((1, 4, 5, 6), np.int16), Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0)))
        for view in (self.right_widget, self.bottom_widget):
            data, arguments, _ = volume_layer(image)[0]
            view.viewer_model.add_image(data, **{**arguments, "contrast_limits": (0, 1)})
            view._set_orth_views_dims_order()

    def hide(self) -> None:
        self.shown = False

    def set_cross_hairs(self, shown: bool) -> None:
        self.cross_hairs = shown


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    made = Manager()
    plugin, inner = ModuleType("napari_orthogonal_views"), ModuleType("napari_orthogonal_views.ortho_view_manager")
    inner._get_manager = lambda _viewer: made  # type: ignore[attr-defined]
    plugin.__spec__ = importlib.util.spec_from_loader("napari_orthogonal_views", loader=None)
    monkeypatch.setitem(sys.modules, "napari_orthogonal_views", plugin)
    monkeypatch.setitem(sys.modules, "napari_orthogonal_views.ortho_view_manager", inner)
    return made


def test_without_the_plugin_one_line_says_how_to_get_it(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotSupportedError, match=r"^[^\n]*pip install napari-orthogonal-views[^\n]*$"):
        toggle_three_views(viewer)
    assert linked_models(viewer) == []


def test_every_view_has_the_head_up_and_its_letters(viewer: Any, manager: Manager) -> None:
    assert linked_models(viewer) == []
    assert toggle_three_views(viewer)
    assert manager.cross_hairs
    sagittal, coronal = linked_models(viewer)
    assert sagittal.dims.order == (2, 0, 1)
    assert coronal.dims.order == (1, 0, 2)
    assert letters_of(sagittal) == ("S", "I", "A", "P")
    assert letters_of(coronal) == ("S", "I", "R", "L")
    for model, letters in ((sagittal, "SIAP"), (coronal, "SIRL")):
        overlays = [overlay for name, overlay in model.canvas.overlays.items() if name.startswith("napari_medseg ")]
        assert "".join(overlay.text for overlay in overlays) == letters
    assert not toggle_three_views(viewer)
    assert linked_models(viewer) == []
