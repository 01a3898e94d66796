"""Scores and their tables to files; the suffix decides the format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from napari_medseg.errors import InputError
from napari_medseg.io import files
from napari_medseg.metrics.html import html_document
from napari_medseg.metrics.latex import latex_document
from napari_medseg.metrics.pictures import Picture
from napari_medseg.metrics.report import Scores
from napari_medseg.metrics.tables import Table

SUFFIXES = (".csv", ".json", ".tex", ".html")


def write_scores(
    path: str | PathLike[str], scores: Scores, tables: Sequence[Table] = (), pictures: Sequence[Picture] = ()
) -> list[Path]:
    """Write scores, with further tables, as .csv, .json, .tex or .html, and return the files that were written.

    A CSV file holds one table: the further ones lie beside it, ``scores_NAME.csv`` beside ``scores.csv``. Pictures are
    in .html only. Files are replaced at the end. Raises InputError for another suffix, FileError where that fails.
    """
    target = Path(path)
    suffix = check_suffix(target)
    if suffix == ".csv":
        return _write_csv(target, scores, tables)
    texts = {
        ".json": lambda: _json(scores, tables),
        ".tex": lambda: latex_document(scores, tables),
        ".html": lambda: html_document(scores, tables, pictures),
    }
    files.replace_bytes(target, texts[suffix]().encode())
    return [target]


def check_suffix(path: Path) -> str:
    """The suffix of a path, lower case; InputError where no scores are written under it."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: scores are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return suffix


def _write_csv(target: Path, scores: Scores, tables: Sequence[Table]) -> list[Path]:
    scores.to_csv(target)
    beside = [target.with_name(f"{target.stem}_{table.name}{target.suffix}") for table in tables]
    for path, table in zip(beside, tables, strict=True):
        table.to_csv(path)
    return [target, *beside]


def _json(scores: Scores, tables: Sequence[Table]) -> str:
    content = scores.document()
    if tables:
        content["tables"] = {table.name: table.document() for table in tables}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
