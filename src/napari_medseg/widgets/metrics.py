"""The Metrics panel: a prediction against its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from qtpy.QtWidgets import QApplication, QDoubleSpinBox, QFileDialog, QVBoxLayout, QWidget

from napari_medseg.config import MetricsConfig, field_docs
from napari_medseg.events import Event, Finished
from napari_medseg.metrics import Scores, evaluate
from napari_medseg.metrics.error_map import error_map
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.forms import button, caption, choice, form, reporting, row
from napari_medseg.widgets.layer_box import LayerBox
from napari_medseg.widgets.layers import labels_layer, to_segmentation
from napari_medseg.widgets.progress_row import ProgressRow
from napari_medseg.widgets.runner import Runner
from napari_medseg.widgets.score_table import ScoreTable, text_of

if TYPE_CHECKING:
    from napari import Viewer

_PRESETS = {"survey": "survey (default)", "lits": "LiTS challenge", "chaos": "CHAOS challenge"}
#: false positive, false negative, wrong label: told apart with any colour vision (Okabe and Ito 2008)
_ERROR_COLOURS = {0: "transparent", 1: "#E69F00", 2: "#56B4E9", 3: "#CC79A7", None: "transparent"}


class MetricsPanel(QWidget):
    """Measures a Labels layer against another: a table, its export, and a layer of the errors."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._compared: tuple[Labels, Labels] | None = None
        self.scores: Scores | None = None
        docs = field_docs(MetricsConfig)
        self.reference = LayerBox(napari_viewer, Labels, "The labels that count as true (A).")
        self.prediction = LayerBox(napari_viewer, Labels, "The labels to judge (B).")
        self.preset = choice(_PRESETS, docs["preset"])
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0, 1000)
        self.tolerance.setSuffix(" mm")
        self.tolerance.setValue(MetricsConfig().nsd_tolerance_mm)
        self.tolerance.setToolTip(docs["nsd_tolerance_mm"])
        self.runner = Runner(self)
        self.measure_button = button("Measure", self.measure, "Compare the two layers, label by label.")
        self.table = ScoreTable()
        self.summary = caption()
        self.copy_button = button("Copy", self.copy, "Copy the table, for a spreadsheet.")
        self.export_button = button("Export CSV…", self.export, "Write the table with all digits.")
        self.errors_button = button(
            "Show errors", self.show_errors, "A new layer: false positives, false negatives and wrong labels."
        )
        self._lay_out()
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update_buttons)
        self.table.label_clicked.connect(self._select_label)
        for box in (self.reference, self.prediction):
            box.layer_changed.connect(self._update_buttons)
        self._update_buttons()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addLayout(
            form(
                Reference=self.reference,
                Prediction=self.prediction,
                Definitions=self.preset,
                NSD_tolerance=self.tolerance,
            )
        )
        layout.addWidget(self.measure_button)
        layout.addWidget(ProgressRow(self.runner, end_text=""))
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.summary)
        layout.addLayout(row(self.copy_button, self.export_button, self.errors_button))

    def measure(self) -> None:
        """Compare the two layers in the background."""
        self._start(evaluate, preset=self.preset.currentData(), nsd_tolerance_mm=self.tolerance.value())

    def show_errors(self) -> None:
        """Add a layer of the voxels that differ."""
        self._start(error_map)

    def copy(self) -> None:
        """The table as tab-separated text to the clipboard."""
        assert self.scores is not None, "the button is off before the first table"
        QApplication.clipboard().setText(self.scores.to_frame().to_csv(sep="\t", index=False))

    def export(self) -> None:
        """Ask for a file and write the table as CSV."""
        assert self.scores is not None, "the button is off before the first table"
        path, _ = QFileDialog.getSaveFileName(self, "Export scores", "scores.csv", "CSV (*.csv)")
        if path:
            with reporting():
                self.scores.to_csv(Path(path).with_suffix(".csv"))

    def _start(self, function: Callable[..., Any], **options: Any) -> None:
        with reporting():
            prediction, reference = self.prediction.layer, self.reference.layer
            layers = list(self._viewer.layers)
            pair = {
                "prediction": to_segmentation(prediction, layers),
                "reference": to_segmentation(reference, layers),
            }
            self._compared = (prediction, reference)
            self.runner.start(lambda: _finished(function, **pair, **options), "Metrics")

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, Finished):
            return
        if isinstance(event.result, Segmentation):
            self._add_errors(event.result)
        else:
            self._show_scores(event.result)

    def _show_scores(self, scores: Scores) -> None:
        assert self._compared is not None
        prediction, reference = self._compared
        self.scores = scores
        self.table.show_scores(scores, reference)
        mean = scores.mean
        self.summary.setText(
            f"<b>{prediction.name}</b> against <b>{reference.name}</b> ({scores.config.preset}): mean Dice "
            f"{text_of(mean['dice'])}, HD95 {text_of(mean['hd95_mm'])} mm, NSD {text_of(mean['nsd'])} at "
            f"{scores.config.nsd_tolerance_mm:g} mm; pixel accuracy {scores.pa:.4f}"
        )

    def _add_errors(self, errors: Segmentation) -> None:
        assert self._compared is not None
        data, arguments, _ = labels_layer(errors)
        name = f"{self._compared[0].name} errors"
        self._viewer.add_labels(data, **{**arguments, "name": name, "colormap": _ERROR_COLOURS})

    def _select_label(self, label: int) -> None:
        for layer in self._compared or ():
            if layer in self._viewer.layers:
                layer.selected_label = label

    def _update_buttons(self, _: object = None) -> None:
        ready = not self.runner.is_busy
        both = self.prediction.layer is not None and self.reference.layer is not None
        self.measure_button.setEnabled(ready and both)
        self.errors_button.setEnabled(ready and both)
        for shown in (self.copy_button, self.export_button):
            shown.setEnabled(ready and self.scores is not None)


def _finished(function: Callable[..., Any], **arguments: Any) -> Iterator[Event]:
    yield Finished(function(**arguments))
