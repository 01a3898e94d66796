"""Scores as plots on matplotlib axes: a bar per label, boxes over cases, agreement of volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.errors import InputError
from napari_medseg.metrics.study.statistics import volume_agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_medseg.metrics.pairwise.columns import Column
    from napari_medseg.metrics.pairwise.scores import Row, Scores

_BLUE, _ORANGE = "#56B4E9", "#E69F00"
"""Colours that people with any colour vision can distinguish (Okabe and Ito 2008)."""
_BAR = 0.7
_WHISKER = 1.5
"""Longest whisker, in interquartile ranges (Tukey 1977)."""


def draw_bars(axes: Axes, scores: Scores, column: str) -> None:
    """One bar per row, the first at the top. An infinite value is hatched over the whole width; NaN is a dash."""
    values = np.array([getattr(row, column) for row in scores.rows], dtype=float)
    finite = np.isfinite(values)
    places = np.arange(len(values))
    longest = float(np.abs(values[finite]).max(initial=0)) or 1.0
    bars = axes.barh(places[finite], values[finite], height=_BAR, color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=2)
    infinite = places[np.isinf(values)]
    axes.barh(infinite, longest, height=_BAR, facecolor="none", edgecolor=_ORANGE, hatch="////", linewidth=0.8)
    for place in places[~finite]:
        is_infinite = math.isinf(values[place])
        axes.text(longest if is_infinite else 0, place, " ∞" if is_infinite else " –", va="center")
    _name_rows(axes, [row.name for row in scores.rows])
    axes.margins(x=0.15)
    _scale(axes, scores.definitions[column])


def draw_boxes(axes: Axes, scores: Scores, column: str) -> None:
    """One box per label over the cases: median, quartiles, whiskers to 1.5 interquartile ranges, and a dot per case.

    Values that are not finite are left out; the name then shows how many of the cases are in the box.
    """
    axes.use_sticky_edges = False  # else the scale would end at the ends of a box
    groups = by_label(scores)
    values = [_finite([getattr(row, column) for row in rows]) for rows in groups.values()]
    # Few artists with many boxes each: matplotlib's own box plot needs some seconds for fifty labels.
    filled = [place for place, of_label in enumerate(values) if of_label]
    five = np.array([_box(values[place]) for place in filled]).reshape(-1, 5)
    low, q1, median, q3, high = five.T
    axes.barh(filled, q3 - q1, left=q1, height=_BAR, facecolor="none", edgecolor=_BLUE)
    axes.hlines([*filled, *filled], [*low, *q3], [*q1, *high], color=_BLUE, linewidth=1)
    axes.vlines(median, np.array(filled) - _BAR / 2, np.array(filled) + _BAR / 2, color=_ORANGE)
    dots = [(value, place) for place, of_label in enumerate(values) for value in of_label]
    axes.plot(*np.array(dots).reshape(-1, 2).T, ".", color=_BLUE, markersize=4, alpha=0.6)
    names = [
        rows[0].name if len(shown) == len(rows) else f"{rows[0].name} ({len(shown)} of {len(rows)})"
        for rows, shown in zip(groups.values(), values, strict=True)
    ]
    _name_rows(axes, names)
    _scale(axes, scores.definitions[column])


def draw_bland_altman(axes: Axes, scores: Scores) -> None:
    """Differences of the volumes against their means, a dot per row, with the mean and the limits of agreement.

    Bland and Altman, The Lancet 1986, doi:10.1016/S0140-6736(86)90837-8. The scores are of one label
    (`Scores.of_label`), because each label has its own limits. Raises InputError for several labels, and for fewer than
    two rows.
    """
    agreements = volume_agreement(scores)
    if len(scores.rows) < 2 or len(agreements) != 1:
        raise InputError(
            f"agreement of volumes needs two cases or more of one label; got {len(scores.rows)} rows of "
            f"{len(agreements)} labels"
        )
    (agreement,) = agreements
    reference = np.array([row.volume_reference_ml for row in scores.rows])
    prediction = np.array([row.volume_prediction_ml for row in scores.rows])
    axes.plot((prediction + reference) / 2, prediction - reference, ".", color=_BLUE)
    lines = {
        "mean": (agreement.bias_ml, "-"),
        "−1.96 SD": (agreement.lower_ml, "--"),
        "+1.96 SD": (agreement.upper_ml, "--"),
    }
    for text, (height, style) in lines.items():
        axes.axhline(height, color=_ORANGE, linewidth=1, linestyle=style)
        at_the_right = ("axes fraction", "data")
        axes.annotate(f"{text} {height:.2f}", (1, height), xycoords=at_the_right, ha="right", va="bottom")
    axes.set_xlabel("mean of volume A and volume B (ml)")
    axes.set_ylabel("volume B − volume A (ml)")


def draw_reliability(axes: Axes, bins: Mapping[str, Sequence[tuple[float, float, float]]]) -> None:
    """How often voxels are right against how sure they are; on the dashed line both are alike (Guo et al., ICML 2017).

    bins: {name of a line: (share of the voxels, their mean confidence, the fraction that is right) of each bin}.
    """
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    for (name, rows), colour in zip(bins.items(), (_ORANGE, _BLUE), strict=False):
        _, confidence, accuracy = np.array(rows, dtype=float).reshape(-1, 3).T
        axes.plot(confidence, accuracy, marker="o", markersize=4, color=colour, label=name)
    axes.set_xlabel("mean confidence")
    axes.set_ylabel("fraction that is right")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8)


def by_label(scores: Scores) -> dict[int, list[Row]]:
    """{label: its rows}, in the order of the rows."""
    groups: dict[int, list[Row]] = {}
    for row in scores.rows:
        groups.setdefault(row.label, []).append(row)
    return groups


def _box(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """(end of the lower whisker, first quartile, median, third quartile, end of the upper whisker)."""
    q1, median, q3 = (float(v) for v in np.percentile(values, (25, 50, 75)))
    reach = _WHISKER * (q3 - q1)
    low = min(value for value in values if value >= q1 - reach)
    return low, q1, median, q3, max(value for value in values if value <= q3 + reach)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _scale(axes: Axes, column: Column) -> None:
    """Name the axis. A fraction shows its whole range, so that plots compare at a glance."""
    axes.set_xlabel(column.heading)
    if column.is_fraction:
        axes.set_xlim(0, 1.15)  # room for a bar's value
        axes.set_xticks(np.linspace(0, 1, 6))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first at the top. The scale is at the top too, where long lists begin."""
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
