"""A layer that a run fills: painting begins when it is finished, and so does its history; and it lies on its image."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

import napari_medseg as ms
from balls import volume
from napari_medseg.events import Progress, Started
from napari_medseg.widgets.canvas.filling import begin_filling, end_filling, show_filled
from napari_medseg.widgets.canvas.layers import labels_layer, to_volume, volume_layer
from napari_medseg.widgets.resample import ResamplePanel
from napari_medseg.widgets.segment import SegmentPanel


@pytest.fixture
def panel(viewer: ViewerModel, ball_model: Path, models_folder: Path, qtbot: Any) -> SegmentPanel:
    shutil.copy(ball_model, models_folder / "balls.safetensors")
    made = SegmentPanel(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: made.models.model is not None)
    return made


def add(viewer: ViewerModel, image: ms.Volume) -> Any:
    data, arguments, _ = volume_layer(image)[0]
    return viewer.add_image(data, **arguments)


def paint(layer: Labels) -> None:
    """As a user does: with the brush, where napari lets its mode be chosen."""
    layer.mode = "paint"
    if layer.mode == "paint":
        layer.paint((1, 1, 1), 2)


def test_a_layer_that_is_filled_takes_no_brush_and_no_history() -> None:
    layer = Labels(np.zeros((3, 4, 5), np.uint8))
    begin_filling(layer)
    paint(layer)
    assert not layer.data.any()
    layer.paint((0, 0, 0), 1)  # a script may
    layer.data[...] = 7
    end_filling(layer)
    layer.undo()
    assert (layer.data == 7).all()
    paint(layer)
    assert layer.data[1, 1, 1] == 2
    layer.undo()
    assert (layer.data == 7).all()


@pytest.mark.parametrize("cancels", [False, True], ids=["finished", "cancelled"])
def test_a_run_keeps_its_result_from_the_brush(
    viewer: ViewerModel, panel: SegmentPanel, models_folder: Path, qtbot: Any, cancels: bool
) -> None:
    image = volume(seed=0)
    if cancels:  # before the last of many windows
        noise = np.random.default_rng(0).normal(size=(1, 48, 96, 96)).astype(np.float32)
        image = ms.Volume(noise, ms.Grid.from_spacing((48, 96, 96), (1, 1, 1)))
    add(viewer, replace(image, name="ct"))
    while_filled: list[bool] = []

    def meddle(event: object) -> None:
        if isinstance(event, Started | Progress):
            paint(viewer.layers[-1])
            viewer.layers[-1].undo()
            while_filled.append(viewer.layers[-1].editable)
            if cancels:
                panel.runner.cancel()

    panel.runner.happened.connect(meddle)
    panel.segment_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    layer = viewer.layers[-1]
    assert layer.name == ("ct labels (partial)" if cancels else "ct labels")
    assert while_filled
    assert not any(while_filled)
    left = layer.data.copy()
    layer.undo()
    np.testing.assert_array_equal(layer.data, left)
    if not cancels:
        expected = ms.segment(volume(seed=0), models_folder / "balls.safetensors")
        np.testing.assert_array_equal(layer.data, np.asarray(expected.data))
    paint(layer)
    assert layer.data[1, 1, 1] == 2
    layer.undo()
    np.testing.assert_array_equal(layer.data, left)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, about its display
def test_the_labels_of_a_turned_layer_lie_on_it(
    viewer: ViewerModel, panel: SegmentPanel, models_folder: Path, qtbot: Any
) -> None:
    image = add(viewer, replace(volume(seed=0), name="ct"))
    image.rotate, image.shear, image.translate = (25, -10, 40), (0.2, 0, 0.1), (5, 6, 7)
    expected = ms.segment(to_volume(image), models_folder / "balls.safetensors")
    panel.segment_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    layer = viewer.layers["ct labels"]
    np.testing.assert_array_equal(layer.data, np.asarray(expected.data))
    for corner in np.vstack([np.zeros(3), np.diag(image.data.shape)]):
        np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(corner), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
def test_a_layer_resampled_onto_a_turned_one_lies_on_it(viewer: ViewerModel, qtbot: Any) -> None:
    turned = add(viewer, replace(volume(seed=0), name="turned"))
    turned.rotate = (25, -10, 40)
    add(viewer, replace(volume(seed=1), name="ct"))
    panel = ResamplePanel(viewer)
    qtbot.addWidget(panel)
    panel.layer.choose(viewer.layers["ct"])
    panel.onto.choose(turned)
    panel.resample_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    made = viewer.layers["ct on turned"]
    np.testing.assert_allclose(made.data_to_world((1, 2, 3)), turned.data_to_world((1, 2, 3)), atol=1e-6)


def test_only_what_changed_goes_to_the_screen(viewer: ViewerModel) -> None:
    grid = ms.Grid.from_spacing((6, 7, 8), (2.0, 1.0, 1.0))
    data, arguments, _ = labels_layer(ms.Segmentation(np.zeros(grid.shape, np.uint8), grid, {3: "three"}))
    layer = viewer.add_labels(data, **arguments)
    drawn: list[Any] = []
    layer.refresh = lambda **_: drawn.append("slice")
    box = (slice(2, 4), slice(0, 5), slice(1, 6))
    layer.data[box] = 3
    viewer.dims.set_point(0, 0.0)
    show_filled(layer, box, viewer.dims)
    assert drawn == [], "the slice on the screen has not changed"
    viewer.dims.set_point(0, 3.0 * layer.scale[0])
    drawn.clear()
    show_filled(layer, box, viewer.dims)
    assert drawn == ["slice"]
    viewer.dims.ndisplay = 3
    drawn.clear()
    show_filled(layer, box, viewer.dims)
    assert drawn == ["slice"]
