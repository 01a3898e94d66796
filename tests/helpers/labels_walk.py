"""A walk through every control of the Labels panel, in a real window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit

import napari_medseg as ms
from metrics_walk import User, clipped, unmeasured, wait_until
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer
from napari_medseg.widgets.labelling.size_model import JUMP, MEAN, NAME, SHOWN, VOLUME

LEFT = Qt.MouseButton.LeftButton
SHAPE, SPACING = (24, 40, 40), (2.0, 1.0, 1.0)
"""0.002 ml a voxel."""
LIVER, SPLEEN, VESSEL = 1, 2, 3


def case() -> tuple[Volume, Segmentation]:
    """A liver with a hole and an island, a rough spleen, and a vessel of which some slices are painted."""
    data = np.zeros(SHAPE, np.uint8)
    data[4:14, 5:20, 5:20], data[8, 10, 10], data[20, 35, 35] = LIVER, 0, LIVER
    data[4:14, 22:36, 22:36], data[9, 36:40, 28] = SPLEEN, SPLEEN
    data[[2, 8, 14], 24:34, 4:14] = VESSEL
    grid = Grid.from_spacing(SHAPE, SPACING)
    image = Volume((data * 10.0)[None].astype(np.float32), grid, name="CT")
    return image, Segmentation(data, grid, {LIVER: "liver", SPLEEN: "spleen"}, name="organs")


def walk_labels(window: Any, folder: Path, look: Callable[[str], None] = lambda _: None) -> None:
    """Use every control, and check what it shows. look: called with the name of what is to be seen then."""
    user = open_panel(window, look)
    name_a_label(user, folder)
    hide_and_show(user, look)
    jump(user)
    clean(user, look)
    objects(user, look)
    paint_and_follow(user)
    leave(user)


def open_panel(window: Any, look: Callable[[str], None]) -> User:
    user = User(window, unmeasured)
    user.panel = window.window.add_plugin_dock_widget("napari-medseg", "Labels")[1]
    QTest.qWait(100)
    assert "Open or paint a Labels layer" in user.panel.hint.text()
    assert not any(button.isEnabled() for button in user.panel.cleaning.buttons.values())
    look("empty")
    image, labels = case()
    data, arguments, _ = volume_layer(image)[0]
    window.add_image(data, **arguments)
    data, arguments, _ = labels_layer(labels)
    window.add_labels(data, **arguments)
    settle(user)
    rows = [[cell(user, row, column) for column in (NAME, VOLUME, MEAN)] for row in range(3)]
    assert rows == [["liver", "4.500", "10.000"], ["spleen", "3.928", "20.000"], ["label 3", "0.600", "30.000"]]
    assert user.panel.hint.isHidden()
    assert clipped(user.panel) == []
    look("table")
    return user


def name_a_label(user: User, folder: Path) -> None:
    """By a double click; the name is there again when the layer was saved and opened."""
    click_cell(user, 2, NAME)
    assert organs(user).selected_label == VESSEL
    QTest.mouseDClick(user.panel.table.viewport(), LEFT, pos=at(user, 2, NAME))
    (editor,) = user.panel.table.viewport().findChildren(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, "portal vein")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    settle(user)
    assert cell(user, 2, NAME) == "portal vein"
    path = folder / "organs.seg.nrrd"
    assert user.window.layers.save(str(path), plugin="napari-medseg", selected=True) or path.exists()
    assert ms.read_segmentation(path).labels == {LIVER: "liver", SPLEEN: "spleen", VESSEL: "portal vein"}
    (again,) = user.window.open(path, plugin="napari-medseg", layer_type="labels")
    settle(user)
    assert (user.panel.layer.layer, cell(user, 2, NAME)) == (organs(user), "portal vein")
    user.window.layers.remove(again)


def hide_and_show(user: User, look: Callable[[str], None]) -> None:
    before = organs(user).colormap
    for row in (0, 1):
        click_tick(user, row)
    settle(user)
    colours = organs(user).colormap
    assert [bool(colours.map(label)[3]) for label in (LIVER, SPLEEN, VESSEL, 9)] == [False, False, True, True]
    assert np.allclose(colours.map(VESSEL), before.map(VESSEL))
    look("hidden")
    for row in (0, 1):
        click_tick(user, row)
    settle(user)
    assert organs(user).colormap is before


def jump(user: User) -> None:
    for row, label in enumerate((LIVER, SPLEEN, VESSEL)):
        click_cell(user, row, JUMP)
        settle(user)
        assert organs(user).get_value(user.window.dims.point, world=True) == label
        assert np.allclose(user.window.scene.camera.center[1:], user.window.dims.point[1:])


def clean(user: User, look: Callable[[str], None]) -> None:
    """Every step, and Ctrl+Z after it: one for each, exact."""
    layer, cleaning = organs(user), user.panel.cleaning
    checks: tuple[tuple[str, int, Callable[[Any], bool]], ...] = (
        ("islands_ml", 0, lambda data: data[20, 35, 35] == 0 and data[8, 10, 10] == 0),
        ("largest", 0, lambda data: data[20, 35, 35] == 0),
        ("fill_holes", 0, lambda data: data[8, 10, 10] == LIVER),
        ("smooth_mm", 1, lambda data: data[9, 38, 28] == 0 and data[9, 30, 30] == SPLEEN),
        ("interpolate", 2, lambda data: bool((data[2:15, 25:33, 5:13] == VESSEL).all())),
    )
    for steps, row, facts in checks:
        click_cell(user, row, NAME)
        before, history = layer.data.copy(), len(layer._undo_history)
        user.click(cleaning.buttons[steps])
        settle(user)
        assert facts(layer.data), steps
        assert "Ctrl+Z takes it back" in user.panel.done.text()
        assert len(layer._undo_history) == history + 1
        others = before != row + 1
        assert (layer.data[others & (before > 0)] == before[others & (before > 0)]).all(), "other labels stay"
        look(steps)
        undo(user)
        assert np.array_equal(layer.data, before), steps
    click_cell(user, 1, NAME)
    user.click(cleaning.buttons["fill_holes"])
    settle(user)
    assert user.panel.done.text() == "Fill holes: nothing to change."


def objects(user: User, look: Callable[[str], None]) -> None:
    """Number the objects in a layer of their own; delete, merge and split some, each a step that Ctrl+Z takes back."""
    box, organs_layer = user.panel.objects, organs(user)
    user.panel.tabs.setCurrentWidget(box)
    user.click(box.number_button)
    settle(user)
    layer = user.panel.layer.layer
    expected = np.asarray(ms.instances(case()[1]).data)
    assert layer.name == "organs objects"
    assert np.array_equal(layer.data, expected)
    assert labels_listed(user) == list(range(1, int(expected.max()) + 1))
    look("objects")
    liver, island = layer.data[8, 6, 6], layer.data[20, 35, 35]

    def do(button: Any, *chosen: int) -> Any:
        user.panel.table.clearSelection()
        for label in chosen:
            row = labels_listed(user).index(label)
            modifier = Qt.KeyboardModifier.ControlModifier if label != chosen[0] else Qt.KeyboardModifier.NoModifier
            QTest.mouseClick(user.panel.table.viewport(), LEFT, modifier, at(user, row, NAME))
        before, history = layer.data.copy(), len(layer._undo_history)
        user.click(button)
        settle(user)
        assert len(layer._undo_history) == history + 1
        return before

    before = do(box.delete_button, island)
    assert island not in layer.data
    undo(user, layer)
    assert np.array_equal(layer.data, before)
    do(box.merge_button, island, liver)
    assert set(np.unique(layer.data[before == island])) == {min(island, liver)}
    do(box.split_button, min(island, liver))
    assert layer.data[20, 35, 35] not in (0, layer.data[8, 6, 6])
    split_by_clicks(user, layer, look)
    user.window.layers.remove(layer)
    user.panel.tabs.setCurrentIndex(0)
    organs_layer.visible = True
    user.window.layers.selection.active = organs_layer
    settle(user)


def split_by_clicks(user: User, layer: Any, look: Callable[[str], None]) -> None:
    """A click beside the object counts as none; the two that count end the waiting."""
    spleen = layer.data[8, 30, 30]
    click_cell(user, labels_listed(user).index(spleen), JUMP)
    settle(user)
    mode, pick = layer.mode, user.panel.objects.pick_button
    user.click(pick)
    look("clicks")
    canvas, step = user.window.window._qt_viewer.canvas.native, user.window.scene.camera.zoom
    middle = canvas.rect().center()
    for voxels in (-4, 30, 4):
        QTest.mouseClick(canvas, LEFT, pos=middle + QPoint(round(voxels * step), 0))
        QTest.qWait(50)
    assert not pick.isChecked()
    settle(user)
    assert layer.mode == mode
    pieces = np.unique(layer.data[4:14, 22:36, 22:36])
    assert len(pieces) == 2
    assert spleen in pieces
    undo(user, layer)
    assert set(np.unique(layer.data[4:14, 22:36, 22:36])) == {spleen}


def paint_and_follow(user: User) -> None:
    """A new label appears in the table when the brush rests, and goes with Ctrl+Z."""
    layer = organs(user)
    layer.mode, layer.selected_label = "paint", 7
    canvas = user.window.window._qt_viewer.canvas.native
    middle = canvas.rect().center()
    QTest.mousePress(canvas, LEFT, pos=middle)
    for step in (4, 8, 12):
        QTest.mouseMove(canvas, middle + QPoint(step, 0))
        QTest.qWait(20)
    QTest.mouseRelease(canvas, LEFT, pos=middle + QPoint(12, 0))
    wait_until(lambda: 7 in labels_listed(user))
    undo(user)
    wait_until(lambda: 7 not in labels_listed(user))


def leave(user: User) -> None:
    """The layer may go while something is asked of it."""
    click_cell(user, 0, NAME)
    user.click(user.panel.cleaning.buttons["fill_holes"])
    user.window.layers.clear()
    settle(user)
    assert labels_listed(user) == []


def organs(user: User) -> Any:
    return user.window.layers["organs"]


def labels_listed(user: User) -> list[int]:
    return [row.label for row in user.panel.table.sizes.rows]


def cell(user: User, row: int, column: int) -> Any:
    return user.panel.table.sizes.index(row, column).data()


def at(user: User, row: int, column: int) -> QPoint:
    return user.panel.table.visualRect(user.panel.table.sizes.index(row, column)).center()


def click_cell(user: User, row: int, column: int) -> None:
    QTest.mouseClick(user.panel.table.viewport(), LEFT, pos=at(user, row, column))
    QTest.qWait(QApplication.doubleClickInterval() + 50)


def click_tick(user: User, row: int) -> None:
    """The box of the tick, at the left of its cell."""
    rect = user.panel.table.visualRect(user.panel.table.sizes.index(row, SHOWN))
    QTest.mouseClick(user.panel.table.viewport(), LEFT, pos=QPoint(rect.left() + 12, rect.center().y()))
    QTest.qWait(QApplication.doubleClickInterval() + 50)


def undo(user: User, layer: Any = None) -> None:
    canvas = user.window.window._qt_viewer.canvas.native
    user.window.layers.selection.active = organs(user) if layer is None else layer
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(user)


def settle(user: User) -> None:
    """Until what was asked for is done; the table waits for the brush to rest."""
    QTest.qWait(350)
    panel = user.panel
    wait_until(
        lambda: not any(b.runner.is_busy for b in (panel.looking, panel.colouring, panel.counting, panel.working))
    )
    QTest.qWait(50)
