"""The picture of a training is renewed in its layer, but never over what the user painted there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject

from balls import balls, volume
from napari_medseg.events import Work
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import volume_layer
from napari_medseg.widgets.learning import preview as module
from napari_medseg.widgets.learning.preview import Preview


@pytest.fixture
def owner(qapp: Any) -> QObject:
    return QObject()


@pytest.fixture
def preview(owner: QObject, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> Preview:
    """Of a training that sees two balls."""

    def segmented(*_: object) -> Work[Segmentation]:
        yield from ()
        return Segmentation(balls(), volume().grid)

    monkeypatch.setattr(module, "_segmented", segmented)
    data, arguments, _ = volume_layer(volume())[0]
    made = Preview(owner, viewer)
    made.begin(Path("balls.safetensors"), [viewer.add_image(data, **arguments)], "cpu")
    return made


def show(preview: Preview, qtbot: Any) -> Any:
    preview.show()
    qtbot.waitUntil(lambda: not preview._background.runner.is_busy)
    return preview.layer


def test_a_picture_is_renewed_in_its_layer(preview: Preview, viewer: ViewerModel, qtbot: Any) -> None:
    viewer.layers.selection.active = viewer.layers[0]
    first = show(preview, qtbot)
    before = first.data
    assert viewer.layers.selection.active is viewer.layers[0]
    assert show(preview, qtbot) is first
    assert first.data is not before
    assert len(viewer.layers) == 2


def test_what_was_painted_stays(preview: Preview, viewer: ViewerModel, qtbot: Any) -> None:
    painted = show(preview, qtbot)
    picture = painted.data.copy()
    painted.paint((0, 1, 1), 7)
    viewer.layers.selection.active = painted
    kept = painted.data.copy()
    renewed = show(preview, qtbot)
    np.testing.assert_array_equal(painted.data, kept)
    assert (kept == 7).any()
    np.testing.assert_array_equal(renewed.data, picture)
    assert [layer.name for layer in viewer.layers[1:]] == ["balls so far", "balls so far [1]"]
    assert viewer.layers.selection.active is painted, "the brush stays where it was"
    assert "'balls so far' keeps what you painted" in notification_manager.records[-1].message
    assert show(preview, qtbot) is renewed
