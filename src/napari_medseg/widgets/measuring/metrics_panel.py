"""The Metrics panel: a prediction against its reference."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QTabWidget, QVBoxLayout

from napari_medseg.config import MetricsConfig
from napari_medseg.events import Work
from napari_medseg.metrics import Scores
from napari_medseg.metrics.pairwise.edits import EditedScores
from napari_medseg.metrics.pairwise.places import Place, worst_place
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import largest_label
from napari_medseg.widgets.canvas.use_as_labels import LabelsButton
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, row
from napari_medseg.widgets.fields.remembered import remember
from napari_medseg.widgets.measuring.cases_tab import CasesTab
from napari_medseg.widgets.measuring.compared_layers import ComparedLayers, LayerPair
from napari_medseg.widgets.measuring.errors_tab import ErrorsTab
from napari_medseg.widgets.measuring.instances_tab import InstancesTab
from napari_medseg.widgets.measuring.live import LiveUpdates
from napari_medseg.widgets.measuring.table_tab import TableTab
from napari_medseg.widgets.views.score_view import ScoreView
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.turns import in_turns

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels

    from napari_medseg.geometry import Shape3
    from napari_medseg.metrics import Row
    from napari_medseg.metrics.study.tables import Table

_WORDS = {
    "preset": Words(
        "Definitions", {"survey": "survey (default)", "lits": "LiTS challenge", "chaos": "CHAOS challenge"}
    ),
    "nsd_tolerance_mm": Words("NSD tolerance"),
}
_MIN_WIDTH, _MIN_HEIGHT = 300, 580
"""Pixels in which nothing is cut off but tables, which scroll. Without a height, each line of text that comes or goes
would push at the window; that draws the canvas at once, wherever napari is in its work on the layers, and may crash."""


class MetricsPanel(Panel):
    """Measures a Labels layer against another: table, export, plots, layers of the errors, instances; and folders."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._measured: tuple[Labels, Labels] | None = None
        self.scores: Scores | None = None
        self.compared = ComparedLayers(napari_viewer, self)
        self.reference, self.prediction = self.compared.reference, self.compared.prediction
        self.definitions = ConfigForm(MetricsConfig, _WORDS, _WORDS)
        self._measuring, self.looking = Background(self, "Metrics"), Background(self)
        self.runner = self._measuring.runner
        self.progress = ProgressRow(self.runner)
        self.measure_button = button("Measure", self.measure, "Compare the two layers, label by label.")
        self.hint = caption()
        self.live = LiveUpdates(self.compared, self._show_scores)
        self.scored = TableTab(self.compared, self.jump, self._tables)
        self.plots = ScoreView(["bars"], "Measure first: the plots show the numbers of the table.")
        self.errors = ErrorsTab(napari_viewer, self.compared, self._measuring)
        self.instances = InstancesTab(self.compared, self._measuring)
        self.cases = CasesTab(lambda: self.definitions.config)
        self.tabs = QTabWidget()
        self._lay_out()
        self.runner.busy.connect(self._update_buttons)
        self.scored.table.row_chosen.connect(self._on_row)
        self.instances.pair_chosen.connect(self._on_pair)
        self.compared.changed.connect(self._update_buttons)
        fields = {name: self.definitions[name] for name in _WORDS} | {"columns": self.scored.columns}
        # In a turn of its own: napari looks for the settings for a moment.
        in_turns(self, self._update_buttons, partial(remember, "metrics", **fields))

    def _lay_out(self) -> None:
        names = ("Table", "Plots", "Errors", "Instances", "Cases")
        pages = (self.scored, self.plots, self.errors, self.instances, self.cases)
        for page, name in zip(pages, names, strict=True):
            self.tabs.addTab(page, name)
        self.setMinimumSize(_MIN_WIDTH, _MIN_HEIGHT)
        layout = QVBoxLayout(self)
        layout.addLayout(form(Reference=self.reference, Prediction=self.prediction, **self.definitions.rows()))
        layout.addLayout(row(self.measure_button, self.live))
        layout.addWidget(self.hint)
        layout.addWidget(LabelsButton(self._viewer, 2))
        layout.addWidget(self.progress)
        layout.addWidget(self.tabs, stretch=1)
        self.use_keys(self.measure_button, self.runner.cancel)

    def measure(self) -> None:
        """Compare the two layers in the background."""
        with reporting():
            pair = self.compared.pair()
            work = partial(_measured, self.definitions.config, **pair.segmentations)
            self._measuring.ask_in_steps(work, partial(self._follow, pair))

    def jump(self, label: int | None = None) -> None:
        """Look at the voxel that is farthest from the other surface: of a label, or of all."""
        with reporting():
            preset = self.definitions.config.preset
            find = partial(worst_place, **self.compared.pair().segmentations, label=label, preset=preset)
            self.looking.ask(find, self._show_place)

    def _tables(self) -> list[Table]:
        """The tables that are exported beside the scores."""
        return self.instances.tables if self.instances.matched == self._measured else []

    def _follow(self, pair: LayerPair, edited: EditedScores) -> None:
        self._measured = pair.layers
        self.live.follow(pair, edited)
        self._show_scores(edited.scores)

    def _show_scores(self, scores: Scores) -> None:
        assert self._measured is not None, "scores come from layers"
        self.scores = scores
        self.scored.show_scores(scores, *self._measured)
        self.plots.show_scores(scores)
        self.errors.show_scores(scores)

    def _on_row(self, chosen: Row) -> None:
        """Select the label in both layers, and show its worst place."""
        self._select(chosen.label)
        if self.compared.layers == self._measured:
            self.jump(chosen.label)

    def _on_pair(self, label: int, voxel_zyx: Shape3) -> None:
        self._select(label)
        self._look_at(voxel_zyx)

    def _show_place(self, place: Place) -> None:
        self._select(place.label)
        self.scored.show_place(place)
        self._look_at(place.index_zyx)

    def _select(self, label: int) -> None:
        self.errors.choose_label(label)
        for layer in self.compared.layers or ():
            if label <= largest_label(layer):  # else it has no such label, and napari does not take it
                layer.selected_label = label

    def _look_at(self, voxel_zyx: Shape3) -> None:
        """voxel_zyx: on the grid of the reference."""
        if self.reference.layer is not None:
            self.errors.surface_view.show_slices()
            show_voxel(self._viewer, self.reference.layer, voxel_zyx, self.compared.among)

    def _update_buttons(self, _: object = None) -> None:
        self.hint.setText(self.compared.missing)
        self.hint.setVisible(bool(self.compared.missing))
        self.progress.follow(self.compared.layers)
        ready = not self.runner.is_busy and self.compared.layers is not None
        self.measure_button.setEnabled(ready)
        self.scored.jump_button.setEnabled(ready)
        self.errors.set_ready(ready)
        self.instances.match_button.setEnabled(ready)


def _measured(config: MetricsConfig, **pair: Segmentation) -> Work[EditedScores]:
    """In the worker: measure, and load what draws the scores: that would hold up the window."""
    edited = yield from EditedScores.in_steps(**pair, config=config)
    importlib.import_module("napari_medseg.widgets.views.chart")
    return edited
