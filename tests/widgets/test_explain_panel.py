"""The Explain panel gives the map that `explain` gives, with its sentence and its check."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

import napari_medseg as ms
from balls import volume
from napari_medseg.events import Finished, Progress
from napari_medseg.explanation.methods import METHODS
from napari_medseg.widgets.canvas.layers import to_volume, volume_layer, world_point
from napari_medseg.widgets.explaining.panel import ExplainPanel
from napari_medseg.widgets.fields.forms import choose


@pytest.fixture
def panel(viewer: ViewerModel, ball_model: Path, models_folder: Path, qtbot: Any) -> ExplainPanel:
    shutil.copy(ball_model, models_folder / "balls.safetensors")
    made = ExplainPanel(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: made.models.model is not None)
    return made


def click(viewer: ViewerModel, layer: Any, voxel: tuple[int, int, int]) -> None:
    """As a click on the canvas calls napari's callbacks."""
    event = SimpleNamespace(position=world_point(layer, voxel, list(viewer.layers)))
    for callback in viewer.mouse_drag_callbacks:
        callback(viewer, event)


def test_a_voxel_is_picked_and_explained_as_in_python(viewer: ViewerModel, panel: ExplainPanel, qtbot: Any) -> None:
    assert "Waits for an image" in panel.waits.text()
    image = replace(volume(seed=0), name="ct")
    data, arguments, _ = volume_layer(image)[0]
    layer = viewer.add_image(data, **arguments)
    assert [panel.label.itemText(i) for i in range(panel.label.count())] == ["1 left ball", "2 right ball"]
    choose(panel.label, 2)
    choose(panel.target, "voxel")
    assert "press Pick" in panel.waits.text()
    assert not panel.run_button.isEnabled()
    click(viewer, layer, (6, 14, 8))
    assert not panel.run_button.isEnabled(), "the button Pick was not pressed"
    panel.picker.button.click()
    click(viewer, layer, (6, 14, 8))
    assert panel.picker.voxel == (6, 14, 8)
    choose(panel.method, "integrated-gradients")
    assert panel.sentence.text() == METHODS["integrated-gradients"].sentence
    panel.options["check"].value = True
    events: list[Any] = []
    panel.runner.happened.connect(events.append)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert any(isinstance(event, Progress) for event in events)
    asked = {"label": 2, "method": "integrated-gradients", "voxel": (6, 14, 8)}
    assert panel.asked == asked
    assert panel.models.model is not None
    expected = ms.explain(image, panel.models.model.path, **asked)
    made = viewer.layers[-1]
    assert made.name == "ct integrated-gradients right ball at (6, 14, 8)"
    assert made.colormap.name == "PiYG"
    assert made.contrast_limits[0] == -made.contrast_limits[1]
    np.testing.assert_array_equal(np.asarray(to_volume(made).data), np.asarray(expected.data))
    assert "random weights (mean correlation" in panel.report.text()
    panel.python_button.click()
    assert "label=2, method='integrated-gradients', voxel=(6, 14, 8), check=True)" in QApplication.clipboard().text()

    events.clear()
    panel.images[0].choose(layer)
    panel.runner.happened.connect(lambda _: panel.runner.cancel())
    choose(panel.target, "label")
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert not any(isinstance(event, Finished) for event in events)
    assert viewer.layers[-1] is made
