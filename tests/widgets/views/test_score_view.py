"""Views of scores: drawn when they are seen, as high as their rows, with names that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from napari.utils.notifications import notification_manager

from napari_medseg.metrics import Scores, combine, evaluate
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.views.score_view import ScoreView

NAMES = {1: "liver", 2: "portal and splenic vein on the left", 3: "portal and splenic vein on the right"}


def case(shift: int) -> Scores:
    grid = Grid.from_spacing((4, 6, 24), (2.0, 1.0, 1.0))
    data = np.zeros(grid.shape, np.uint8)
    for label in NAMES:
        data[1:3, 1:5, 6 * label - 4 : 6 * label] = label
    return evaluate(
        prediction=Segmentation(np.roll(data, shift, axis=2), grid, NAMES), reference=Segmentation(data, grid, NAMES)
    )


@pytest.fixture
def view(qtbot: Any) -> ScoreView:
    made = ScoreView(["bars", "boxes", "volumes", "table"], "nothing yet")
    qtbot.addWidget(made)
    made.resize(350, 500)
    made.show()
    qtbot.waitExposed(made)
    return made


def names(view: ScoreView) -> list[str]:
    assert view.chart is not None
    return [label.get_text() for label in view.chart.axes.get_yticklabels()]


def is_drawn(view: ScoreView) -> bool:
    return view.chart is not None and view.chart.isVisible()


def choose(view: ScoreView, kind: str) -> None:
    view.kind.setCurrentIndex(view.kind.findData(kind))


def test_a_note_stands_where_there_is_nothing_yet(view: ScoreView) -> None:
    assert view.note.isVisible()
    assert not view.metric.isEnabled()


def test_long_names_keep_the_side_at_their_end(view: ScoreView) -> None:
    view.show_scores(case(1))
    assert names(view) == ["liver", "portal and…on the left", "portal and…n the right"]
    assert view.chart is not None
    renderer = view.chart.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in view.chart.axes.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0, "no name is cut off at the left"


def test_the_chosen_column_stays_when_other_scores_come(view: ScoreView) -> None:
    view.show_scores(case(1))
    view.metric.setCurrentIndex(view.metric.findData("hd95_mm"))
    view.show_scores(case(2))
    assert view.chart is not None
    assert view.chart.axes.get_xlabel() == "HD95 (mm)"
    assert {bar.get_width() for bar in view.chart.axes.patches if isinstance(bar, Rectangle)} == {2.0}


def test_what_is_not_seen_is_drawn_when_it_is(view: ScoreView, qtbot: Any) -> None:
    view.hide()
    view.show_scores(case(1))
    assert not is_drawn(view)
    view.show()
    qtbot.waitUntil(lambda: is_drawn(view))


def test_cases_as_boxes_as_volumes_and_as_a_table(view: ScoreView) -> None:
    view.show_scores(combine([("a", case(1)), ("b", case(2))]))
    choose(view, "boxes")
    assert len(names(view)) == 3
    choose(view, "volumes")
    view.label.setCurrentIndex(view.label.findData(3))
    assert view.chart is not None
    assert view.chart.axes.get_ylabel() == "volume B − volume A (ml)"
    assert view.label.isVisible()
    assert not view.metric.isVisible()
    choose(view, "table")
    assert [row.case for row in view.table.records.rows] == ["a"] * 3 + ["b"] * 3
    assert view.table.records.columns[0] == "case"


def test_agreement_of_one_case_is_refused(view: ScoreView) -> None:
    view.show_scores(case(1))
    choose(view, "volumes")
    assert "needs two cases or more of one label" in notification_manager.records[-1].message
