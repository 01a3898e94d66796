"""Rows to a CSV file that a spreadsheet opens safely."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from napari_medseg.io.disk import files

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that spreadsheets run as a formula."""


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """Write `csv_bytes`. Replaces the file atomically. Raises FileError where the file cannot be written."""
    files.replace_bytes(path, csv_bytes(columns, rows))


def csv_bytes(columns: Sequence[str], rows: Sequence[Mapping[str, str | int | float]]) -> bytes:
    """`csv_text` as bytes. Parts of file names that are not valid text are escaped."""
    return csv_text(columns, rows).encode(errors="backslashreplace")


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, str | int | float]], delimiter: str = ",") -> str:
    """A header and the rows; values that are not finite are "inf" and "nan".

    Names come from files, and files from strangers. So a text that a spreadsheet would run as a formula gets an
    apostrophe in front.
    """
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n", delimiter=delimiter)
    writer.writeheader()
    writer.writerows({column: _harmless(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: str | int | float) -> str | int | float:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
