"""A walk through the Interact panel in a real window, with the mouse and the keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_medseg as ms
from metrics_walk import LEFT, clipped, wait_until
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import ignored_in, volume_layer, world_point

Index = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]


class Clicker:
    """Who clicks on an image, or on a layer, in a window. shots: a folder for pictures of the window."""

    def __init__(self, window: Any, image: Volume | Layer, shots: Path | None = None) -> None:
        self.window, self.shots = window, shots
        if isinstance(image, Volume):
            data, arguments, _ = volume_layer(image)[0]
            image = window.add_image(data, **{**arguments, "name": "ct"})
        self.layer: Any = image
        self.panel: Any = None
        self.interactions = 0
        self.open()

    def open(self) -> None:
        self.panel = self.window.window.add_plugin_dock_widget("napari-medseg", "Interact")[1]
        wait_until(lambda: not self.panel.earlier.looking.runner.is_busy)
        QTest.qWait(100)

    @property
    def canvas(self) -> Any:
        return self.window.window._qt_viewer.canvas.native

    def settle(self) -> None:
        QTest.qWait(30)
        wait_until(lambda: self.panel.work is None or not self.panel.work.queue.left)
        QTest.qWait(30)

    def press(self, button: Any) -> None:
        assert button.isVisible()
        assert button.isEnabled()
        QTest.mouseClick(button, LEFT)
        self.settle()

    def key(self, key: Qt.Key, *modifiers: Qt.KeyboardModifier) -> None:
        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= modifier
        QTest.keyClick(self.canvas, key, held)
        self.settle()

    def click_voxel(self, at: Index) -> None:
        """A click with the mouse on a voxel, in its slice."""
        self.look_at(at)
        self.click(self.canvas.rect().center())

    def look_at(self, at: Index) -> None:
        show_voxel(self.window, self.layer, at, self.window.layers)
        QTest.qWait(60)

    def pixel(self, at: Any, view: Any = None) -> QPoint:
        """Where the canvas shows a place of the volume's grid. view: another one (QtViewer) than the main one."""
        view = view or self.window.window._qt_viewer
        shown, displayed = view.canvas, list(view.viewer.dims.displayed)
        origin, right, down = (
            np.array(shown._map_canvas2world(place, shown.view))[displayed] for place in ((0, 0), (100, 0), (0, 100))
        )
        point = world_point(self.layer, at, self.window.layers)
        point = (0.0,) * (view.viewer.dims.ndim - len(point)) + point
        offset = np.array([point[axis] for axis in displayed]) - origin
        x, y = 100 * np.linalg.solve(np.stack([right - origin, down - origin], axis=1), offset)
        return QPoint(round(x), round(y))

    def drag(self, *corners: QPoint, canvas: Any = None) -> None:
        """Press at the first place, move over the others, and let go at the last. canvas: see `click`."""
        canvas = canvas or self.canvas
        QTest.mouseMove(canvas, corners[0])
        QTest.mousePress(canvas, LEFT, pos=corners[0])
        for corner in (*corners[1:], corners[-1]):  # on a busy machine the screen tells of an earlier place late
            QTest.mouseMove(canvas, corner)
            QTest.qWait(20)
        QTest.mouseRelease(canvas, LEFT, pos=corners[-1])
        self.interactions += 1
        self.settle()

    def trace(self, *corners: QPoint) -> None:
        """As `drag`, where each place counts: the moves are events alone, for the screen tells of its own late."""
        QTest.mousePress(self.canvas, LEFT, pos=corners[0])
        for corner in corners[1:]:
            at, on_screen = QPointF(corner), QPointF(self.canvas.mapToGlobal(corner))
            moved = QMouseEvent(
                QEvent.Type.MouseMove, at, on_screen, Qt.MouseButton.NoButton, LEFT, Qt.KeyboardModifier.NoModifier
            )
            QApplication.sendEvent(self.canvas, moved)
            QTest.qWait(20)
        QTest.mouseRelease(self.canvas, LEFT, pos=corners[-1])
        self.interactions += 1
        self.settle()

    def click(self, where: QPoint, canvas: Any = None) -> None:
        """canvas: of a linked view, instead of the main one."""
        canvas = canvas or self.canvas
        QTest.mouseMove(canvas, where)
        QTest.qWait(20)
        QTest.mouseClick(canvas, LEFT, pos=where)
        self.interactions += 1
        self.settle()

    def mask(self, label: int) -> npt.NDArray[np.bool_]:
        """Of the volume's grid, as the layer shows it."""
        array = self.panel.work.canvas.image_on_grid()
        found: npt.NDArray[np.bool_] = np.asarray(array) == label
        return found

    def picture(self, name: str) -> None:
        if self.shots is not None:
            self.window.window._qt_window.grab().save(str(self.shots / f"{name}.png"))


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def deepest(mask: npt.NDArray[np.bool_], spacing: Any) -> Index:
    """The voxel of a mask that lies deepest in it."""
    from scipy import ndimage

    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded, spacing)[1:-1, 1:-1, 1:-1]
    z, y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(z), int(y), int(x)


