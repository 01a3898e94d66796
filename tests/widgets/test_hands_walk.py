"""What went wrong in real hands, in a real window and by its mouse: labels of another program, a turned layer, a brush
on a layer that fills, two Segment panels, a saved pair, errors as contours, and an early close."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

import napari_medseg as ms
from balls import balls, volume
from dicom_files import voxels, write_series
from metrics_walk import wait_until
from napari_medseg.events import Progress
from napari_medseg.io import caret
from napari_medseg.models.file import list_models
from napari_medseg.sample import sample_files
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.save_all import write_layers
from napari_medseg.widgets.segment import SegmentPanel

LEFT = Qt.MouseButton.LeftButton
_COS, _SIN = np.cos(0.3), np.sin(0.3)
_TURNED = [[1, 0, 0], [0, _COS, -_SIN], [0, _SIN, _COS]]
"""By the user, within the slices."""


@pytest.fixture
def window(make_napari_viewer: Any, ball_model: Path, models_folder: Path) -> Any:
    shutil.copy(ball_model, models_folder / "balls.safetensors")
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    return viewer


def test_what_went_wrong_in_real_hands(window: Any, tmp_path: Path) -> None:
    image, truth = open_files_of_another_program(window, tmp_path)
    segment = open_panel(window, "Segment")
    wait_until(lambda: segment.segment_button.isEnabled())
    segment.images[0].choose(image)
    made = segment_a_turned_layer(window, segment, image)
    brush_and_undo(window, made)
    run_two_panels(window, segment, image)
    show_errors(window, truth, made)
    save_and_drop(window, image, truth, tmp_path)
    close_early(window)


def open_files_of_another_program(window: Any, folder: Path) -> tuple[Any, Any]:
    """An image, and labels with names and colours in the extension of their header, as TotalSegmentator writes them."""
    ms.write(folder / "ct.nii.gz", volume())
    labels = nibabel.Nifti1Image(balls().T, nibabel.load(folder / "ct.nii.gz").affine)
    table = caret.to_extension({1: "liver", 2: "spleen"}, {1: (255, 128, 0), 2: (0, 5, 200)})
    labels.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, table))
    nibabel.save(labels, folder / "organs.nii.gz")
    (image,) = window.open(folder / "ct.nii.gz", plugin="napari-medseg")
    (truth,) = window.open(folder / "organs.nii.gz", plugin="napari-medseg")
    assert (type(truth), truth.opacity, list(truth.features["name"])) == (Labels, 0.5, ["liver", "spleen"])
    np.testing.assert_allclose(truth.get_color(1), (1, 128 / 255, 0, 1), atol=1e-6)
    truth.visible = False
    return image, truth


def open_panel(window: Any, name: str) -> Any:
    panel = window.window.add_plugin_dock_widget("napari-medseg", name)[1]
    QTest.qWait(100)
    return panel


def click(panel: Any, button: Any) -> None:
    QTest.mouseClick(button, LEFT)
    wait_until(lambda: not panel.runner.is_busy)
    QTest.qWait(50)


def segment_a_turned_layer(window: Any, segment: Any, image: Any) -> Any:
    """The result lies on its image. No brush is taken while it fills, and the words of the model are there."""
    words = segment.models.facts.text()
    segment.models.select(sample_files()["model"])
    wait_until(lambda: "of no use on patients" in segment.models.facts.text())
    wait_until(lambda: "does not look like CT" in segment.estimate.doubts.text())
    assert segment.estimate.doubts.isVisible()
    segment.models.select(next(path for path in list_models()))
    wait_until(lambda: segment.models.facts.text() == words)
    image.rotate = _TURNED
    brushed: list[bool] = []

    def brush(event: object) -> None:
        if isinstance(event, Progress):
            layer = window.layers[-1]
            layer.mode = "paint"
            brushed.append(layer.editable or str(layer.mode) == "paint")

    segment.runner.happened.connect(brush)
    click(segment, segment.segment_button)
    segment.runner.happened.disconnect(brush)
    made = window.layers["ct labels"]
    assert brushed
    assert not any(brushed)
    for index in ((0, 0, 0), (3, 7, 9), (11, 19, 15)):
        np.testing.assert_allclose(made.data_to_world(index), image.data_to_world(index), atol=1e-6)
    return made


def brush_and_undo(window: Any, made: Any) -> None:
    """A stroke by the mouse, and Ctrl+Z: the finished result is back, and not what was there before the run."""
    finished = np.asarray(made.data).copy()
    assert finished.any()
    window.layers.selection.active = made
    made.mode, made.selected_label, made.brush_size = "paint", 2 if finished[6, 10, 8] != 2 else 1, 3
    canvas = window.window._qt_viewer.canvas.native
    show_voxel(window, made, (6, 10, 8))
    QTest.qWait(50)
    middle = canvas.rect().center()
    QTest.mousePress(canvas, LEFT, pos=middle)
    QTest.mouseMove(canvas, middle + QPoint(3, 3))
    QTest.mouseRelease(canvas, LEFT, pos=middle + QPoint(3, 3))
    QTest.qWait(50)
    assert (np.asarray(made.data) != finished).any()
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QTest.qWait(50)
    np.testing.assert_array_equal(made.data, finished)
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QTest.qWait(50)
    np.testing.assert_array_equal(made.data, finished)
    made.mode = "pan_zoom"


def run_two_panels(window: Any, first: Any, image: Any) -> None:
    """napari's menu shows the panel that is there. A script opens a second one: both run at the same time, each fills a
    layer of its own, and one of them replaces its last result."""
    assert open_panel(window, "Segment") is first
    second = SegmentPanel(window)
    window.window.add_dock_widget(second)
    wait_until(lambda: second.segment_button.isEnabled())
    second.images[0].choose(image)
    before = len(window.layers)
    first.segment_button.click()
    second.segment_button.click()
    wait_until(lambda: not first.runner.is_busy and not second.runner.is_busy)
    QTest.qWait(50)
    added = list(window.layers)[before:]
    assert len(added) == 2
    np.testing.assert_array_equal(added[0].data, added[1].data)
    assert not np.shares_memory(added[0].data, added[1].data)
    assert all(layer.editable and "partial" not in layer.name for layer in added)
    second.replace.value = True
    click(second, second.segment_button)
    assert len(window.layers) == before + 2
    window.window.remove_dock_widget(second)


def show_errors(window: Any, truth: Any, made: Any) -> None:
    """The two layers become contours with the worst voxel marked, and all of it goes again."""
    metrics = open_panel(window, "Metrics")
    metrics.reference.choose(truth)
    metrics.prediction.choose(truth)
    assert "the same layer" in metrics.hint.text()
    image = window.layers["ct"]
    image.rotate = made.rotate = np.eye(3)
    metrics.prediction.choose(made)
    click(metrics, metrics.measure_button)
    assert {row.name for row in metrics.scores.rows} == {"liver", "spleen"}
    before = [layer.name for layer in window.layers]
    metrics.tabs.setCurrentWidget(metrics.errors)
    click(metrics, metrics.errors.errors_button)
    assert (truth.contour, made.contour) == (1, 1)
    assert len(window.layers) > len(before)
    click(metrics, metrics.errors.errors_button)
    assert (truth.contour, made.contour) == (0, 0)
    assert [layer.name for layer in window.layers] == before


def save_and_drop(window: Any, image: Any, truth: Any, folder: Path) -> None:
    """Several layers are saved as a file each; a folder of nested DICOM is dropped."""
    paths = write_layers(str(folder / "pair.nii.gz"), [layer.as_layer_data_tuple() for layer in (image, truth)])
    assert [Path(path).name for path in paths] == ["pair_ct.nii.gz", "pair_organs.nii.gz"]
    assert dict(ms.read_segmentation(paths[1]).labels) == {1: "liver", 2: "spleen"}
    grid = ms.Grid.from_spacing((3, 4, 5), (2.0, 1.0, 1.0))
    for number in (1, 2):
        write_series(folder / "disc" / "PAT" / f"S{number}", voxels(grid.shape), grid, series=f"1.2.{number}")
    before = len(window.layers)
    window.window._qt_viewer._qt_open([str(folder / "disc")], stack=False, plugin="napari-medseg")
    assert len(window.layers) == before + 2


def close_early(window: Any) -> None:
    """A panel that has just begun to load what it needs is closed with its window."""
    window.window.remove_dock_widget("all")
    for name in ("Segment", "Train", "Metrics"):
        window.window.add_plugin_dock_widget("napari-medseg", name)
    window.close()
