"""What is annotated in the layers of a training: which labels there are, and which slices are painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_medseg.errors import InputError, MedsegError
from napari_medseg.transforms.annotated import crossing_slices, painted_slices
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import label_names, to_segmentation
from napari_medseg.widgets.fields.case_rows import CaseRows
from napari_medseg.widgets.fields.layer_box import Connections
from napari_medseg.widgets.labelling.layer_labels import rename
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari import Viewer
_PAUSE_MS = 300
"""A stroke has ended when nothing was painted for so long."""


@dataclass(frozen=True)
class Annotation:
    """What the labels layers of the rows hold."""

    texts: list[str] = field(default_factory=list)
    """A line for each row; empty where all slices count."""
    names: dict[int, str] = field(default_factory=dict)
    """{id: name} of all labels."""

    @property
    def is_sparse(self) -> bool:
        """Whether empty slices lie between painted ones in some row."""
        return any(self.texts)


def annotation_of(labels: list[Segmentation]) -> Annotation:
    """What some labels hold."""
    texts = [_painted(one) for one in labels]
    names: dict[int, str] = {}
    for one in labels:
        ids = [int(i) for i in np.unique(np.asarray(one.data[...])) if i]
        names |= {i: one.labels.get(i, names.get(i, f"label {i}")) for i in ids}
    return Annotation(texts, names)


def _painted(labels: Segmentation) -> str:
    """The line on painted slices; empty where all slices count."""
    painted: object = painted_slices(labels)
    try:
        crossing = crossing_slices(np.asarray(labels.data[...]))
    except InputError:  # it is told where slices are said to be painted, and these may be none
        crossing = None
    if crossing is not None:
        count = sum(len(indices) for indices in crossing.values())
        painted = f"{count} slices painted, along {len(crossing)} axes"
    return "" if painted is None else f"{painted}: the others count as not annotated"


class AnnotationWatch(QObject):
    """Looks at the labels layers of the rows in the background, and again after each stroke."""

    def __init__(self, parent: QObject, viewer: Viewer, cases: CaseRows, then: Callable[[Annotation], None]) -> None:
        super().__init__(parent)
        self._viewer, self._cases, self._then = viewer, cases, then
        self._background = Background(self)
        self._layers: list[Any] = []
        self._connections = Connections((), self.look)
        self._look_soon = qdebounced(self._look, timeout=_PAUSE_MS, parent=self)

    def look(self, _event: object = None) -> None:
        """Look at the rows once they are left alone for a moment: a stroke of the brush is many events."""
        self._look_soon()

    def _look(self) -> None:
        layers = [case.labels.layer for case in self._cases.complete]
        if layers != self._layers:
            self._connections.disconnect()
            self._layers = layers
            edits = [event for layer in layers for event in (layer.events.paint, layer.events.data)]
            self._connections = Connections(edits, self.look)
            self.destroyed.connect(self._connections.disconnect)
        among = list(self._viewer.layers)
        try:
            found = [to_segmentation(layer, among) for layer in layers]
        except MedsegError:  # told when the training starts
            found = []
        if found:
            self._background.ask(partial(annotation_of, found), self._then)
        else:
            self._then(Annotation())

    def rename(self, label: int, name: str) -> None:
        """Give a label a name in every layer of the rows: files that are saved and models hold it."""
        for layer in [case.labels.layer for case in self._cases.complete]:
            if label_names(layer).get(label) != name:
                rename(layer, label, name)
        self.look()
