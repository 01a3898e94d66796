"""Which columns a table of records has, in which order, with what heading and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseg.config import field_docs
from napari_medseg.metrics.pairwise.columns import Column

if TYPE_CHECKING:
    from napari_medseg.metrics import Scores

_IN_ROW_HEADER = ("name",)
"""Fields that the header of each row shows already."""


def score_columns(scores: Scores) -> dict[str, Column]:
    """The columns of Scores, as their preset defines them; sizes come after what judges."""
    shown = {name: column for name, column in scores.definitions.items() if name not in _IN_ROW_HEADER}
    return dict(sorted(shown.items(), key=lambda item: item[1].unit in ("voxels", "ml")))


def documented_columns(record: type) -> dict[str, Column]:
    """The fields of a record class, each explained by the text under it."""
    return {
        name: Column.of_field(name, meaning)
        for name, meaning in field_docs(record).items()
        if name not in (*_IN_ROW_HEADER, "case")
    }