def walk_panel(user: Clicker, truth: Segmentation, label: int) -> None:
    """Click, undo, redo and accept, and a click into what is locked. label: of the object that is found."""
    true = np.asarray(truth.data) == label
    inside = deepest(true, truth.grid.spacing)
    user.press(user.panel.tools["P"])
    user.click_voxel(inside)
    assert user.mask(1)[inside]
    first = user.mask(1)
    assert dice(first, true) > 0.7
    assert len(user.panel.work.view.prompts) == len(user.panel.work.canvas.points.data) == 1
    user.picture("click")
    assert clipped(user.panel) == []
    control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
    user.key(Qt.Key.Key_Z, control)
    assert not user.mask(1).any()
    assert len(user.panel.work.canvas.points.data) == 0
    user.key(Qt.Key.Key_Z, control, shift)
    np.testing.assert_array_equal(user.mask(1), first)
    assert len(user.panel.work.canvas.points.data) == 1
    user.key(Qt.Key.Key_A)
    assert user.panel.work.view.locked == {1}
    assert user.panel.work.label == 2
    user.click_voxel(inside)  # in the locked object
    np.testing.assert_array_equal(user.mask(1), first)
    assert not user.mask(2).any()
    assert len(user.panel.work.canvas.points.data) == 1


def draw_with_every_tool(user: Clicker, first: Mask, second: Mask) -> None:
    """A stroke, a box and a lasso with the mouse; a prompt that is moved, and one that is deleted.

    first, second: two balls that lie in the same slices, far apart.
    """
    panel, (z, y, x) = user.panel, deepest(first, (1, 1, 1))
    user.press(panel.tools["S"])
    user.look_at((z, y, x))
    user.drag(*(user.pixel((z, y, x + k)) for k in (-4, -2, 0, 2, 4)))
    (stroke,) = panel.work.view.prompts
    assert isinstance(stroke, ms.Scribble)
    assert first[tuple(stroke.voxels.T)].all()
    assert dice(user.mask(1), first) > 0.8
    user.key(Qt.Key.Key_N)
    z, y, x = deepest(second, (1, 1, 1))
    user.press(panel.tools["B"])
    user.look_at((z, y, x))
    user.drag(*(user.pixel((z, y + k, x + k)) for k in (-7, 0, 7)))
    box = panel.work.view.prompts[-1]
    assert isinstance(box, ms.Box)
    assert np.abs(np.subtract(box.low[1:], (y - 7, x - 7))).max() <= 1, box
    assert np.abs(np.subtract(box.high[1:], (y + 8, x + 8))).max() <= 1, box
    assert box.low[0] < z - 7 < z + 8 < box.high[0], "a slice does not say how deep the object is"
    assert dice(user.mask(2), second) > 0.8
    user.press(panel.undo_button)
    user.press(panel.tools["L"])
    turns = np.linspace(0, 2 * np.pi, 16)
    user.trace(*(user.pixel((z, y + 7 * np.sin(turn), x + 7 * np.cos(turn))) for turn in turns))
    lasso = panel.work.view.prompts[-1]
    assert isinstance(lasso, ms.Lasso)
    assert (lasso.axis, lasso.index, lasso.label) == (0, z, 2)
    assert dice(user.mask(2)[z], second[z]) > 0.9
    user.press(panel.undo_button)
    assert not user.mask(2).any()
    move_and_delete(user, (z, y, x))


