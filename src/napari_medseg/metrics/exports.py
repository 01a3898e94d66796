"""Scores and their tables to files; the suffix decides the format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from napari_medseg import __version__
from napari_medseg.errors import InputError
from napari_medseg.io import files
from napari_medseg.metrics.html import html_document
from napari_medseg.metrics.latex import latex_document
from napari_medseg.metrics.pictures import Picture
from napari_medseg.metrics.report import Scores
from napari_medseg.metrics.settings import Setting, metrics_settings, values_of
from napari_medseg.metrics.tables import Table, scores_table

SUFFIXES = (".csv", ".json", ".tex", ".html")


def write_scores(
    path: str | PathLike[str],
    scores: Scores,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    settings: tuple[Setting, ...] = (),
) -> list[Path]:
    """Write scores, with further tables, as .csv, .json, .tex or .html, and return the files that were written.

    A CSV file holds one table: the further ones lie beside it, ``scores_NAME.csv`` beside ``scores.csv``; its last
    columns say how the numbers were made. Pictures are in .html only. settings: of the scores, beside those that they
    know. Files are replaced at the end. Raises InputError for another suffix, FileError where that fails.
    """
    target = Path(path)
    suffix = check_suffix(target)
    if suffix == ".csv":
        return _write_csv(target, [scores_table(scores, settings), *tables])
    texts = {
        ".json": lambda: _json(scores, tables, settings),
        ".tex": lambda: latex_document(scores, tables, settings),
        ".html": lambda: html_document(scores, tables, pictures, settings),
    }
    files.replace_bytes(target, texts[suffix]().encode())
    return [target]


def check_suffix(path: Path) -> str:
    """The suffix of a path, lower case; InputError where no scores are written under it."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: scores are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return suffix


def _write_csv(target: Path, tables: Sequence[Table]) -> list[Path]:
    paths = [target, *(target.with_name(f"{target.stem}_{table.name}{target.suffix}") for table in tables[1:])]
    for path, table in zip(paths, tables, strict=True):
        table.to_csv(path)
    return paths


def _json(scores: Scores, tables: Sequence[Table], settings: tuple[Setting, ...]) -> str:
    content = {"napari_medseg": __version__, **scores.document()}
    content["settings"] = values_of((*metrics_settings(scores.config), *settings))
    if tables:
        content["tables"] = {table.name: table.document() for table in tables}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
