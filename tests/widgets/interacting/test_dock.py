"""The panel in the window's dock: closed by its cross, its work is offered to the next panel."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QIcon
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

import napari_medseg as ms
from click_phantoms import balls
from interact_walk import Clicker
from metrics_walk import wait_until
from napari_medseg.widgets.interacting.panel import InteractPanel

FIRST = (12, 14, 12)
VOLUME, _ = balls((24, 28, 46), FIRST, (12, 14, 34), radius=7)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))


@pytest.fixture
def user(make_napari_viewer: Any) -> Clicker:
    return Clicker(make_napari_viewer(show=True), VOLUME)


def test_work_closed_by_the_cross_is_offered_at_once(user: Clicker) -> None:
    closed = user.panel
    closed.take("P")
    work = closed.work
    work.canvas.add_point(FIRST)
    closed.parent().destroyOnClose()
    user.panel = user.window.window.add_plugin_dock_widget("napari-medseg", "Interact")[1]
    assert user.panel is not closed
    assert closed.work is None
    wait_until(lambda: user.panel.earlier.count == 1)
    assert user.panel.earlier.resume_button.isVisible()
    user.press(user.panel.earlier.resume_button)
    assert [prompt.at for prompt in user.panel.work.view.prompts] == [FIRST]
    assert user.mask(1)[FIRST]


def test_resumed_work_takes_the_place_of_the_layers_that_were_left(user: Clicker) -> None:
    user.panel.take("P")
    user.panel.work.canvas.add_point(FIRST)
    user.settle()
    before = user.mask(1)
    user.panel.parent().destroyOnClose()
    user.open()
    wait_until(lambda: user.panel.earlier.count == 1)
    user.press(user.panel.earlier.resume_button)
    names = [layer.name for layer in user.window.layers]
    assert names == ["ct", "ct labels", "ct clicks", "ct strokes"]
    np.testing.assert_array_equal(user.mask(1), before)


def test_removed_clicks_come_back(user: Clicker) -> None:
    user.panel.take("P")
    work = user.panel.work
    work.canvas.add_point(FIRST)
    user.settle()
    user.window.layers.remove(work.canvas.points)
    user.panel.take("P")
    assert user.panel.work is work
    assert [layer.name for layer in user.window.layers] == ["ct", "ct labels", "ct strokes", "ct clicks"]
    user.click_voxel((12, 14, 34))
    assert len(work.view.prompts) == len(work.canvas.points.data) == 2


def test_work_whose_labels_were_removed_is_offered(user: Clicker) -> None:
    user.panel.take("P")
    work = user.panel.work
    work.canvas.add_point(FIRST)
    user.settle()
    before = user.mask(1)
    user.window.layers.remove(work.canvas.labels)
    user.panel.take("P")
    assert user.panel.work is not work
    wait_until(user.panel.earlier.resume_button.isVisible)
    user.press(user.panel.earlier.resume_button)
    np.testing.assert_array_equal(user.mask(1), before)
    assert [layer.name for layer in user.window.layers] == ["ct", "ct labels", "ct clicks", "ct strokes"]


def test_work_on_an_image_that_was_moved_goes_on_in_its_new_place(user: Clicker) -> None:
    user.panel.take("P")
    work = user.panel.work
    work.canvas.add_point(FIRST)
    user.settle()
    before = user.mask(1)
    user.layer.translate = np.add(user.layer.translate, (0, 0, 11))
    assert user.panel.work is not work
    assert "has another place or other units now" in notification_manager.records[-1].message
    wait_until(user.panel.earlier.resume_button.isVisible)
    user.press(user.panel.earlier.resume_button)
    np.testing.assert_array_equal(user.mask(1), before)
    assert [layer.name for layer in user.window.layers] == ["ct", "ct labels", "ct clicks", "ct strokes"]
    np.testing.assert_array_equal(user.panel.work.canvas.labels.translate, user.layer.translate)
    user.press(user.panel.tools["P"])
    user.press(user.panel.next_button)
    user.click_voxel((12, 14, 34))
    assert user.panel.work.view.prompts[-1].at == (12, 14, 34)


def test_labels_are_saved_with_their_names_on_their_grid(
    user: Clicker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def chosen(*question: Any) -> tuple[str, str]:
        asked.append(question)
        return str(tmp_path / "clicked"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    user.panel.take("P")
    user.panel.work.canvas.add_point(FIRST)
    user.settle()
    user.panel.objects.item(0, 1).setText("spleen")
    user.press(user.panel.save_button)
    assert asked[0][2] == "ct_labels.nii.gz"
    assert asked[0][3].startswith("NIfTI (*.nii.gz")
    labels = ms.read_segmentation(tmp_path / "clicked.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.data) == 1, user.mask(1))
    assert labels.labels == {1: "spleen"}
    assert labels.grid.same_as(VOLUME.grid)
    assert "clicked.nii.gz" in notification_manager.records[-1].message


def test_an_object_is_deleted_and_comes_back(user: Clicker) -> None:
    user.panel.take("P")
    user.panel.work.canvas.add_point(FIRST)
    user.settle()
    before = user.mask(1)
    QTest.keyClick(user.panel.objects, Qt.Key.Key_Delete)
    user.settle()
    assert not user.mask(1).any()
    assert len(user.panel.work.canvas.points.data) == 0
    assert "label 1 is deleted" in notification_manager.records[-1].message
    user.press(user.panel.undo_button)
    np.testing.assert_array_equal(user.mask(1), before)
    assert len(user.panel.work.canvas.points.data) == 1
    user.press(user.panel.delete_button)
    assert not user.mask(1).any()
    assert not user.panel.delete_button.isEnabled()


def test_the_panel_says_what_comes_next_and_offers_what_has_use(user: Clicker) -> None:
    panel = user.panel
    panel.take("P")
    user.settle()
    assert "Click on the object" in panel.status.text()
    uses = (panel.undo_button, panel.redo_button, panel.accept_button, panel.delete_button, panel.train_button)
    assert not any(button.isEnabled() for button in (*uses, panel.save_button))
    assert panel.start.layers == [], "its own labels are not offered"
    panel.work.canvas.add_point(FIRST)
    user.settle()
    assert "saved" not in panel.status.text()
    assert panel.save_button.isEnabled()
    assert panel.accept_button.isEnabled()
    user.window.layers.selection.active = user.layer
    assert "Another layer is active" in panel.status.text()
    panel.take("M")
    assert "what is shown there already counts" in panel.status.text()
    assert panel.status.mapTo(panel, panel.status.rect().topLeft()).y() < panel.image.mapTo(panel, QPoint()).y()
    assert panel.work.canvas.labels.brush_size == 2, "a tenth of a small volume"
    assert "by shapes alone: At once" in panel.slices.options["method"].tooltip
    colour = panel.objects.item(0, 1).data(Qt.ItemDataRole.DecorationRole)
    plain, chosen = (
        colour.pixmap(14, mode).toImage().pixelColor(7, 7) for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected)
    )
    assert plain == chosen


def test_units_that_are_missing_are_told_once(viewer: ViewerModel, qtbot: Any) -> None:
    viewer.add_image(np.zeros((3, 4, 5), np.float32), name="photo")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        panel = InteractPanel(viewer)
        qtbot.addWidget(panel)
        panel.take("P")
    (said,) = [str(warning.message) for warning in found if "no units" in str(warning.message)]
    assert said.endswith("viewer.layers['photo'].units = 'um'")
