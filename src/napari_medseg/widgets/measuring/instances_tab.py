"""Lesions and other instances: how many are found, and which of the prediction is which of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QStackedWidget, QVBoxLayout, QWidget

from napari_medseg.config import InstancesConfig, field_docs
from napari_medseg.errors import InputError
from napari_medseg.metrics.pairwise.instances import InstanceRow, Instances, Pair, match_instances_in_steps
from napari_medseg.volume import Grid
from napari_medseg.widgets.fields.forms import button, choice, form, reporting
from napari_medseg.widgets.views.record_columns import documented_columns
from napari_medseg.widgets.views.record_table import RecordTable

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.metrics.study.tables import Table
    from napari_medseg.widgets.measuring.compared_layers import ComparedLayers, LayerPair
    from napari_medseg.widgets.work.background import Background

_KINDS = {"components": "connected parts", "ids": "every id"}
_CONNECTIVITY = {26: "26 (corners)", 18: "18 (edges)", 6: "6 (faces)"}
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
        """(prediction, reference), which the tables tell about."""
        docs = field_docs(InstancesConfig)
        self.kind = choice(_KINDS, docs["instances"])
        self.connectivity = choice({}, docs["connectivity"])
        for count, text in _CONNECTIVITY.items():
            self.connectivity.addItem(text, count)
        self.thresholds = QLineEdit(", ".join(f"{t:g}" for t in InstancesConfig().iou))
        self.thresholds.setToolTip(docs["iou"])
        self.match_button = button("Match instances", self.match, "Pair the instances of the two layers one-to-one.")
        self.view = choice(_VIEWS, "Scores per label, or every instance with its partner.")
        self.rows, self.pairs = RecordTable(), RecordTable()
        self._stack = QStackedWidget()
        for table in (self.rows, self.pairs):
            self._stack.addWidget(table)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(form(Instances=self.kind, Neighbours=self.connectivity, IoU_above=self.thresholds))
        layout.addWidget(self.match_button)
        layout.addWidget(self.view)
        layout.addWidget(self._stack, stretch=1)
        self.kind.currentIndexChanged.connect(lambda _: self.connectivity.setEnabled(self._by_parts))
        self.view.currentIndexChanged.connect(self._stack.setCurrentIndex)
        self.pairs.row_chosen.connect(self._on_pair)

    @property
    def _by_parts(self) -> bool:
        return bool(self.kind.currentData() == "components")

    @property
    def config(self) -> InstancesConfig:
        """What the user chose. Raises InputError for thresholds that are none."""
        return InstancesConfig(
            instances=self.kind.currentData(),
            connectivity=self.connectivity.currentData(),
            iou=_numbers(self.thresholds.text()),
        )

    def match(self) -> None:
        """Pair the instances in the background."""
        with reporting():
            pair = self._compared.pair()
            self._background.ask_in_steps(
                partial(match_instances_in_steps, **pair.segmentations, config=self.config), partial(self._show, pair)
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


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"IoU above: needs numbers such as 0.5, 0.75; got {text!r}") from error
