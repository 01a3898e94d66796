"""A panel says why its work failed until it is about other layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.errors import InputError
from napari_medseg.widgets.explaining.panel import ExplainPanel
from napari_medseg.widgets.labelling.labels_panel import LabelsPanel
from napari_medseg.widgets.measuring.metrics_panel import MetricsPanel
from napari_medseg.widgets.refining import RefinePanel
from napari_medseg.widgets.resample import ResamplePanel
from napari_medseg.widgets.segment import SegmentPanel
from napari_medseg.widgets.suggest import SuggestPanel
from napari_medseg.widgets.train import TrainPanel
from napari_medseg.widgets.work.runner import Failed


@pytest.mark.parametrize(
    "kind",
    [ExplainPanel, LabelsPanel, MetricsPanel, RefinePanel, ResamplePanel, SegmentPanel, SuggestPanel, TrainPanel],
)
def test_a_failure_is_told_until_its_layers_are_closed(kind: type[Any], viewer: ViewerModel, qtbot: Any) -> None:
    blank = np.zeros((2, 3, 4), np.uint8)
    for name in "ab":
        viewer.add_image(blank, name=name, units="mm")
        viewer.add_labels(blank, name=f"{name} labels", units="mm")
    panel = kind(viewer)
    qtbot.addWidget(panel)
    panel.progress.show_event(Failed(InputError("photo has 3 channels")))
    viewer.layers[0].name = "photo"
    assert panel.progress.text.text() == "photo has 3 channels"
    viewer.layers.clear()
    assert panel.progress.text.text() == ""
