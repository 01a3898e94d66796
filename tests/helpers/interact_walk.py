"""A walk through the Interact panel in a real window, with the mouse and the keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from metrics_walk import LEFT, clipped, wait_until
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import volume_layer

Index = tuple[int, int, int]


class Clicker:
    """Who clicks on an image in a window. shots: a folder for pictures of the window."""

    def __init__(self, window: Any, image: Volume, shots: Path | None = None) -> None:
        self.window, self.shots = window, shots
        data, arguments, _ = volume_layer(image)[0]
        self.layer = window.add_image(data, **{**arguments, "name": "ct"})
        self.panel: Any = None
        self.interactions = 0
        self.open()

    def open(self) -> None:
        self.panel = self.window.window.add_plugin_dock_widget("napari-medseg", "Interact")[1]
        wait_until(lambda: not self.panel._looking.runner.is_busy)
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
        show_voxel(self.window, self.layer, at, self.window.layers)
        QTest.qWait(60)
        self.click(self.canvas.rect().center())

    def click(self, where: QPoint) -> None:
        QTest.mouseMove(self.canvas, where)
        QTest.qWait(20)
        QTest.mouseClick(self.canvas, LEFT, pos=where)
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
    assert user.panel.resume_button.isVisible()
    user.picture("recovery")
    user.press(user.panel.resume_button)
    np.testing.assert_array_equal(user.mask(label), before)
    assert len(user.panel.work.view.prompts) == prompts
    assert user.panel.work.view.locked == {label}
