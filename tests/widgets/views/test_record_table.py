"""The table sorts numbers as numbers, explains its columns, and keeps what the user chose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

from napari_medseg.metrics import Scores, evaluate
from napari_medseg.metrics.pairwise.instances import Pair
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.views.record_columns import documented_columns, score_columns
from napari_medseg.widgets.views.record_model import text_of
from napari_medseg.widgets.views.record_table import RecordTable

ACROSS, DOWN = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
ASCENDING, DESCENDING = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
DISTANCES = {1: 10.0, 2: math.nan, 3: 9.0, 4: math.inf, 5: 100.0}


@pytest.fixture
def scores() -> Scores:
    """Five labels, whose HD95 is that of DISTANCES."""
    data = np.zeros((2, 3, 6), np.uint8)
    data[0, 0, 1:] = list(DISTANCES)
    names = {label: f"organ {label}" for label in DISTANCES}
    one = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), names)
    measured = evaluate(prediction=one, reference=one)
    return replace(measured, rows=tuple(replace(row, hd95_mm=DISTANCES[row.label]) for row in measured.rows))


@pytest.fixture
def table(qtbot: Any, scores: Scores) -> RecordTable:
    made = RecordTable()
    qtbot.addWidget(made)
    made.show_records(scores.rows, score_columns(scores), lambda label: (label / 10, 0.0, 0.0, 1.0))
    return made


def order(table: RecordTable) -> list[int]:
    return [row.label for row in table.records.rows]


def column(table: RecordTable, name: str) -> int:
    return table.records.columns.index(name)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        pytest.param(ASCENDING, [3, 1, 5, 4, 2], id="up"),
        pytest.param(DESCENDING, [5, 1, 3, 4, 2], id="down"),
    ],
)
def test_numbers_sort_as_numbers_and_what_is_none_comes_last(
    table: RecordTable, direction: Qt.SortOrder, expected: list[int]
) -> None:
    table.sortByColumn(column(table, "hd95_mm"), direction)
    assert order(table) == expected


def test_every_column_has_its_unit_and_its_definition(table: RecordTable, scores: Scores) -> None:
    for section, name in enumerate(table.records.columns):
        tooltip = table.records.headerData(section, ACROSS, Qt.ItemDataRole.ToolTipRole)
        assert scores.definitions[name].title in tooltip
    asd = column(table, "asd_mm")
    assert table.records.headerData(asd, ACROSS) == "ASD\nmm"
    assert "pooled" in table.records.headerData(asd, ACROSS, Qt.ItemDataRole.ToolTipRole)
    assert "Lower is better" in table.records.headerData(asd, ACROSS, Qt.ItemDataRole.ToolTipRole)
    assert table.records.headerData(column(table, "dice"), ACROSS) == "Dice"
    assert table.records.headerData(column(table, "voxels_both"), ACROSS) == "voxels\nA∩B"


def test_a_row_is_headed_by_colour_and_name(table: RecordTable) -> None:
    assert table.records.headerData(0, DOWN) == "organ 1"
    assert table.records.headerData(0, DOWN, Qt.ItemDataRole.ToolTipRole) == "<p>organ 1, label 1</p>"
    swatch = table.records.headerData(4, DOWN, Qt.ItemDataRole.DecorationRole).pixmap(12, 12).toImage()
    assert QColor(swatch.pixel(5, 5)).getRgbF()[0] == pytest.approx(0.5, abs=0.05)


def test_cells_are_short_and_their_tooltip_has_all_digits(table: RecordTable, scores: Scores) -> None:
    third = scores.rows[0].volume_reference_ml / 3
    table.show_records([replace(scores.rows[0], dice=third)], score_columns(scores))
    cell = table.records.index(0, column(table, "dice"))
    assert cell.data() == f"{third:.3f}"
    assert cell.data(Qt.ItemDataRole.ToolTipRole) == str(third)
    assert cell.data(Qt.ItemDataRole.TextAlignmentRole) & Qt.AlignmentFlag.AlignRight


def test_order_and_choice_stay_when_other_numbers_come(table: RecordTable, scores: Scores, qtbot: Any) -> None:
    table.sortByColumn(column(table, "hd95_mm"), DESCENDING)
    with qtbot.waitSignal(table.row_chosen) as chosen:
        table.setCurrentIndex(table.records.index(1, 0))
    assert chosen.args[0].label == 1
    others = [replace(row, hd95_mm=float(row.label)) for row in scores.rows]
    with qtbot.assertNotEmitted(table.row_chosen):
        table.show_records(others, score_columns(scores))
    assert order(table) == [5, 4, 3, 2, 1]
    assert table.record.label == 1


def test_sorting_keeps_the_chosen_row(table: RecordTable) -> None:
    table.choose(5)
    table.sortByColumn(column(table, "hd95_mm"), ASCENDING)
    assert table.record.label == 5


def test_sizes_come_after_the_metrics(table: RecordTable) -> None:
    assert table.records.columns[:2] == ["label", "dice"]
    assert table.records.columns[-1] == "voxels_both"


def test_columns_of_other_records_come_from_their_docs() -> None:
    columns = documented_columns(Pair)
    assert (columns["reference_mm3"].title, columns["reference_mm3"].unit) == ("reference", "mm³")
    assert columns["iou"].formula.startswith("|A n B|")
    assert "case" not in columns


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (0.12345, "0.123"), (math.inf, "∞"), (math.nan, "–"), ("found", "found")], ids=str
)
def test_numbers_are_short_and_honest(value: str | float, text: str) -> None:
    assert text_of(value) == text
