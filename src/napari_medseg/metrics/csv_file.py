"""Rows to a CSV file that a spreadsheet opens safely."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from napari_medseg.io import files

#: what a spreadsheet takes for the beginning of a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """Write the columns of the rows; values that are not finite are "inf" and "nan". Replaces the file atomically.

    Names come from files, and files from strangers: a text that a spreadsheet would run as a formula gets an apostrophe
    in front. Raises FileError where the file cannot be written.
    """
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _harmless(value) for column, value in row.items()} for row in rows)
    files.replace_bytes(path, text.getvalue().encode(errors="backslashreplace"))


def _harmless(value: str | int | float) -> str | int | float:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
