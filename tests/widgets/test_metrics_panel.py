"""The Metrics panel gives what `evaluate` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_medseg as ms
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.layers import labels_layer, to_segmentation
from napari_medseg.widgets.metrics import MetricsPanel
from napari_medseg.widgets.score_table import text_of

SPACING = (2.0, 1.0, 1.0)


def cube(start: int, label: int, name: str, spacing: tuple[float, float, float] = SPACING) -> Segmentation:
    data = np.zeros((8, 9, 10), np.uint8)
    data[2:6, 2:7, start : start + 4] = label
    return Segmentation(data, Grid.from_spacing(data.shape, spacing), {1: "liver", 2: "spleen"}, name=name)


@pytest.fixture
def panel(viewer: ViewerModel, qtbot: Any) -> MetricsPanel:
    made = MetricsPanel(viewer)
    qtbot.addWidget(made)
    return made


def add(viewer: ViewerModel, segmentation: Segmentation) -> Any:
    data, arguments, _ = labels_layer(segmentation)
    return viewer.add_labels(data, **arguments)


@pytest.fixture
def pair(viewer: ViewerModel, panel: MetricsPanel) -> tuple[Any, Any]:
    reference, prediction = add(viewer, cube(2, 1, "manual")), add(viewer, cube(3, 1, "net"))
    panel.reference.choose(reference)
    panel.prediction.choose(prediction)
    return reference, prediction


def press(panel: MetricsPanel, qtbot: Any, name: str) -> None:
    getattr(panel, name).click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=10_000)


def test_the_table_shows_the_scores_of_the_core(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    press(panel, qtbot, "measure_button")
    reference, prediction = (to_segmentation(layer) for layer in pair)
    expected = ms.evaluate(prediction=prediction, reference=reference)
    assert panel.scores == expected
    shown = [panel.table.item(0, c).text() for c in range(panel.table.columnCount())]
    row = expected.rows[0]
    assert shown[:3] == ["liver", f"{row.dice:.3f}", f"{row.iou:.3f}"]
    assert shown[-2:] == ["80", "80"]
    assert "pixel accuracy 0.9444" in panel.summary.text()


def test_the_preset_and_the_tolerance_reach_the_core(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    panel.preset.setCurrentIndex(panel.preset.findData("chaos"))
    panel.tolerance.setValue(0.5)
    press(panel, qtbot, "measure_button")
    assert panel.scores is not None
    assert (panel.scores.config.preset, panel.scores.config.nsd_tolerance_mm) == ("chaos", 0.5)


def test_a_click_on_a_row_selects_the_label_in_both_layers(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    pair[0].data[0, 0, 0] = 7
    press(panel, qtbot, "measure_button")
    panel.table.setCurrentCell(1, 0)
    assert [layer.selected_label for layer in pair] == [7, 7]


def test_copy_gives_a_table_that_a_spreadsheet_takes(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    press(panel, qtbot, "measure_button")
    panel.copy_button.click()
    header, first = QApplication.clipboard().text().splitlines()
    assert header.split("\t")[:5] == ["label", "name", "voxels_reference", "voxels_prediction", "dice"]
    assert first.split("\t")[:4] == ["1", "liver", "80", "80"]


def test_export_writes_the_csv_of_the_core(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    press(panel, qtbot, "measure_button")
    target = tmp_path / "scores"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    panel.export_button.click()
    assert panel.scores is not None
    panel.scores.to_csv(tmp_path / "expected.csv")
    assert target.with_suffix(".csv").read_text() == (tmp_path / "expected.csv").read_text()


def test_the_error_layer_lies_on_the_reference(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    press(panel, qtbot, "errors_button")
    errors = viewer.layers["net errors"]
    np.testing.assert_array_equal(errors.scale, pair[0].scale)
    values, counts = np.unique(errors.data, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 680, 1: 20, 2: 20}


def test_unequal_grids_are_refused_in_the_words_of_the_core(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    panel.prediction.choose(add(viewer, cube(3, 1, "thick", (3.0, 1.0, 1.0))))
    press(panel, qtbot, "measure_button")
    message = notification_manager.records[-1].message
    assert "the prediction 'thick' and the reference 'manual' must lie on the same grid" in message
    assert panel.scores is None


def test_the_buttons_wait_for_two_layers_and_a_table(viewer: ViewerModel, panel: MetricsPanel, qtbot: Any) -> None:
    buttons = (panel.measure_button, panel.errors_button, panel.copy_button, panel.export_button)
    assert [b.isEnabled() for b in buttons] == [False, False, False, False]
    add(viewer, cube(2, 1, "manual"))
    assert [b.isEnabled() for b in buttons] == [True, True, False, False]
    press(panel, qtbot, "measure_button")
    assert [b.isEnabled() for b in buttons] == [True, True, True, True]


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (0.12345, "0.123"), (float("inf"), "∞"), (float("nan"), "–")], ids=str
)
def test_numbers_are_short_and_honest(value: float, text: str) -> None:
    assert text_of(value) == text
