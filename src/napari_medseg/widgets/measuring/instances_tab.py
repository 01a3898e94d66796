"""Lesions and other instances: how many are found, and which of the prediction is which of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from napari_medseg.config import InstancesConfig
from napari_medseg.metrics.pairwise.instances import InstanceRow, Instances, Pair, match_instances_in_steps
from napari_medseg.volume import Grid
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.forms import button, choice, form, reporting
from napari_medseg.widgets.views.record_columns import documented_columns
from napari_medseg.widgets.views.record_table import RecordTable

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.metrics.study.tables import Table
    from napari_medseg.widgets.measuring.compared_layers import ComparedLayers, LayerPair
    from napari_medseg.widgets.work.background import Background

_WORDS = {
    "instances": Words("Instances", {"components": "connected parts", "ids": "every id"}),
    "connectivity": Words("Neighbours", {26: "26 (corners)", 18: "18 (edges)", 6: "6 (faces)"}),
    "iou": Words("IoU above"),
}
_VIEWS = {"rows": "Scores per label", "pairs": "Which is which"}


class InstancesTab(QWidget):
    """Matches the instances of the two layers; `pair_chosen` carries a label id and a voxel (z, y, x) to look at."""

    pair_chosen = Signal(int, object)

    def __init__(self, compared: ComparedLayers, background: Background) -> None:
        super().__init__()
        self._compared = compared
        self._background = background
        self._grid: Grid | None = None
        self._found: Instances | None = None
        self.matched: tuple[Labels, Labels] | None = None
        """(prediction, reference): the layers that the tables describe."""
        self.options = ConfigForm(InstancesConfig, _WORDS, _WORDS)
        self.match_button = button("Match instances", self.match, "Pair the instances of the two layers one-to-one.")
        self.view = choice(_VIEWS, "Scores per label, or every instance with its partner.")
        self.rows, self.pairs = RecordTable(), RecordTable()
        self._stack = QStackedWidget()
        for table in (self.rows, self.pairs):
            self._stack.addWidget(table)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(form(**self.options.rows()))
        layout.addWidget(self.match_button)
        layout.addWidget(self.view)
        layout.addWidget(self._stack, stretch=1)
        self.options.changed.connect(self._enable_connectivity)
        self.view.currentIndexChanged.connect(self._stack.setCurrentIndex)
        self.pairs.row_chosen.connect(self._on_pair)

    def _enable_connectivity(self) -> None:
        """Neighbours matter for connected parts only."""
        self.options["connectivity"].enabled = self.options["instances"].value == "components"

    def match(self) -> None:
        """Pair the instances in the background."""
        with reporting():
            pair = self._compared.pair()
            self._background.ask_in_steps(
                partial(match_instances_in_steps, **pair.segmentations, config=self.options.config),
                partial(self._show, pair),
            )

    @property
    def tables(self) -> list[Table]:
        """What the tab shows, for files; none before the first matching."""
        if self._found is None:
            return []
        config = self._found.config
        return [_table(self._found.rows, "instances", config), _table(self._found.pairs, "pairs", config)]

    def _show(self, of: LayerPair, found: Instances) -> None:
        self.matched, self._grid, self._found = of.layers, of.segmentations["reference"].grid, found
        colour_of = of.layers[1].colormap.map
        self.rows.show_records(found.rows, documented_columns(InstanceRow), colour_of)
        self.pairs.show_records(found.pairs, documented_columns(Pair), colour_of)

    def _on_pair(self, pair: Any) -> None:
        assert self._grid is not None, "the table is empty before the first matching"
        voxel = np.rint(self._grid.world_to_index((pair.s_mm, pair.p_mm, pair.l_mm))).astype(int)
        self.pair_chosen.emit(pair.label or pair.reference_id or pair.prediction_id, tuple(voxel.tolist()))


def _table(rows: Sequence[InstanceRow] | Sequence[Pair], name: str, config: InstancesConfig) -> Table:
    from napari_medseg.metrics.study.settings import instances_settings
    from napari_medseg.metrics.study.study import TABLES
    from napari_medseg.metrics.study.tables import table_of

    kind, title = TABLES[name]
    return table_of(rows, kind, name=name, title=title, settings=instances_settings(config))
