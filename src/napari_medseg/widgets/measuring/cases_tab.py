"""Many cases at once: two folders, matched by name, as a table, as box plots, and how far their volumes agree."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_medseg.config import MetricsConfig, RegionsConfig
from napari_medseg.events import Event, Finished, Notice
from napari_medseg.metrics import Scores, combine
from napari_medseg.transforms.regions import FOREGROUND, parsed
from napari_medseg.widgets.fields.folder_field import FolderField
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, row, tell
from napari_medseg.widgets.measuring.as_python import folders_script
from napari_medseg.widgets.views.export_menu import ExportButton
from napari_medseg.widgets.views.score_view import ScoreView, means_of
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

if TYPE_CHECKING:  # they are loaded with the first folders: the panel opens without them
    from napari_medseg.metrics.study.batch import MeasuredCases
    from napari_medseg.metrics.study.case_files import Sources
    from napari_medseg.metrics.study.study import StudyConfig
    from napari_medseg.metrics.study.tables import Table

_NAMED = 5
"""Cases without a measurement that are named in the tab; the export names all."""
_NOTE = "Every image of the one folder is compared with that of the same name in the other."


@dataclass(frozen=True, eq=False)
class _Shown:
    """What the tab shows, from which folders and how. The export belongs to it, not to newer entries of the user."""

    sources: Sources
    config: StudyConfig
    batch: MeasuredCases
    unmatched: Table | None
    """Files without a partner; None where all have one."""


class CasesTab(QWidget):
    """Measures folders by the definitions that `config` returns."""

    def __init__(self, config: Callable[[], MetricsConfig]) -> None:
        super().__init__()
        self._config = config
        self._shown: _Shown | None = None
        self.scores: Scores | None = None
        self.reference = FolderField("Folder of the labels that count as true (A).")
        self.prediction = FolderField("Folder of the labels to judge (B).")
        self.runner = Runner(self)
        self.measure_button = button("Measure folders", self.measure, "Compare all cases of the two folders.")
        self.regions = QLineEdit()
        self.regions.setPlaceholderText("such as liver=1,2; or foreground")
        self.regions.setToolTip(
            "Labels that are measured as one: NAME=ID,... with ; between several. foreground: all that is labelled."
        )
        self.left_out, self.means = caption(), caption()
        for line in (self.left_out, self.means):
            line.hide()
        self.view = ScoreView(["boxes", "volumes", "table"], _NOTE)
        self.export = ExportButton(self.as_python, self._writing)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(form(References=self.reference, Predictions=self.prediction, Regions=self.regions))
        layout.addLayout(row(self.measure_button, self.export))
        layout.addWidget(ProgressRow(self.runner))
        layout.addWidget(self.means)
        layout.addWidget(self.left_out)
        layout.addWidget(self.view, stretch=1)
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update_button)
        for field in (self.reference, self.prediction):
            field.changed.connect(self._update_button)
        self._update_button()

    def measure(self) -> None:
        """Compare the folders in the background, case by case."""
        prediction, reference = self.prediction.path, self.reference.path
        assert prediction is not None, "the button is off before both folders are named"
        assert reference is not None, "the button is off before both folders are named"
        with reporting():
            regions = _regions(self.regions.text())
            self.runner.start(partial(_measured, prediction, reference, self._config(), regions), "Metrics")

    def as_python(self) -> str:
        """The script that computes the table."""
        assert self._shown is not None, "the button is off before the first table"
        sources = self._shown.sources
        config = self._shown.config
        return folders_script(sources.prediction, sources.reference, config.metrics, config.regions)

    def _writing(self, path: Path) -> Callable[[], object]:
        assert self._shown is not None, "the button is off before the first table"
        return partial(_write, path, self._shown)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._shown = event.result
            self.scores = combine([(one.name, one.scores) for one in event.result.batch.measured])
            tell(self.left_out, _left_out(event.result))
            tell(self.means, f"Over {len(event.result.batch.measured)} cases: {means_of(self.scores)}.")
            self.view.show_scores(self.scores)
            self.export.show_scores(self.scores)

    def _update_button(self, _: object = None) -> None:
        named = None not in (self.prediction.path, self.reference.path)
        self.measure_button.setEnabled(named and not self.runner.is_busy)


def _regions(text: str) -> RegionsConfig:
    """What the field says. Raises InputError for anything else."""
    if text.strip() == FOREGROUND:
        return RegionsConfig(foreground=True)
    return RegionsConfig(merge=tuple(parsed(filter(str.strip, text.split(";"))).items()))


def _measured(prediction: Path, reference: Path, definitions: MetricsConfig, regions: RegionsConfig) -> Iterator[Event]:
    """In the worker: measure case by case. Loading what measures and draws would hold up the window."""
    from napari_medseg.metrics.study.batch import iter_measure
    from napari_medseg.metrics.study.case_files import Sources, match_files
    from napari_medseg.metrics.study.study import StudyConfig

    sources, config = (
        Sources(prediction=prediction, reference=reference),
        StudyConfig(metrics=definitions, regions=regions),
    )
    importlib.import_module("napari_medseg.widgets.views.chart")
    cases, unmatched = match_files(sources)
    for event in iter_measure(cases, config):
        if isinstance(event, Finished):
            yield Finished(_Shown(sources, config, event.result, unmatched))
        elif not isinstance(event, Notice):  # each would be a notification; the tab lists them
            yield event


def _left_out(shown: _Shown) -> str:
    """The first few files that were not measured, and why."""
    missing = shown.unmatched.rows if shown.unmatched else ()
    faults = [f"{row['case']} (no {row['missing']})" for row in missing]
    faults += [f"{case}: {why}" for case, why in shown.batch.failed.items()]
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "<br>".join(["<b>Not measured</b>", *map(escape, faults[:_NAMED]), *more]) if faults else ""


def _write(path: Path, shown: _Shown) -> None:
    """In the worker: the scores, their statistics, and what had no partner."""
    from napari_medseg.metrics.reports.exports import write_scores
    from napari_medseg.metrics.study.study import study_of

    found = study_of(shown.batch.measured, shown.config, shown.batch.failed)
    tables = [*found.tables, *([shown.unmatched] if shown.unmatched else [])]
    write_scores(path, found.scores, tables, settings=found.settings)