def walk_a_2d_image(user: Clicker, disk: Mask, saved: Path) -> None:
    """Every tool on an image (y, x), and Save. disk: (y, x), in the middle of the image."""
    panel, (_, y, x) = user.panel, deepest(disk[None], (99, 1, 1))
    radius = round(float(np.sqrt(disk.sum() / np.pi)))
    user.press(panel.tools["P"])
    user.click(user.pixel((0, y, x)))
    assert dice(user.mask(1)[0], disk) > 0.95
    assert np.asarray(panel.work.canvas.labels.data).shape == disk.shape
    user.press(panel.undo_button)
    user.press(panel.tools["S"])
    user.drag(*(user.pixel((0, y, x + k)) for k in (-4, 0, 4)))
    assert dice(user.mask(1)[0], disk) > 0.95
    user.press(panel.undo_button)
    user.press(panel.tools["B"])
    user.drag(*(user.pixel((0, y + k, x + k)) for k in (-radius, 0, radius)))
    (box,) = panel.work.view.prompts
    assert isinstance(box, ms.Box)
    assert (box.low[0], box.high[0]) == (0, 1)
    assert dice(user.mask(1)[0], disk) > 0.9
    user.press(panel.undo_button)
    user.press(panel.tools["L"])
    turns = np.linspace(0, 2 * np.pi, 16)
    user.trace(*(user.pixel((0, y + radius * np.sin(turn), x + radius * np.cos(turn))) for turn in turns))
    assert dice(user.mask(1)[0], disk) > 0.9
    user.press(panel.next_button)
    user.press(panel.tools["M"])
    user.drag(user.pixel((0, 5, 5)), user.pixel((0, 5, 9)))
    assert user.mask(2)[0, 5, 5:9].all()
    assert panel.slices.isHidden(), "nothing lies between slices of a 2D image"
    assert "slice" not in panel.status.text()
    with patch.object(QFileDialog, "getSaveFileName", return_value=(str(saved), "")):
        user.press(panel.save_button)
    wait_until(saved.exists)
    np.testing.assert_array_equal(np.asarray(ms.read_segmentation(saved).data) == 1, user.mask(1))


def move_and_delete(user: Clicker, at: Index) -> None:
    """napari's own tools move a click and delete it: the mask follows."""
    panel, (z, y, x) = user.panel, at
    user.press(panel.tools["P"])
    user.click_voxel(at)
    points = panel.work.canvas.points
    points.mode = "select"
    user.drag(user.pixel(at), user.pixel((z, y + 2, x)), user.pixel((z, y + 4, x)))
    assert [prompt.at for prompt in panel.work.view.prompts if prompt.label == 2] == [(z, y + 4, x)]
    assert user.mask(2)[z, y + 4, x]
    user.key(Qt.Key.Key_Delete)
    assert not user.mask(2).any()
    assert len(points.data) == 0
    user.press(panel.undo_button)
    assert user.mask(2)[z, y + 4, x]
    assert len(points.data) == 1


