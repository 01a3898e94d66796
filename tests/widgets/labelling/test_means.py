"""Which images give means beside the labels of a layer, and what is said of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.widgets.canvas.layers import to_segmentation
from napari_medseg.widgets.labelling.labels_panel import LabelsPanel

IMAGES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "one point of time": (np.zeros((1, 3, 4, 5)), {"units": ("s", "mm", "mm", "mm")}, ""),
    "a series": (np.zeros((2, 3, 4, 5)), {}, "image must be a volume"),
    "colours": (np.zeros((4, 5, 3), np.uint8), {"rgb": True}, "no single grey value"),
}


@pytest.mark.parametrize(("data", "arguments", "why"), IMAGES.values(), ids=IMAGES.keys())
def test_why_an_image_gives_no_means(
    viewer: ViewerModel, qtbot: Any, data: Any, arguments: dict[str, Any], why: str
) -> None:
    labels = viewer.add_labels(np.ones((3, 4, 5), np.uint8), units=["mm"] * 3)
    viewer.add_image(data, name="image", **arguments)
    panel = LabelsPanel(viewer)
    qtbot.addWidget(panel)
    image, said = panel._image_on(to_segmentation(labels))
    assert (image is None) == bool(why)
    assert why in said.replace("'", "")
    assert "\n" not in said
