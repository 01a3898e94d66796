"""Scores as the user wants to see them: a table, bars, boxes over cases, or how far volumes agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QStackedWidget, QVBoxLayout, QWidget

from napari_medseg.metrics.reports.plots import by_label, draw_bars, draw_bland_altman, draw_boxes
from napari_medseg.widgets.fields.forms import caption, choice, choose, reporting, row
from napari_medseg.widgets.views.record_columns import score_columns
from napari_medseg.widgets.views.record_model import text_of
from napari_medseg.widgets.views.record_table import RecordTable

if TYPE_CHECKING:
    from napari_medseg.metrics import Scores
    from napari_medseg.widgets.views.chart import Chart

_KINDS = {"table": "Table", "bars": "Bars", "boxes": "Box plots", "volumes": "Bland-Altman"}
_WITH_METRIC = ("bars", "boxes")


class ScoreView(QWidget):
    """Drop-downs for the view and for its metric, and the view below. Without scores it shows a note.

    kinds: of "table", "bars" (per label), "boxes" (per label over cases), "volumes" (Bland-Altman).
    """

    def __init__(self, kinds: Sequence[str], note: str) -> None:
        super().__init__()
        self.scores: Scores | None = None
        self.kind = choice({kind: _KINDS[kind] for kind in kinds}, "How to show the scores.")
        self.kind.setVisible(len(kinds) > 1)
        self.metric = choice({}, "Which column of the table is drawn.")
        self.label = choice({}, "Whose volumes are drawn.")
        self.table = RecordTable()
        self.note = caption(note)
        self.chart: Chart | None = None
        self._stack = QStackedWidget()
        for page in (self.note, self.table):
            self._stack.addWidget(page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(row(self.kind, self.metric, self.label))
        layout.addWidget(self._stack, stretch=1)
        for box in (self.kind, self.metric, self.label):
            box.currentIndexChanged.connect(self._show)
        self._show()

    def show_scores(self, scores: Scores) -> None:
        """Show other scores, in the view that was chosen."""
        self.scores = scores
        columns = score_columns(scores)
        self.table.show_records(scores.rows, columns)
        _offer(self.metric, {name: column.heading for name, column in columns.items() if column.better})
        _offer(self.label, {label: rows[0].name for label, rows in by_label(scores).items()})
        self._show()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802  # Qt's name
        """Draw what was not drawn while the view was hidden."""
        super().showEvent(event)
        self._show()

    def _show(self, _index: int = 0) -> None:
        kind = self.kind.currentData()
        self.metric.setVisible(kind in _WITH_METRIC)
        self.label.setVisible(kind == "volumes")
        for box in (self.kind, self.metric):
            box.setEnabled(self.scores is not None)
        if self.scores is None:
            self._stack.setCurrentWidget(self.note)
        elif kind == "table":
            self._stack.setCurrentWidget(self.table)
        elif self.isVisible():
            with reporting():
                self._plot(kind, self.scores)

    def _plot(self, kind: str, scores: Scores) -> None:
        column, chart = self.metric.currentData(), self._chart()
        if kind == "bars":
            chart.plot(partial(draw_bars, scores=scores, column=column), rows=len(scores.rows))
        elif kind == "boxes":
            chart.plot(partial(draw_boxes, scores=scores, column=column), rows=len(by_label(scores)))
        else:
            chart.plot(partial(draw_bland_altman, scores=scores.of_label(self.label.currentData())))
        self._stack.setCurrentWidget(chart)

    def _chart(self) -> Chart:
        """Made with the first plot. The worker that computed the scores has loaded matplotlib before."""
        if self.chart is None:
            from napari_medseg.widgets.views.chart import Chart

            self.chart = Chart()
            self._stack.addWidget(self.chart)
        return self.chart


def _offer(box: QComboBox, options: Mapping[Any, str]) -> None:
    """Replace the options; the chosen one stays chosen if it is still offered."""
    chosen = box.currentData()
    box.blockSignals(True)
    box.clear()
    for value, text in options.items():
        box.addItem(text, value)
    choose(box, chosen)
    box.blockSignals(False)


def means_of(scores: Scores) -> str:
    """The means in one line."""
    return (
        f"mean Dice {_mean(scores, 'dice')}, HD95 {_mean(scores, 'hd95_mm', ' mm')}, NSD {_mean(scores, 'nsd')} at "
        f"{scores.config.nsd_tolerance_mm:g} mm; pixel accuracy {scores.pa:.4f}"
    )


def _mean(scores: Scores, metric: str, unit: str = "") -> str:
    """A mean, and over how many of the rows it is where some have none: "4.210 mm (2 of 5)"."""
    counted, rows = scores.counted[metric], len(scores.rows)
    some = f" ({counted} of {rows})" if counted < rows else ""
    return f"{text_of(scores.mean[metric])}{unit}{some}"
