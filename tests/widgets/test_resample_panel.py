"""The Resample panel gives what `resample_onto` gives."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.events import Event, Progress, Work
from napari_medseg.transforms.regrid import resample_onto, resampling_onto
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets import resample as resample_panel
from napari_medseg.widgets.canvas.layers import labels_layer, to_segmentation, to_volume, volume_layer
from napari_medseg.widgets.resample import ResamplePanel

COARSE, FINE = Grid.from_spacing((6, 7, 8), (2.0, 2.0, 2.0)), Grid.from_spacing((12, 14, 16), (1.0, 1.0, 1.0))


@pytest.fixture
def panel(viewer: ViewerModel, qtbot: Any) -> ResamplePanel:
    made = ResamplePanel(viewer)
    qtbot.addWidget(made)
    return made


def cube(grid: Grid) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    data = np.zeros(grid.shape, np.int32)
    data[2:5, 2:5, 2:6] = 70_000
    return data


def resample(panel: ResamplePanel, qtbot: Any, layer: Any, onto: Any, interpolation: str) -> Any:
    panel.layer.choose(layer)
    panel.onto.choose(onto)
    panel.interpolation.value = interpolation
    panel.resample_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    return panel._viewer.layers[-1]


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_labels_and_images_land_on_the_other_grid(
    viewer: ViewerModel, panel: ResamplePanel, qtbot: Any, interpolation: Any
) -> None:
    labels = Segmentation(cube(COARSE), COARSE, {70_000: "cube"}, name="coarse")
    image = Volume(cube(FINE)[None].astype(np.float32), FINE, name="fine")
    data, arguments, _ = labels_layer(labels)
    label_layer = viewer.add_labels(data, **arguments)
    data, arguments, _ = volume_layer(image)[0]
    image_layer = viewer.add_image(data, **arguments)

    made = resample(panel, qtbot, label_layer, image_layer, interpolation)
    assert made.name == "coarse on fine"
    found = to_segmentation(made)
    expected = resample_onto(labels, FINE, interpolation)
    assert found.grid.same_as(FINE)
    assert dict(found.labels) == {70_000: "cube"}
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(expected.data))
    np.testing.assert_array_equal(np.asarray(to_segmentation(label_layer).data), cube(COARSE))

    made = resample(panel, qtbot, image_layer, label_layer, interpolation)
    there = to_volume(made)
    assert there.grid.same_as(COARSE)
    np.testing.assert_allclose(
        np.asarray(there.data), np.asarray(resample_onto(image, COARSE, interpolation).data), rtol=1e-6
    )


def test_progress_is_told_and_a_cancel_acts_between_labels(
    viewer: ViewerModel, panel: ResamplePanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(COARSE.shape[0], dtype=np.int32).repeat(COARSE.shape[1] * COARSE.shape[2]).reshape(COARSE.shape)
    between = Grid.from_spacing(COARSE.shape, (2.0, 2.0, 2.0), (0.5, 0.5, 0.5))
    for name, grid in (("moving", COARSE), ("fixed", between)):
        data, arguments, _ = labels_layer(Segmentation(ids, grid, name=name))
        viewer.add_labels(data, **arguments)
    panel.layer.choose(viewer.layers["moving"])
    panel.onto.choose(viewer.layers["fixed"])
    told: list[Event] = []
    panel.runner.happened.connect(told.append)
    panel.resample_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert Progress(5, 5, "labels resampled") in told
    assert [layer.name for layer in viewer.layers] == ["moving", "fixed", "moving on fixed"]

    asked, made = threading.Event(), list[Event]()

    def until_cancelled(*arguments: Any) -> Work[Any]:
        for event in resampling_onto(*arguments):
            made.append(event)
            if len(made) == 2:
                asked.wait()
            yield event

    monkeypatch.setattr(resample_panel, "resampling_onto", until_cancelled)
    panel.runner.cancelling.connect(asked.set)
    panel.resample_button.click()
    panel.runner.cancel()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert len(made) <= 2, "of 5 labels"
    assert len(viewer.layers) == 3


def test_the_button_is_off_until_two_layers_are_chosen(viewer: ViewerModel, panel: ResamplePanel) -> None:
    assert not panel.resample_button.isEnabled()
    viewer.add_labels(cube(COARSE), name="only", scale=(2, 2, 2), units=("mm",) * 3)
    assert not panel.resample_button.isEnabled()
    viewer.add_labels(cube(FINE), name="second", units=("mm",) * 3)
    panel.onto.choose(viewer.layers["only"])
    panel.layer.choose(viewer.layers["second"])
    assert panel.resample_button.isEnabled()
    assert "6x7x8 at 2, 2, 2 mm" in panel.grids.text()
