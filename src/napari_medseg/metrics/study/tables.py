"""Tables whose columns are defined, and their plain files: CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_medseg.config import field_docs
from napari_medseg.metrics.csv_file import csv_bytes
from napari_medseg.metrics.pairwise.columns import Column
from napari_medseg.metrics.pairwise.scores import Scores, Value, for_json
from napari_medseg.metrics.study.settings import Setting, metrics_settings, text_of, values_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values under columns that are defined."""

    name: str
    """One word: the key in JSON, and the end of the name of a CSV file."""
    title: str
    """A line for a heading or a caption."""
    columns: Mapping[str, Column]
    """{name: heading, unit and meaning}, in order. Files hold the names, people read the headings."""
    rows: Sequence[Mapping[str, Value]]
    settings: tuple[Setting, ...] = ()
    """How the numbers were made."""

    @property
    def caption(self) -> str:
        """The title, with how the numbers were made."""
        return f"{self.title} ({text_of(self.settings)})" if text_of(self.settings) else self.title

    @property
    def definitions(self) -> dict[str, str]:
        """{column: what it means}."""
        return {name: column.formula for name, column in self.columns.items()}

    @property
    def texts(self) -> frozenset[str]:
        """The columns that hold text."""
        return frozenset(c for c in self.columns if any(isinstance(row[c], str) for row in self.rows))

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(self.columns))

    def csv(self) -> bytes:
        """The rows as a CSV file; its last columns say how they were made. Values not finite are "inf" and "nan"."""
        settings = values_of(self.settings)
        return csv_bytes([*self.columns, *settings], [{**row, **settings} for row in self.rows])

    def document(self) -> dict[str, object]:
        """The table for JSON, which has no infinity and no NaN: they become "inf" and "nan"."""
        rows = [for_json(row) for row in self.rows]
        settings = values_of(self.settings)
        return {"title": self.title, "settings": settings, "definitions": self.definitions, "rows": rows}


def table_of(rows: Sequence[Any], kind: type, *, name: str, title: str, settings: tuple[Setting, ...] = ()) -> Table:
    """The table of rows of one dataclass. Its columns are the fields, defined by the text below each field.

    The column `case` is left out where no row has a case.
    """
    meanings = field_docs(kind)
    columns = [f.name for f in fields(kind) if f.name != "case" or any(row.case for row in rows)]
    return Table(
        name=name,
        title=title,
        columns={column: Column.of_field(column, meanings[column]) for column in columns},
        rows=[{column: getattr(row, column) for column in columns} for row in rows],
        settings=settings,
    )


def scores_table(scores: Scores, more: tuple[Setting, ...] = ()) -> Table:
    """The scores as a Table. more: settings beside those that the scores hold."""
    settings = (*metrics_settings(scores.config), *more)
    return Table(name="scores", title="Scores", columns=scores.definitions, rows=scores.table(), settings=settings)


def printable(text: str) -> str:
    """The text with a space for each character that cannot be printed: line ends, controls, broken file names."""
    return "".join(c if c.isprintable() else " " for c in text)
