"""The Metrics panel gives what the core gives; without a window, on small labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_medseg as ms
from napari_medseg.config import InstancesConfig, MetricsConfig
from napari_medseg.metrics.pairwise.instances import match_instances
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.canvas.layers import labels_layer, to_segmentation
from napari_medseg.widgets.measuring.metrics_panel import MetricsPanel

SPACING = (2.0, 1.0, 1.0)


def cube(start: int, label: int, name: str, spacing: tuple[float, float, float] = SPACING) -> Segmentation:
    data = np.zeros((8, 9, 10), np.uint8)
    data[2:6, 2:7, start : start + 4] = label
    return Segmentation(data, Grid.from_spacing(data.shape, spacing), {1: "liver", 2: "spleen"}, name=name)


@pytest.fixture
def panel(viewer: ViewerModel, qtbot: Any) -> MetricsPanel:
    made = MetricsPanel(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: not made.findChildren(QTimer, options=Qt.FindChildOption.FindDirectChildrenOnly))  # turns
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


def press(button: Any, panel: MetricsPanel, qtbot: Any) -> None:
    button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)


def choose_row(panel: MetricsPanel, row: int, qtbot: Any) -> None:
    table = panel.scored.table
    table.setCurrentIndex(table.records.index(row, 0))
    qtbot.waitUntil(lambda: not panel.looking.runner.is_busy)


def test_the_table_shows_the_scores_of_the_core(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    press(panel.measure_button, panel, qtbot)
    reference, prediction = (to_segmentation(layer) for layer in pair)
    expected = ms.evaluate(prediction=prediction, reference=reference)
    assert panel.scores == expected
    records = panel.scored.table.records
    shown = {name: records.index(0, c).data() for c, name in enumerate(records.columns)}
    row = expected.rows[0]
    assert (shown["dice"], shown["iou"]) == (f"{row.dice:.3f}", f"{row.iou:.3f}")
    assert (shown["voxels_reference"], shown["voxels_prediction"]) == ("80", "80")
    assert "pixel accuracy 0.9444" in panel.scored.summary.text()


def test_the_definitions_reach_the_core_and_are_remembered(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    panel.definitions["preset"].value = "chaos"
    panel.definitions["nsd_tolerance_mm"].value = 0.5
    press(panel.measure_button, panel, qtbot)
    assert panel.scores is not None
    expected = MetricsConfig(preset="chaos", nsd_tolerance_mm=0.5)
    assert panel.scores.config == expected
    next_time = MetricsPanel(viewer)
    qtbot.addWidget(next_time)
    qtbot.waitUntil(lambda: next_time.definitions.config == expected)


def test_the_columns_that_were_ticked_are_shown_and_remembered(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    """And a mean that leaves out a missed label says over how many it is."""
    pair[0].data[0, 0, 0] = 7
    press(panel.measure_button, panel, qtbot)
    assert "mean Dice" in panel.scored.summary.text()
    assert " mm (1 of 2)" in panel.scored.summary.text()
    columns = panel.scored.columns
    ticks = {action.data(): action for action in columns.menu().actions()}
    assert [name for name, tick in ticks.items() if tick.isChecked()] == columns.value.split(",")
    ticks["hd95_mm"].trigger()
    ticks["msd_mm"].trigger()
    table = panel.scored.table
    shown = [name for section, name in enumerate(table.records.columns) if not table.isColumnHidden(section)]
    assert shown == ["dice", "msd_mm", "nsd", "volume_reference_ml", "volume_prediction_ml"]
    next_time = MetricsPanel(viewer)
    qtbot.addWidget(next_time)
    qtbot.waitUntil(lambda: next_time.scored.columns.value.split(",") == shown)


def test_a_click_on_a_row_selects_its_label_and_goes_where_it_is_worst(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    pair[0].data[0, 0, 0] = 7
    press(panel.measure_button, panel, qtbot)
    choose_row(panel, 0, qtbot)
    assert [layer.selected_label for layer in pair] == [1, 1]
    values = [layer.get_value(viewer.dims.point, world=True) for layer in pair]
    assert values in ([0, 1], [1, 0]), "a voxel that only one of the two has"
    choose_row(panel, 1, qtbot)
    assert [layer.selected_label for layer in pair] == [7, 7]
    assert pair[0].get_value(viewer.dims.point, world=True) == 7


def test_the_worst_place_of_all(viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    pair[1].data[7, 8, 9] = 1
    panel.scored.jump_button.click()
    qtbot.waitUntil(lambda: not panel.looking.runner.is_busy)
    np.testing.assert_allclose(viewer.dims.point, pair[1].data_to_world((7, 8, 9)))


def test_the_worst_place_is_named_and_its_row_marked(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    for layer in pair:
        layer.data[0, 0:2, 0:2] = 2
    press(panel.measure_button, panel, qtbot)
    busy: list[bool] = []
    panel.looking.runner.busy.connect(busy.append)
    panel.scored.jump_button.click()
    qtbot.waitUntil(lambda: "<b>liver</b>: 1.00 mm" in panel.scored.place.text())
    assert panel.scored.table.record.label == 1
    assert [layer.selected_label for layer in pair] == [1, 1]
    qtbot.waitUntil(lambda: not panel.looking.runner.is_busy)
    assert busy == [True, False], "the marked row is not looked for again"


def test_copies_for_a_spreadsheet_and_for_python(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    press(panel.measure_button, panel, qtbot)
    actions = {action.text(): action for action in panel.scored.export.menu().actions()}
    actions["Copy table"].trigger()
    header, first = QApplication.clipboard().text().splitlines()
    assert header.split("\t")[:5] == ["label", "name", "voxels_reference", "voxels_prediction", "dice"]
    assert first.split("\t")[:4] == ["1", "liver", "80", "80"]
    actions["Copy as Python"].trigger()
    assert 'preset="survey", nsd_tolerance_mm=1.0' in QApplication.clipboard().text()


@pytest.mark.parametrize(
    ("entry", "suffix", "content"),
    [
        pytest.param("CSV…", ".csv", "1,liver,80,80", id="csv"),
        pytest.param("JSON…", ".json", '"preset": "survey"', id="json"),
        pytest.param("LaTeX…", ".tex", "\\toprule", id="latex"),
        pytest.param("HTML report…", ".html", "Worst places", id="html"),
    ],
)
def test_exports(
    panel: MetricsPanel,
    pair: tuple[Any, Any],
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry: str,
    suffix: str,
    content: str,
) -> None:
    press(panel.measure_button, panel, qtbot)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores"), ""))
    actions = {action.text(): action for action in panel.scored.export.menu().actions()}
    actions[entry].trigger()
    qtbot.waitUntil(lambda: not panel.scored.export.background.runner.is_busy)
    assert content in (tmp_path / f"scores{suffix}").read_text(encoding="utf-8")
    assert notification_manager.records[-1].message == f"wrote {tmp_path / f'scores{suffix}'}"


def test_instances_that_were_matched_are_exported_too(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for button in (panel.measure_button, panel.instances.match_button):
        press(button, panel, qtbot)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores.csv"), ""))
    panel.scored.export.menu().actions()[0].trigger()
    qtbot.waitUntil(lambda: not panel.scored.export.background.runner.is_busy)
    assert {"scores.csv", "scores_instances.csv", "scores_pairs.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert (
        (tmp_path / "scores_pairs.csv").read_text().splitlines()[0].endswith(",instances,connectivity,iou_thresholds")
    )


def test_the_error_layer_lies_on_the_reference(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    press(panel.errors.errors_button, panel, qtbot)
    errors = viewer.layers["net errors"]
    np.testing.assert_array_equal(errors.scale, pair[0].scale)
    values, counts = np.unique(errors.data, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 680, 1: 20, 2: 20}


@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_the_surface_is_coloured_by_its_distance(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any, sign: str
) -> None:
    panel.errors.sign.setCurrentIndex(panel.errors.sign.findData(sign))
    press(panel.errors.surface_button, panel, qtbot)
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    surface = viewer.layers["all labels: distance (mm)"]
    assert set(surface.data[2].tolist()) == ({-1.0, 0.0, 1.0} if sign == "signed" else {0.0, 1.0})
    assert surface.contrast_limits == ([-1.0, 1.0] if sign == "signed" else [0.0, 1.0])
    assert [layer.visible for layer in viewer.layers] == [False, False, True]
    assert "-1.00 to +1.00 mm" in panel.errors.range.text()
    qtbot.waitUntil(lambda: surface.colorbar.visible)


def test_the_surface_of_the_label_that_was_clicked(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    for layer in pair:
        layer.data[0, 0:2, 0:2] = 2
    press(panel.measure_button, panel, qtbot)
    choose_row(panel, 1, qtbot)
    press(panel.errors.surface_button, panel, qtbot)
    qtbot.waitUntil(lambda: "spleen: distance (mm)" in viewer.layers)
    assert not viewer.layers["spleen: distance (mm)"].data[2].any()


def test_a_large_surface_is_drawn_coarser_and_says_so(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medseg.widgets.measuring.errors_tab._MOST_FACES", 50)
    press(panel.errors.surface_button, panel, qtbot)
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    faces = len(viewer.layers[-1].data[1])
    assert faces <= 50
    assert f"Drawn with {faces} of " in panel.errors.range.text()
    assert "-1.00 to +1.00 mm" in panel.errors.range.text()


def test_the_way_back_from_a_surface_to_the_slices(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    pair[1].visible = False
    assert not panel.errors.slices_button.isEnabled()
    for count in (3, 4):
        press(panel.errors.surface_button, panel, qtbot)
        qtbot.waitUntil(lambda n=count: len(viewer.layers) == n and viewer.layers[-1].visible)
    assert [layer.visible for layer in viewer.layers] == [False, False, False, True]
    panel.errors.slices_button.click()
    qtbot.waitUntil(lambda: pair[0].visible)
    assert viewer.dims.ndisplay == 2
    assert [layer.visible for layer in viewer.layers] == [True, False, False, False], "as before the first surface"
    assert not panel.errors.slices_button.isEnabled()


def test_a_jump_from_a_surface_shows_the_place(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    press(panel.errors.surface_button, panel, qtbot)
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3)
    panel.scored.jump_button.click()
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 2)
    qtbot.waitUntil(lambda: all(layer.visible for layer in pair))


def test_instances_are_paired_as_the_core_pairs_them(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    pair[1].data[0, 0, 8:] = 1
    tab = panel.instances
    tab.options["connectivity"].value = 6
    tab.options["iou"].value = "0.3, 0.75"
    press(tab.match_button, panel, qtbot)
    reference, prediction = (to_segmentation(layer) for layer in pair)
    config = InstancesConfig(connectivity=6, iou=(0.3, 0.75))
    expected = match_instances(prediction=prediction, reference=reference, config=config)
    assert tuple(tab.rows.records.rows) == expected.rows
    assert tuple(tab.pairs.records.rows) == expected.pairs
    assert [found.state for found in expected.pairs] == ["found", "extra"]
    tab.pairs.setCurrentIndex(tab.pairs.records.index(1, 0))
    assert pair[1].selected_label == 1
    assert pair[1].get_value(viewer.dims.point, world=True) == 1
    assert viewer.dims.point[0] == pair[1].data_to_world((0, 0, 8))[0]


def test_every_id_as_an_object(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    pair[0].data[0, 0, 0] = 7
    pair[0].show_selected_label = True
    tab = panel.instances
    tab.options["instances"].value = "ids"
    press(tab.match_button, panel, qtbot)
    assert [(row.found, row.missed) for row in tab.rows.records.rows] == [(1, 1)]
    tab.pairs.setCurrentIndex(tab.pairs.records.index(1, 0))
    assert [layer.selected_label for layer in pair] == [7, 7]


def test_two_empty_layers(viewer: ViewerModel, panel: MetricsPanel, qtbot: Any) -> None:
    empty = cube(2, 0, "empty")
    for box in (panel.reference, panel.prediction):
        box.choose(add(viewer, empty))
    panel.show()
    panel.tabs.setCurrentWidget(panel.plots)
    press(panel.measure_button, panel, qtbot)
    assert panel.scored.table.records.rows == []
    assert "mean Dice –" in panel.scored.summary.text()
    panel.scored.jump_button.click()
    qtbot.waitUntil(lambda: not panel.looking.runner.is_busy)
    assert "has any label" in notification_manager.records[-1].message


def test_a_threshold_that_is_none_is_refused(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    panel.instances.options["iou"].value = "half"
    press(panel.instances.match_button, panel, qtbot)
    assert "needs numbers such as 0.5, 0.75; got 'half'" in notification_manager.records[-1].message


def test_scores_follow_the_brush_and_undo(panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any) -> None:
    prediction = pair[1]
    assert not panel.live.isEnabled()
    press(panel.measure_button, panel, qtbot)
    before = panel.scores
    assert before is not None
    prediction.selected_label = 1
    panel.live.setChecked(True)
    prediction.data_setitem(tuple(np.array([[2], [2], [2]])), 1)
    qtbot.waitUntil(lambda: panel.scores != before)
    reference, edited = (to_segmentation(layer) for layer in pair)
    assert panel.scores == ms.evaluate(prediction=edited, reference=reference)
    assert panel.scored.table.records.rows[0].voxels_prediction == 81
    prediction.undo()
    qtbot.waitUntil(lambda: panel.scores == before)


def test_scores_follow_an_array_that_replaces_the_layers(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    reference, prediction = pair
    press(panel.measure_button, panel, qtbot)
    panel.live.setChecked(True)
    prediction.data = reference.data.copy()
    qtbot.waitUntil(lambda: panel.scores is not None and panel.scores.mean["dice"] == 1)
    prediction.data_setitem(tuple(np.array([[2], [2], [2]])), 0)
    qtbot.waitUntil(lambda: panel.scores is not None and panel.scores.mean["dice"] < 1)


def test_scores_follow_the_voxels_when_they_become_larger(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    press(panel.measure_button, panel, qtbot)
    panel.live.setChecked(True)
    for layer in pair:
        layer.scale = [2 * s for s in layer.scale]
    reference, prediction = (to_segmentation(layer) for layer in pair)
    expected = ms.evaluate(prediction=prediction, reference=reference)
    qtbot.waitUntil(lambda: panel.scores == expected)
    assert expected.rows[0].volume_reference_ml == pytest.approx(8 * 0.16)


def test_the_panel_says_what_it_waits_for(viewer: ViewerModel, panel: MetricsPanel) -> None:
    assert panel.hint.text().startswith("Open or paint two Labels layers")
    manual = add(viewer, cube(2, 1, "manual"))
    assert "the same layer: choose two" in panel.hint.text()
    net = add(viewer, cube(3, 1, "net"))
    assert (panel.hint.text(), panel.hint.isHidden()) == ("", True)
    assert (panel.reference.layer, panel.prediction.layer) == (manual, net)


def test_layers_that_change_while_they_are_measured_are_measured_again(
    panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    reference, prediction = pair
    panel.measure_button.click()
    prediction.data = reference.data.copy()  # the worker has the array before
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert panel.scores is not None
    assert panel.scores.mean["dice"] < 1
    panel.live.setChecked(True)
    qtbot.waitUntil(lambda: panel.scores is not None and panel.scores.mean["dice"] == 1)


def test_a_label_that_one_layer_cannot_hold_is_looked_at(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    reference, prediction = pair
    reference.data = reference.data.astype(np.uint16)
    reference.data[0, 0, 0] = 300
    press(panel.measure_button, panel, qtbot)
    choose_row(panel, 1, qtbot)
    assert (reference.selected_label, prediction.selected_label) == (300, 1)
    assert reference.get_value(viewer.dims.point, world=True) == 300


def test_a_surface_needs_volumes(viewer: ViewerModel, panel: MetricsPanel, qtbot: Any) -> None:
    for name in ("manual", "net"):
        viewer.add_labels(np.ones((4, 5), np.uint8), name=name, units=("mm", "mm"))
    panel.errors.surface_button.click()
    assert not panel.runner.is_busy
    assert "'manual' must be a volume for a surface in 3D" in notification_manager.records[-1].message


def test_names_are_shown_as_they_are(viewer: ViewerModel, panel: MetricsPanel, qtbot: Any) -> None:
    name = "<b>=1+1"
    odd = Segmentation(cube(2, 1, "").data, cube(2, 1, "").grid, {1: name}, name=name)
    for box in (panel.reference, panel.prediction):
        box.choose(add(viewer, odd))
    press(panel.measure_button, panel, qtbot)
    assert "&lt;b&gt;=1+1" in panel.scored.summary.text()
    records = panel.scored.table.records
    assert records.headerData(0, Qt.Orientation.Vertical) == name
    assert "&lt;b&gt;" in records.headerData(0, Qt.Orientation.Vertical, Qt.ItemDataRole.ToolTipRole)


def test_unequal_grids_are_refused_and_the_panel_that_helps_is_named(
    viewer: ViewerModel, panel: MetricsPanel, pair: tuple[Any, Any], qtbot: Any
) -> None:
    panel.prediction.choose(add(viewer, cube(3, 1, "thick", (3.0, 1.0, 1.0))))
    press(panel.measure_button, panel, qtbot)
    message = notification_manager.records[-1].message
    assert "'thick' and 'manual' lie on different grids" in message
    assert "Resample panel" in message
    assert panel.scores is None


def test_labels_of_one_patient_are_compared_by_default(viewer: ViewerModel, qtbot: Any) -> None:
    for name, at in (("earlier", 1.0), ("net", 2.0), ("manual", 2.0)):
        made = cube(2, 1, name)
        made = replace(made, grid=Grid.from_spacing(made.grid.shape, SPACING, (at, 0.0, 0.0)))
        add(viewer, replace(made, provenance={"model": "m"} if name == "net" else {}))
    panel = MetricsPanel(viewer)
    qtbot.addWidget(panel)
    assert [box.layer.name for box in (panel.reference, panel.prediction)] == ["manual", "net"]


def test_labels_that_are_opened_one_by_one_are_compared_with_those_of_their_patient(
    viewer: ViewerModel, qtbot: Any
) -> None:
    panel = MetricsPanel(viewer)
    qtbot.addWidget(panel)
    for name, size in (("truth", 4), ("truth of another", 5), ("predicted", 4)):
        viewer.add_labels(np.zeros((size, size, size), np.uint8), name=name)
    assert [box.layer.name for box in (panel.reference, panel.prediction)] == ["truth", "predicted"]


def test_the_buttons_wait_for_two_layers_and_a_table(viewer: ViewerModel, panel: MetricsPanel, qtbot: Any) -> None:
    need_layers = (
        panel.measure_button,
        panel.scored.jump_button,
        panel.errors.errors_button,
        panel.errors.surface_button,
        panel.instances.match_button,
    )
    need_scores = (panel.scored.export, panel.live)
    assert [b.isEnabled() for b in (*need_layers, *need_scores)] == [False] * 7
    add(viewer, cube(2, 1, "manual"))
    assert [b.isEnabled() for b in (*need_layers, *need_scores)] == [False] * 7, "there is nothing to compare it with"
    add(viewer, cube(3, 1, "net"))
    assert [b.isEnabled() for b in (*need_layers, *need_scores)] == [True] * 5 + [False] * 2
    press(panel.measure_button, panel, qtbot)
    assert [b.isEnabled() for b in (*need_layers, *need_scores)] == [True] * 7
