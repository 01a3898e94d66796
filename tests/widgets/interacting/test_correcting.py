"""Correct in the Interact panel: labels of a layer take the place of the objects of the same labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QPushButton

from click_phantoms import balls
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer
from napari_medseg.widgets.interacting import work_on_image
from napari_medseg.widgets.interacting.panel import InteractPanel

FIRST, SECOND = (12, 14, 12), (12, 14, 34)
VOLUME, (BALL, _) = balls((24, 28, 46), FIRST, SECOND, radius=7)


def test_correct_leaves_the_objects_of_other_labels(
    viewer: ViewerModel, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path))
    monkeypatch.setattr(work_on_image, "show_info", told.append)
    data, arguments, _ = volume_layer(VOLUME)[0]
    viewer.add_image(data, **arguments)
    given = Segmentation(BALL.astype(np.uint8), VOLUME.grid, {1: "organ"}, name="found")
    data, arguments, _ = labels_layer(given, viewer.layers)
    layer = viewer.add_labels(data, **arguments)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    work = panel.work
    assert work is not None
    work.choose(2)
    work.canvas.add_point(SECOND)
    panel.start.choose(layer)
    panel.correct()
    qtbot.waitUntil(lambda: not work.queue.left)
    assert set(work.view.millilitres) == {1, 2}
    assert told == []
    panel.leave()
    work.choose(1)
    assert panel.status.text().startswith("Take a tool to correct it where it is wrong")
    panel.correct()
    qtbot.waitUntil(lambda: not work.queue.left)
    assert told == ["found takes the place of label 1 (organ): Undo brings it back"]
    assert set(work.view.millilitres) == {1, 2}
    panel._close()


def test_without_an_image_no_button_is_on(viewer: ViewerModel, qtbot: Any) -> None:
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    assert panel.status.text().startswith("Waits for an image")
    assert [
        made.text() for made in panel.findChildren(QPushButton) if made.isEnabled() and made.isVisibleTo(panel)
    ] == []
