"""Many cases at once: two folders, matched by name, as a table, as box plots, and how far their volumes agree."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.config import MetricsConfig
from napari_medseg.events import Event, Finished
from napari_medseg.metrics import Scores
from napari_medseg.metrics.batch import iter_evaluate_folders
from napari_medseg.metrics.exports import write_scores
from napari_medseg.metrics.statistics import SummaryRow, VolumeAgreementRow, summarise, volume_agreement
from napari_medseg.metrics.tables import table_of
from napari_medseg.widgets.as_python import folders_script
from napari_medseg.widgets.export_menu import ExportButton
from napari_medseg.widgets.folder_field import FolderField
from napari_medseg.widgets.forms import button, form, reporting, row
from napari_medseg.widgets.progress_row import ProgressRow
from napari_medseg.widgets.runner import Runner
from napari_medseg.widgets.score_view import ScoreView

_NOTE = "Every image of the one folder is compared with that of the same name in the other."


class CasesTab(QWidget):
    """Measures folders by the definitions that `config` returns."""

    def __init__(self, config: Callable[[], MetricsConfig]) -> None:
        super().__init__()
        self._config = config
        self._measured: tuple[Path, Path] | None = None
        self.scores: Scores | None = None
        self.reference = FolderField("Folder of the labels that count as true (A).")
        self.prediction = FolderField("Folder of the labels to judge (B).")
        self.runner = Runner(self)
        self.measure_button = button("Measure folders", self.measure, "Compare all cases of the two folders.")
        self.view = ScoreView(["boxes", "volumes", "table"], _NOTE)
        self.export = ExportButton(self.as_python, self._writing)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(form(References=self.reference, Predictions=self.prediction))
        layout.addLayout(row(self.measure_button, self.export))
        layout.addWidget(ProgressRow(self.runner))
        layout.addWidget(self.view, stretch=1)
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update_button)
        for field in (self.reference, self.prediction):
            field.changed.connect(self._update_button)
        self._update_button()

    def measure(self) -> None:
        """Compare the folders in the background, case by case."""
        with reporting():
            prediction, reference = self.prediction.path, self.reference.path
            assert prediction is not None, "the button is off before both folders are named"
            assert reference is not None, "the button is off before both folders are named"
            self._measured, config = (prediction, reference), self._config()
            self.runner.start(lambda: _measured(prediction, reference, config), "Metrics")

    def as_python(self) -> str:
        """The script that computes the table."""
        assert self._measured is not None, "the button is off before the first table"
        assert self.scores is not None, "the button is off before the first table"
        return folders_script(*self._measured, self.scores.config)

    def _writing(self, path: Path) -> Callable[[], object]:
        assert self.scores is not None, "the button is off before the first table"
        return partial(_write, path, self.scores)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.scores = event.result
            self.view.show_scores(event.result)
            self.export.show_scores(event.result)

    def _update_button(self, _: object = None) -> None:
        named = None not in (self.prediction.path, self.reference.path)
        self.measure_button.setEnabled(named and not self.runner.is_busy)


def _measured(prediction: Path, reference: Path, config: MetricsConfig) -> Iterator[Event]:
    """In the worker: what draws the scores is loaded too, which would hold up the window."""
    importlib.import_module("napari_medseg.widgets.chart")
    yield from iter_evaluate_folders(prediction=prediction, reference=reference, config=config)


def _write(path: Path, scores: Scores) -> None:
    """In the worker: the scores, what they are over the cases, and how far volumes agree."""
    tables = [
        table_of(summarise(scores), SummaryRow, name="summary", title="Summary over the cases"),
        table_of(volume_agreement(scores), VolumeAgreementRow, name="volumes", title="Agreement of the volumes"),
    ]
    write_scores(path, scores, tables)
