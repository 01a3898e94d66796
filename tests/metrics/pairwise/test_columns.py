"""The table of columns: every column of the scores, as its preset defines it."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest

from napari_medseg import Grid, Segmentation, evaluate
from napari_medseg.config import Preset
from napari_medseg.metrics import Row, Scores
from napari_medseg.metrics.pairwise.columns import COLUMNS, RULE_TEXTS, SUMMARIES, Column, columns_of

UNITS = {"_mm": "mm", "_ml": "ml"}


def test_every_column_of_a_row_has_its_definition() -> None:
    assert list(COLUMNS) == [field.name for field in fields(Row)]
    assert all(isinstance(getattr(Scores, name), property) for name in SUMMARIES)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_unit_in_a_name_is_the_column_s(name: str) -> None:
    column = COLUMNS[name]
    assert column.unit == UNITS.get(name[-3:], column.unit)
    assert (column.unit in UNITS.values()) == (name[-3:] in UNITS)
    assert "\n" not in column.formula
    assert column.heading == (f"{column.title} ({column.unit})" if name[-3:] in UNITS else column.title)


@pytest.mark.parametrize(
    ("field", "heading"),
    [
        ("l_mm", "l (mm)"),
        ("surface_mm2", "surface (mm²)"),
        ("change_percent", "change (%)"),
        ("iou_above", "IoU above"),
        ("p_holm", "p Holm"),
    ],
    ids=["length", "area", "percent", "name", "person"],
)
def test_a_field_is_written_as_people_write_it(field: str, heading: str) -> None:
    assert Column.of_field(field, "").heading == heading


@pytest.mark.parametrize("preset", get_args(Preset))
def test_presets_differ_in_rvd_alone(preset: Preset) -> None:
    found = columns_of(preset)
    assert list(found) == list(COLUMNS)
    assert [name for name in found if found[name] != COLUMNS[name]] == ([] if preset == "survey" else ["rvd"])
    assert preset in RULE_TEXTS


def test_scores_say_what_their_columns_mean() -> None:
    one = Segmentation(np.ones((1, 2, 2), np.uint8), Grid.from_spacing((1, 2, 2), (1.0, 1.0, 1.0)))
    definitions = evaluate(prediction=one, reference=one, preset="chaos").definitions
    assert list(definitions) == list(COLUMNS)[1:]
    assert (definitions["rvd"].unit, definitions["rvd"].heading) == ("%", "RVD (%)")