def run_on_demand(user: Clicker, at: Index) -> None:
    """Two clicks wait for Run, and are one change."""
    panel, (z, y, x) = user.panel, at
    before = len(panel.work.view.prompts)
    QTest.mouseClick(panel.on_demand, LEFT, pos=QPoint(8, panel.on_demand.height() // 2))
    user.press(panel.tools["P"])
    user.click_voxel((z, y, x))
    user.click_voxel((z, y, x + 3))
    assert len(panel.work.view.prompts) == before
    user.press(panel.run_button)
    assert len(panel.work.view.prompts) == before + 2
    user.press(panel.undo_button)
    assert len(panel.work.view.prompts) == before
    QTest.mouseClick(panel.on_demand, LEFT, pos=QPoint(8, panel.on_demand.height() // 2))
    user.settle()


def keep_objects(user: Clicker) -> None:
    """The list hides an object, names it with undo, and looks at it."""
    panel, layer = user.panel, user.panel.work.canvas.labels
    _click_cell(panel.objects, 0, 0)
    user.settle()
    wait_until(lambda: layer.get_color(1) is None or layer.get_color(1)[3] == 0, 60)
    assert user.mask(1).any(), "hidden, and still there"
    _click_cell(panel.objects, 0, 0)
    wait_until(lambda: layer.get_color(1)[3] == 1, 60)
    panel.objects.item(0, 1).setText("spleen")
    user.settle()
    assert panel.work.view.names == {1: "spleen"}
    assert panel.work.canvas.labels.features["name"].tolist()[0] == "spleen"
    panel.objects.item(0, 1).setText("x" * 2000)
    user.settle()
    assert "give it one of 1 to 1024" in notification_manager.records[-1].message
    assert panel.objects.item(0, 1).text() == "spleen"
    user.window.dims.set_point(0, 0)
    _click_cell(panel.objects, 0, 4)
    user.settle()
    z = (np.flatnonzero(user.mask(1).any(axis=(1, 2)))[[0, -1]] + [0, 1]).sum() // 2
    assert panel.work.canvas.slice_shown() == (0, z)


def fill_from_painted_slices(user: Clicker, ball: Mask) -> None:
    """Slices are painted with the brush; the bar rates the others, the next one is shown, and they are filled."""
    panel, label = user.panel, 2
    _click_cell(panel.objects, 1, 1)
    inside = np.flatnonzero(ball.any(axis=(1, 2)))
    low, high = int(inside[2]), int(inside[-3])
    user.press(panel.tools["M"])
    panel.work.canvas.labels.brush_size = 13  # a stroke that changes nothing says nothing
    z, y, x = deepest(ball, (1, 1, 1))
    for k in (low, high):
        user.look_at((k, y, x))
        user.drag(*(user.pixel((k, y, x + dx)) for dx in (-1, 0, 1)))
    painted = user.mask(label)
    assert painted[low].any()
    assert painted[high].any()
    assert panel.slices.bar.isVisible()
    assert panel.slices.bar.quality.painted == {low, high}
    user.press(panel.slices.next_button)
    axis, shown = panel.work.canvas.slice_shown()
    assert axis == 0
    assert shown == panel.slices.bar.quality.weakest
    user.press(panel.slices.between_button)
    assert "label 2 has" in notification_manager.records[-1].message
    for k in (low, high):
        np.testing.assert_array_equal(user.mask(label)[k], painted[k])
    assert user.mask(label)[z, y, x]
    bar = panel.slices.bar
    QTest.mouseClick(bar, LEFT, pos=QPoint(1, 5))
    user.settle()
    first = user.window.dims.current_step[0]
    assert bar.told(panel.work.canvas.slice_shown()[1]).startswith(f"slice {first}: "), "as napari's slider says"
    QTest.mouseClick(bar, LEFT, pos=QPoint(bar.width() - 1, 5))
    user.settle()
    assert user.window.dims.current_step[0] == first + len(bar.quality.values) - 1, "to the right, as the slider"
    user.picture("slices")
    assert clipped(panel) == []


def click_in_lazy_layers(user: Clicker, volume: Volume, at: Index) -> None:
    """An image of dask, of zarr and of several scales: a click gives what it gives in memory, in the same place."""
    import dask.array as da
    import zarr

    expected = np.asarray(ms.interact(volume).add(ms.Point(at, label=1)).data[...]) == 1
    data, arguments, _ = volume_layer(volume)[0]
    chunks = (16, 16, 16)
    kinds = {
        "dask": da.from_array(data, chunks=chunks),
        "zarr": zarr.array(np.asarray(data), chunks=chunks),
        "scales": [data, data[::2, ::2, ::2]],
    }
    for name, array in kinds.items():
        user.layer = user.window.add_image(array, **{**arguments, "name": name})
        user.panel.image.choose(user.layer)
        user.settle()
        user.press(user.panel.tools["P"])
        user.click_voxel(at)
        np.testing.assert_array_equal(user.mask(1), expected, err_msg=name)
        labels = user.panel.work.canvas.labels
        assert labels.get_value(world_point(user.layer, at, user.window.layers), world=True) == 1, name


def preview_a_click(user: Clicker, at: Index) -> None:
    """The mouse rests, and what a click would give is shown; nothing is done before the click."""
    panel, canvas = user.panel, user.panel.work.canvas
    before, prompts = user.mask(1), panel.work.view.prompts
    QTest.mouseMove(user.canvas, user.pixel(at) + QPoint(3, 3))
    QTest.mouseMove(user.canvas, user.pixel(at))
    wait_until(lambda: canvas.preview is not None and canvas.preview.nshapes > 0)
    user.picture("preview")
    np.testing.assert_array_equal(user.mask(1), before)
    assert panel.work.view.prompts == prompts
    assert user.window.layers.selection.active == canvas.points
    shown = canvas.to_grid(np.concatenate(canvas.preview.data))
    user.click(user.pixel(at))
    assert canvas.preview.nshapes == 0, "the mask has come"
    found = np.argwhere(user.mask(1)[at[0]])
    np.testing.assert_allclose(shown[:, 1:].min(axis=0) + 0.5, found.min(axis=0))
    np.testing.assert_allclose(shown[:, 1:].max(axis=0) - 0.5, found.max(axis=0))
    QTest.mouseClick(panel.preview, LEFT, pos=QPoint(8, panel.preview.height() // 2))
    assert not panel.work.hover.is_on


def hand_over_what_was_said(user: Clicker, at: Index, away: Index) -> None:
    """Train gets both clicks; what nobody said anything about has the id that it ignores. One click is not enough."""
    panel = user.panel
    QTest.mouseClick(panel.only_said, LEFT, pos=QPoint(8, panel.only_said.height() // 2))
    user.press(panel.train_button)
    assert "only label 1 was said" in notification_manager.records[-1].message
    user.key(Qt.Key.Key_T)
    user.click_voxel(away)
    user.press(panel.train_button)
    wait_until(lambda: any(layer.name.endswith("said") for layer in user.window.layers))
    given = next(layer for layer in user.window.layers if layer.name.endswith("said"))
    train = user.window.window.dock_widgets["Train (napari-medseg)"]
    assert (user.layer, given) in train.cases.pairs
    assert ignored_in(given) == 255
    assert train.options["ignore_label"].value != "255", "other rows have no such id"
    data = panel.work.canvas.place.from_layer(np.asarray(given.data))
    assert data[at] == 1
    assert data[away] == 0
    assert (data == 255).mean() > 0.9


def refuse_in_one_line(user: Clicker) -> None:
    """What cannot be done is said in one line, and nothing is lost."""
    panel = user.panel
    before, prompts = user.mask(1), panel.work.view.prompts
    user.press(panel.tools["P"])
    user.look_at((0, 0, 0))
    user.click(user.pixel((0, -9, -9)))
    assert "outside" in notification_manager.records[-1].message
    other = user.window.add_labels(np.ones((3, 4, 5), np.uint8), name="another grid", units=["mm"] * 3)
    panel.start.choose(other)
    user.press(panel.correct_button)
    assert "grid" in notification_manager.records[-1].message
    with patch("importlib.util.find_spec", return_value=None):
        user.press(panel.views_button)
    assert "pip install napari-orthogonal-views" in notification_manager.records[-1].message
    assert all("\n" not in record.message for record in notification_manager.records)
    np.testing.assert_array_equal(user.mask(1), before)
    assert panel.work.view.prompts == prompts
    assert len(panel.work.canvas.points.data) == sum(isinstance(prompt, ms.Point) for prompt in prompts)


def _click_cell(table: Any, row: int, column: int) -> None:
    rect = table.visualItemRect(table.item(row, column))
    where = rect.center() if column else QPoint(rect.left() + 10, rect.center().y())
    QTest.mouseClick(table.viewport(), LEFT, pos=where)


def click_in_3d(user: Clicker) -> None:
    """A click with the mouse in 3D marks the brightest voxel behind it."""
    user.press(user.panel.tools["P"])
    user.window.dims.ndisplay = 3
    QTest.qWait(200)
    user.click(user.canvas.rect().center())
    user.settle()
    prompt = user.panel.work.view.prompts[-1]
    assert user.mask(prompt.label)[prompt.at]


def close_at_work(user: Clicker) -> None:
    """The panel goes while it works, and listens to the viewer no more; its layers stay."""
    panel, canvas = user.panel, user.panel.work.canvas
    gone: list[bool] = []
    panel.destroyed.connect(partial(gone.append, True))
    canvas.add_point((20, 30, 40))
    assert panel.work.queue.left
    user.window.window.remove_dock_widget(panel)
    panel.deleteLater()
    wait_until(lambda: bool(gone))
    assert canvas._callbacks[0] not in user.window.mouse_drag_callbacks
    canvas.add_point((20, 30, 50))  # nobody follows it
    assert canvas.labels in user.window.layers


def crash_and_resume(user: Clicker, label: int) -> None:
    """The panel and its layers go without a word; the next panel offers what was done, and does it again."""
    before, prompts = user.mask(label), len(user.panel.work.view.prompts)
    lost = user.panel
    lost._close()
    user.window.window.remove_dock_widget(lost)
    lost.deleteLater()
    for layer in list(user.window.layers)[1:]:
        user.window.layers.remove(layer)
    user.open()
    assert user.panel.earlier.resume_button.isVisible()
    user.picture("recovery")
    user.press(user.panel.earlier.resume_button)
    np.testing.assert_array_equal(user.mask(label), before)
    assert len(user.panel.work.view.prompts) == prompts
    assert user.panel.work.view.locked == {label}
