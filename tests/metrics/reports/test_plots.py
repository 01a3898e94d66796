"""The plots show the numbers of the scores: what is drawn is read back from the axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from napari_medseg.errors import InputError
from napari_medseg.metrics import Scores, combine, evaluate
from napari_medseg.metrics.reports.plots import draw_bars, draw_bland_altman, draw_boxes
from napari_medseg.volume import Grid, Segmentation

NAMES = {1: "liver", 2: "spleen"}


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def compared(moved: int) -> Scores:
    """Two labels; the prediction has the first one `moved` voxels off, the second as it is."""
    grid = Grid.from_spacing((10, 10, 20), (5.0, 2.0, 1.0))
    arrays = []
    for shift in (0, moved):
        data = np.zeros(grid.shape, np.uint8)
        data[2:6, 2:6, 2 + shift : 8 + 2 * shift], data[7:9, 7:9, 5:10] = 1, 2
        arrays.append(Segmentation(data, grid, NAMES))
    return evaluate(prediction=arrays[1], reference=arrays[0])


def cases() -> Scores:
    return combine([(f"case {moved}", compared(moved)) for moved in range(4)])


def floats(values: Any) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def xs(vertices: Any) -> npt.NDArray[np.float64]:
    return floats(vertices)[:, 0]


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_bar_per_label(axes: Axes) -> None:
    scores = compared(2)
    draw_bars(axes, scores, "dice")
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == [row.dice for row in scores.rows]
    assert names(axes) == ["liver", "spleen"]
    assert axes.get_xlabel() == "Dice"
    assert axes.yaxis_inverted()


def test_what_is_no_finite_number_is_told_apart(axes: Axes) -> None:
    scores = compared(2)
    liver, spleen = scores.rows
    third = replace(spleen, label=3, name="gone", asd_mm=4.0)
    odd = replace(scores, rows=(replace(liver, asd_mm=math.inf), replace(spleen, asd_mm=math.nan), third))
    draw_bars(axes, odd, "asd_mm")
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert [patch.get_width() for patch in hatched if isinstance(patch, Rectangle)] == [4.0]
    assert {"∞", "–", "4.00"} == {text.get_text().strip() for text in axes.texts}


def test_a_box_per_label_over_the_cases(axes: Axes) -> None:
    scores = cases()
    far = replace(scores.rows[0], case="far", dice=0.0)
    draw_boxes(axes, replace(scores, rows=(*scores.rows, far)), "dice")
    values = [row.dice for row in (*scores.rows, far) if row.label == 1]
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    box = axes.patches[0]
    assert isinstance(box, Rectangle)
    assert (box.get_x(), box.get_width()) == pytest.approx((q1, q3 - q1))
    whiskers, medians = ([xs(path.vertices) for path in lines.get_paths()] for lines in axes.collections)
    assert medians[0].tolist() == pytest.approx([median, median])
    inside = [value for value in values if value >= q1 - 1.5 * (q3 - q1)]
    assert whiskers[0].tolist() == pytest.approx([min(inside), q1])
    (dots,) = axes.lines
    assert floats(dots.get_xdata())[: len(values)].tolist() == values
    assert names(axes) == ["liver", "spleen"]


def test_boxes_say_how_many_cases_are_in_them(axes: Axes) -> None:
    scores = cases()
    missed = tuple(replace(row, asd_mm=math.inf) if row.case == "case 1" else row for row in scores.rows)
    draw_boxes(axes, replace(scores, rows=missed), "asd_mm")
    assert names(axes) == ["liver (3 of 4)", "spleen (3 of 4)"]


def test_no_dot_lies_on_the_edge(axes: Axes) -> None:
    draw_boxes(axes, cases(), "msd_mm")
    left, right = axes.get_xlim()
    assert left < 0.0 < 3.0 < right, "the distances of the cases"


@pytest.mark.parametrize("draw", [draw_bars, draw_boxes], ids=["bars", "boxes"])
def test_a_fraction_is_drawn_on_its_whole_scale(axes: Axes, draw: Callable[[Axes, Scores, str], None]) -> None:
    draw(axes, cases(), "dice")
    assert floats(axes.get_xticks())[[0, -1]].tolist() == [0.0, 1.0]


def test_bland_altman_has_a_dot_per_case_and_its_limits(axes: Axes) -> None:
    scores = cases().of_label(1)
    draw_bland_altman(axes, scores)
    dots, mean, lower, upper = axes.lines
    reference = np.array([row.volume_reference_ml for row in scores.rows])
    prediction = np.array([row.volume_prediction_ml for row in scores.rows])
    np.testing.assert_allclose(floats(dots.get_xdata()), (reference + prediction) / 2)
    np.testing.assert_allclose(floats(dots.get_ydata()), prediction - reference)
    difference, spread = (prediction - reference).mean(), 1.96 * (prediction - reference).std(ddof=1)
    heights = [floats(line.get_ydata())[0] for line in (mean, lower, upper)]
    np.testing.assert_allclose(heights, [difference, difference - spread, difference + spread])


@pytest.mark.parametrize(
    ("scores", "got"),
    [
        pytest.param(compared(1).of_label(1), "1 rows of 1 labels", id="one case"),
        pytest.param(cases(), "8 rows of 2 labels", id="two labels"),
    ],
)
def test_bland_altman_needs_cases_of_one_label(axes: Axes, scores: Scores, got: str) -> None:
    with pytest.raises(InputError, match=got):
        draw_bland_altman(axes, scores)


@pytest.mark.parametrize("draw", [draw_bars, draw_boxes], ids=["bars", "boxes"])
def test_labels_that_are_nowhere_make_an_empty_plot(axes: Axes, draw: Callable[[Axes, Scores, str], None]) -> None:
    draw(axes, compared(0).of_label(9), "dice")
    assert names(axes) == []
    assert axes.get_xlabel() == "Dice"
