"""A walk through every control of the Refine panel, in a real window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtTest import QTest

import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from metrics_walk import wait_until
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer

SHAPE = (8, 30, 30)


def case() -> tuple[ms.Volume, ms.Segmentation]:
    """A bright cuboid, and labels that lie two voxels off."""
    truth, given = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    truth[2:6, 8:20, 8:20] = 1
    given[2:6, 10:22, 8:20] = 1
    grid = ms.Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))
    return ms.Volume(truth[None], grid, ("image",), name="CT"), ms.Segmentation(
        given, grid, {1: "liver"}, name="organs"
    )


def walk_refine(window: Any, folder: Path, look: Callable[[str], None] = lambda _: None) -> None:
    """Use every control, and check what it shows. look: called with the name of what is to be seen then."""
    panel = window.window.add_plugin_dock_widget("napari-medseg", "Refine")[1]
    QTest.qWait(100)
    assert "Waits for" in panel.hint.text()
    assert not panel.refine_button.isEnabled()
    image, labels = case()
    data, arguments, _ = volume_layer(image)[0]
    window.add_image(data, **arguments)
    data, arguments, _ = labels_layer(labels)
    layer = window.add_labels(data, **arguments)
    look("empty")
    spec = spec_of(patch=(4, 10, 10))
    plain = write_brighter(folder / "organs.safetensors", segmenter(spec))
    choose(panel, plain.path)
    assert "organs segments images" in panel.hint.text()
    assert not panel.refine_button.isEnabled()
    choose(panel, write_brighter(folder / "organs refiner.safetensors", spec).path)
    assert not panel.hint.text()
    given, wanted = np.array(labels.data), (np.asarray(image.data[0]) > 0).astype(int)  # the layer holds the array
    run(panel)
    refined = np.asarray(layer.data).copy()
    assert (refined != given).any()
    assert (refined == wanted).mean() > (given == wanted).mean()
    assert f"{int((refined != given).sum()):,} voxels changed" in panel.done.text()
    look("refined")
    panel.before_button.click()
    np.testing.assert_array_equal(layer.data, given)
    panel.before_button.click()
    np.testing.assert_array_equal(layer.data, refined)
    layer.data_setitem(tuple(np.array([[0], [0], [0]])), np.array([3]))
    panel.before_button.click()
    panel.undo_button.click()
    assert layer.data[0, 0, 0] == 3, "later paint stays"
    layer.data[0, 0, 0] = 0
    np.testing.assert_array_equal(layer.data, given)
    assert not panel.undo_button.isEnabled()
    assert not panel.before_button.isChecked()
    elsewhere = ms.Volume(
        np.zeros((1, 4, 30, 30), np.float32), ms.Grid.from_spacing((4, 30, 30), (4.0, 1.0, 1.0)), name="MR"
    )
    data, arguments, _ = volume_layer(elsewhere)[0]
    other = window.add_image(data, **arguments)
    panel.images[0].choose(other)
    assert "lie on different grids" in panel.hint.text()
    assert not panel.refine_button.isEnabled()


def choose(panel: Any, path: Path) -> None:
    """Choose a model, and wait until it is read."""
    panel.models.select(path)
    wait_until(lambda: panel.models.model is not None and panel.models.model.path == path)


def run(panel: Any) -> None:
    """Press Refine, and wait until it is done."""
    panel.refine_button.click()
    wait_until(lambda: not panel.working.runner.is_busy and "changed" in panel.done.text())
