"""The scores of the two layers as a table, with their means, the way to the worst place, and their export."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.metrics import Scores
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.fields.forms import button, caption, row
from napari_medseg.widgets.measuring.as_python import evaluation_script
from napari_medseg.widgets.measuring.compared_layers import ComparedLayers
from napari_medseg.widgets.views.column_menu import ColumnMenu
from napari_medseg.widgets.views.export_menu import ExportButton
from napari_medseg.widgets.views.record_columns import score_columns
from napari_medseg.widgets.views.record_table import RecordTable
from napari_medseg.widgets.views.score_view import means_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.metrics.pairwise.places import Place
    from napari_medseg.metrics.study.tables import Table

_OPENS_WITH = ("dice", "hd95_mm", "nsd", "volume_reference_ml", "volume_prediction_ml")
"""The columns that are shown before the user chooses."""
_PICTURES = 12
"""Labels that the report shows: those of the lowest Dice."""


class TableTab(QWidget):
    """Shows Scores of two layers. The button calls `jump`; the export adds the tables that `tables` returns."""

    def __init__(
        self, compared: ComparedLayers, jump: Callable[[], None], tables: Callable[[], Sequence[Table]]
    ) -> None:
        super().__init__()
        self._compared = compared
        self._tables = tables
        self._shown: tuple[Labels, Labels, Scores] | None = None
        self.table = RecordTable()
        self.table.setToolTip("The scores of each label. A click on a row shows its worst place, on a heading sorts.")
        self.columns = ColumnMenu(self.table, _OPENS_WITH)
        self.summary = caption()
        self.jump_button = button(
            "Jump to the worst place",
            jump,
            "Go to the voxel of the largest surface distance, over all labels that both layers have.",
        )
        self.place = caption()
        self.export = ExportButton(self.as_python, self._writing)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.summary)
        layout.addWidget(self.place)
        layout.addWidget(self.jump_button)
        layout.addLayout(row(self.columns, self.export))

    def show_scores(self, scores: Scores, prediction: Labels, reference: Labels) -> None:
        """Fill the table, in the order that the user gave it."""
        self._shown = prediction, reference, scores
        self.table.show_records(scores.rows, score_columns(scores), reference.colormap.map)
        self.columns.offer(score_columns(scores))
        self.export.show_scores(scores)
        self.summary.setText(
            f"<b>{escape(prediction.name)}</b> against <b>{escape(reference.name)}</b> ({scores.config.preset}): "
            f"{means_of(scores)}"
        )

    def show_place(self, place: Place) -> None:
        """Mark the label's row, and say how far apart the surfaces are there."""
        self.table.mark(place.label)
        name = next((row.name for row in self.table.records.rows if row.label == place.label), f"label {place.label}")
        apart = f"{place.distance_mm:.2f} mm" if math.isfinite(place.distance_mm) else "only one of the two has it"
        self.place.setText(f"Worst place of <b>{escape(name)}</b>: {apart}.")

    def as_python(self) -> str:
        """The script that computes the table."""
        assert self._shown is not None, "the button is off before the first table"
        prediction, reference, scores = self._shown
        return evaluation_script(prediction, reference, scores.config)

    def _writing(self, path: Path) -> Callable[[], object]:
        assert self._shown is not None, "the button is off before the first table"
        prediction, reference, scores = self._shown
        pair = self._compared.pair_of(prediction, reference)
        return partial(_write, path, scores, self._tables(), pair.segmentations, self._compared.image_on(reference))


def _write(
    path: Path, scores: Scores, tables: Sequence[Table], pair: dict[str, Segmentation], image: Volume | None
) -> None:
    """In the worker: the scores, and for a report pictures of the labels that are worst."""
    from napari_medseg.metrics.reports.exports import write_scores
    from napari_medseg.metrics.reports.slices import worst_slices

    worst = sorted(scores.rows, key=lambda row: row.dice)[:_PICTURES]
    labels = [row.label for row in worst] if path.suffix == ".html" else []
    pictures = worst_slices(**pair, image=image, labels=labels, preset=scores.config.preset)
    write_scores(path, scores, tables, pictures=list(pictures))
