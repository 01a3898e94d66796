"""Scores and their tables as files; the suffix decides the format."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path

from napari_medseg._version import __version__
from napari_medseg.errors import InputError
from napari_medseg.io.disk import files
from napari_medseg.metrics.pairwise.scores import Row, Scores
from napari_medseg.metrics.reports.html import html_document
from napari_medseg.metrics.reports.latex import latex_document
from napari_medseg.metrics.reports.slices import Picture
from napari_medseg.metrics.study.case_files import UnmatchedRow
from napari_medseg.metrics.study.settings import Setting, metrics_settings, setting_names, values_of
from napari_medseg.metrics.study.study import TABLES, FailedRow
from napari_medseg.metrics.study.tables import Table, scores_table

SUFFIXES = (".csv", ".json", ".tex", ".html")
_LONGEST_HEADER = 4096
"""Characters of a first line that are read to recognise a table."""


def write_scores(
    path: str | PathLike[str],
    scores: Scores,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    settings: tuple[Setting, ...] = (),
) -> list[Path]:
    """Write scores, with further tables, as .csv, .json, .tex or .html, and return the files that were written.

    A CSV file holds one table, and its last columns say how the numbers were made. Further tables lie beside it:
    ``scores_NAME.csv`` beside ``scores.csv``. A table of an earlier export that this one does not have is removed, if
    the first line of the file is that table's. Only .html has pictures. settings: how the scores were made, beside the
    settings that they hold. Files are replaced when all are written. Raises InputError for another suffix, FileError
    where a file cannot be written.
    """
    target = Path(path)
    suffix = check_suffix(target)
    if suffix == ".csv":
        return _write_csv(target, scores_table(scores, settings), tables)
    texts = {
        ".json": lambda: _json(scores, tables, settings),
        ".tex": lambda: latex_document(scores, tables, settings),
        ".html": lambda: html_document(scores, tables, pictures, settings),
    }
    files.replace_bytes(target, texts[suffix]().encode())
    return [target]


def check_suffix(path: Path) -> str:
    """The suffix of a path in lower case. InputError where it is not one of `SUFFIXES`."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: scores are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return suffix


def _write_csv(target: Path, scores: Table, tables: Sequence[Table]) -> list[Path]:
    contents = {target: scores.csv(), **{_beside(target, table.name): table.csv() for table in tables}}
    files.replace_all(contents)
    for name, kind in _kinds().items():
        path = _beside(target, name)
        if path not in contents and _is_table(path, kind):
            files.remove(path)
    return list(contents)


def _beside(target: Path, table: str) -> Path:
    return target.with_name(f"{target.stem}_{table}{target.suffix}")


def _kinds() -> dict[str, type]:
    """{name of a table that can lie beside the scores: the class of its rows}."""
    of_study = {name: kind for name, (kind, _) in TABLES.items()}
    return {**of_study, "compared": Row, "failed": FailedRow, "unmatched": UnmatchedRow}


def _is_table(path: Path, kind: type) -> bool:
    """Whether a file begins as `Table.csv` writes rows of a class: names of columns, then names of settings."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline(_LONGEST_HEADER)
    header = [name for name in line.removesuffix("\n").split(",") if name != "case"]
    columns = [f.name for f in fields(kind) if f.name != "case"]
    return header[: len(columns)] == columns and setting_names().issuperset(header[len(columns) :])


def _json(scores: Scores, tables: Sequence[Table], settings: tuple[Setting, ...]) -> str:
    content = {"napari_medseg": __version__, **scores.document()}
    content["settings"] = values_of((*metrics_settings(scores.config), *settings))
    if tables:
        content["tables"] = {table.name: table.document() for table in tables}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
