"""The three linked views in a real window: head up, letters, cross hairs, and clicks and paint in each."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.qt import QtViewer
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLabel

import napari_medseg as ms
from click_phantoms import balls
from interact_walk import Clicker
from napari_medseg.errors import NotSupportedError
from napari_medseg.volume import Grid
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.linked.three_views import linked_models, toggle_three_views
from napari_medseg.widgets.canvas.orientation import letters_of

INSTALLED = importlib.util.find_spec("napari_orthogonal_views") is not None
needs_plugin = pytest.mark.skipif(not INSTALLED, reason="napari-orthogonal-views, of the extra `all`, is not installed")
LETTERS = ("APRL", "SIAP", "SIRL")
HAIRS = np.array([[0, 255, 255], [255, 0, 255], [255, 255, 0]])
"""Cyan, magenta, yellow."""


def test_without_the_plugin_one_line_says_how_to_get_it(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotSupportedError, match=r"^[^\n]*pip install napari-orthogonal-views[^\n]*$"):
        toggle_three_views(viewer)
    assert linked_models(viewer) == []


@needs_plugin
def test_what_is_no_volume_is_refused(viewer: Any) -> None:
    with pytest.raises(NotSupportedError, match=r"^three views need a volume[^\n]*$"):
        toggle_three_views(viewer)
    assert linked_models(viewer) == []


@pytest.mark.slow
@needs_plugin
def test_clicks_paint_and_cross_hairs_in_every_view(
    make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path))
    window = make_napari_viewer(show=True)
    window.window._qt_window.resize(1100, 800)
    image = balls((24, 28, 32), (12, 14, 16), radius=7)[0]
    far = Grid.from_spacing((24, 28, 32), (1.5, 1.0, 1.0), origin=(120.0, -80.0, 45.5))
    user = Clicker(window, replace(image, grid=far))
    layout = window.window._qt_window.centralWidget().layout()
    whole = layout.itemAt(0).widget()
    user.press(user.panel.tools["P"])
    user.press(user.panel.views_button)
    for view, letters in zip(views(window), LETTERS, strict=True):
        assert "".join(letters_of(view.viewer)) == letters
        overlays = view.viewer.canvas.overlays.items()
        assert "".join(o.text for name, o in overlays if name.startswith("napari_medseg ") and o.visible) == letters
    labels = window.window._qt_window.findChildren(QLabel)
    assert any("in Interact: not here" in label.text() for label in labels)
    click_in_each(user)
    paint_in_each(user)
    draw_in_each(user)
    user.press(user.panel.views_button)
    assert layout.itemAt(0).widget() is whole
    assert linked_models(window) == []
    assert "crosshairs" not in window.scene.overlays


def click_in_each(user: Clicker) -> None:
    """The slices of all views follow the one in which the user moves; a click there is a prompt."""
    for at, view, positive in zip([(12, 14, 16), (6, 6, 18)], views(user.window)[1:], [True, False], strict=True):
        look_at(user, view, at)
        for each in views(user.window):
            assert_cross_hairs(user, each, at)
        user.click(settled_pixel(user, view, at), view.canvas.native)
        last = user.panel.work.view.prompts[-1]
        assert (last.at, last.label, last.positive) == (at, 1, positive)
        user.panel.sign.toggle()
    assert_same_clicks(user)


def paint_in_each(user: Clicker) -> None:
    user.press(user.panel.tools["M"])
    user.panel.work.canvas.labels.brush_size = 2
    for view, axis in zip(views(user.window)[1:], (2, 1), strict=True):
        at = (5 + axis, 5, 27)
        look_at(user, view, at)
        user.click(settled_pixel(user, view, at), view.canvas.native)
        painted = user.panel.work.view.prompts[-1]
        assert isinstance(painted, ms.SliceMask)
        assert (painted.axis, painted.label) == (axis, 1)
        assert user.mask(1)[at]


def draw_in_each(user: Clicker) -> None:
    """A stroke, a box and a lasso in the sagittal and in the coronal view are what they are in the axial one."""
    panel, at = user.panel, np.array((12, 14, 16))
    for view, axis in zip(views(user.window)[1:], (2, 1), strict=True):
        down, other = np.array([1, 0, 0]), np.array([0, int(axis == 2), int(axis == 1)])
        for tool, kind in (("S", ms.Scribble), ("B", ms.Box), ("L", ms.Lasso)):
            user.press(panel.next_button)
            user.press(panel.tools[tool])
            look_at(user, view, (12, 14, 16))
            settled_pixel(user, view, (12, 14, 16))
            turns = np.linspace(0, 2 * np.pi, 16)[:, None]
            round_it = 6 * np.sin(turns) * down + 6 * np.cos(turns) * other
            line = np.array([-6, -3, 0, 3, 6])[:, None] * (down + other)
            places = at + (round_it if tool == "L" else line)
            before = len(panel.work.view.prompts)
            user.drag(*(user.pixel(place, view) for place in places), canvas=view.canvas.native)
            assert len(panel.work.view.prompts) == before + 1
            last = panel.work.view.prompts[-1]
            assert isinstance(last, kind)
            assert (last.label, last.positive) == (panel.work.label, True)
            if isinstance(last, ms.Box):
                sides = np.subtract(last.high, last.low)
                assert np.abs(sides[[0, 3 - axis]] - 13).max() <= 1, sides
            if isinstance(last, ms.Lasso):
                assert (last.axis, last.index) == (axis, at[axis])
            assert_same_shapes(user)
            user.press(panel.undo_button)
            assert_same_shapes(user)


def assert_same_shapes(user: Clicker) -> None:
    strokes = user.panel.work.canvas.strokes
    for model in linked_models(user.window):
        copy = model.layers[strokes.name]
        assert list(copy.shape_type) == list(strokes.shape_type)
        np.testing.assert_equal([list(map(list, one)) for one in copy.data], [list(map(list, o)) for o in strokes.data])
        for name in ("features", "edge_color", "edge_width"):
            np.testing.assert_array_equal(getattr(copy, name), getattr(strokes, name))


def assert_same_clicks(user: Clicker) -> None:
    points = user.panel.work.canvas.points
    for model in linked_models(user.window):
        for name in ("data", "face_color", "size"):
            np.testing.assert_array_equal(getattr(model.layers[points.name], name), getattr(points, name))


def assert_cross_hairs(user: Clicker, view: Any, at: tuple[int, int, int]) -> None:
    """A row and a column of the picture have the colours of cross hairs where the view shows the voxel."""
    picture = view.screenshot(flash=False)[..., :3].astype(int)
    hairs = (np.abs(picture[:, :, None] - HAIRS).max(axis=3) < 60).any(axis=2)
    where = user.pixel(at, view)
    ratio = picture.shape[1] / view.canvas.native.width()
    column, row = int(hairs.mean(axis=0).argmax() / ratio), int(hairs.mean(axis=1).argmax() / ratio)
    assert abs(column - where.x()) <= 2, (column, row, where)
    assert abs(row - where.y()) <= 2, (column, row, where)


def settled_pixel(user: Clicker, view: Any, at: tuple[int, int, int]) -> QPoint:
    """Where a view shows a voxel once the mouse is over it: the first move there lays the window out anew."""
    QTest.mouseMove(view.canvas.native, user.pixel(at, view))
    wait_for_places(user, at)
    return user.pixel(at, view)


def look_at(user: Clicker, view: Any, at: tuple[int, int, int]) -> None:
    """Show a voxel, and wait until the views have taken their places."""
    show_voxel(view.viewer, user.layer, at, user.window.layers)
    wait_for_places(user, at)


def wait_for_places(user: Clicker, at: tuple[int, int, int]) -> None:
    before = None
    while (now := [user.pixel(at, each) for each in views(user.window)]) != before:
        before = now
        QTest.qWait(50)


def views(window: Any) -> list[Any]:
    """The window's QtViewers: axial, sagittal, coronal."""
    linked = linked_models(window)
    found = window.window._qt_window.findChildren(QtViewer)
    return [next(view for view in found if view.viewer is model) for model in (window, *linked)]
