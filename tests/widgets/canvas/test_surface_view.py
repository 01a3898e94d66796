"""A surface alone in 3D, and the way back, whatever the user does meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Surface
from qtpy.QtCore import QObject

from napari_medseg.widgets.canvas.surface_view import SurfaceView


def surface() -> Surface:
    return Surface((np.eye(3), np.array([[0, 1, 2]]), np.ones(3)))


@pytest.fixture
def owner(qtbot: Any) -> QObject:
    return QObject()


@pytest.fixture
def view(viewer: ViewerModel, owner: QObject) -> SurfaceView:
    viewer.add_labels(np.zeros((4, 8, 8), np.uint8), name="labels")
    return SurfaceView(viewer, owner)


def visible(viewer: ViewerModel) -> dict[str, bool]:
    return {layer.name: layer.visible for layer in viewer.layers}


def test_a_surface_is_shown_alone(viewer: ViewerModel, view: SurfaceView, qtbot: Any) -> None:
    with qtbot.waitSignal(view.is_on) as told:
        view.show(surface())
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    assert told.args == [True]
    assert visible(viewer) == {"labels": False, "Surface": True}


def test_a_newer_surface_ends_the_turns_of_the_one_before(viewer: ViewerModel, view: SurfaceView, qtbot: Any) -> None:
    view.show(surface())
    view.show(surface())
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    assert visible(viewer) == {"labels": False, "Surface": True}


def test_the_way_back(viewer: ViewerModel, view: SurfaceView, qtbot: Any) -> None:
    view.show(surface())
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    with qtbot.waitSignal(view.is_on) as told:
        view.show_slices()
    qtbot.waitUntil(lambda: visible(viewer) == {"labels": True, "Surface": False})
    assert told.args == [False]
    assert viewer.dims.ndisplay == 2


def test_the_way_back_where_everything_was_hidden(viewer: ViewerModel, view: SurfaceView, qtbot: Any) -> None:
    viewer.layers["labels"].visible = False
    view.show(surface())
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    view.show_slices()
    qtbot.waitUntil(lambda: visible(viewer) == {"labels": False, "Surface": False})
    assert viewer.dims.ndisplay == 2


@pytest.mark.parametrize("after_ms", [0, 5, 15, 30, 45, 60])
def test_the_way_back_before_the_surface_is_there(
    viewer: ViewerModel, view: SurfaceView, qtbot: Any, after_ms: int
) -> None:
    view.show(surface())
    qtbot.wait(after_ms)
    view.show_slices()
    qtbot.wait(100)
    qtbot.waitUntil(lambda: viewer.layers["labels"].visible)
    assert viewer.dims.ndisplay == 2
