"""The small text files of data sets: dataset.json and tables of labels. They are strangers' files, so bounded first."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from napari_medseg import strictjson
from napari_medseg.errors import FileError
from napari_medseg.io.disk.files import check_regular
from napari_medseg.volume import MAX_LABEL

_MAX_BYTES = 16 << 20
_MAX_LABELS = 4096
_MAX_NAME = 200
_SHOWN = 60
"""Letters of a wrong value that a message shows."""


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises FileError for anything else."""
    try:
        content = strictjson.parse(_text(path))
    except ValueError as error:
        raise FileError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise FileError(f"{path}: a JSON object is expected; got a {type(content).__name__}")
    return content


def label_table(path: Path) -> dict[int, str]:
    """{id: name} of a BIDS table (columns index and name, tab-separated). Raises FileError."""
    rows = csv.DictReader(_text(path).splitlines(), delimiter="\t")
    try:
        return {label_id(path, row["index"]): clean(row["name"]) for row in rows if str(row["index"]) != "0"}
    except (KeyError, csv.Error):
        raise FileError(f"{path}: a table of labels needs the columns index and name") from None


def label_ids(path: Path, labels: object) -> dict[str, tuple[int, ...]]:
    """{name: ids} of `labels` in a dataset.json, either {"liver": 1} (a list for regions) or {"1": "liver"}.

    The background, id 0, is left out; equal names are numbered. Raises FileError for ids that are no whole numbers in
    bounds.
    """
    if not isinstance(labels, Mapping) or len(labels) > _MAX_LABELS:
        raise FileError(f"{path}: labels must be an object of at most {_MAX_LABELS} names; got {_shown(labels)}")
    found: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items():
        name, ids = (value, key) if isinstance(value, str) else (key, value)
        listed = ids if isinstance(ids, list) else [ids]
        if len(listed) > _MAX_LABELS:
            raise FileError(f"{path}: a region of more than {_MAX_LABELS} labels")
        whole = tuple(label_id(path, i) for i in listed)
        if whole != (0,):
            found[_unlike(clean(name), found)] = whole
    return found


def _unlike(name: str, others: Container[str]) -> str:
    """The name, with a number behind it where others have it."""
    numbered = (f"{name} {n}" if n > 1 else name for n in itertools.count(1))
    return next(text for text in numbered if text not in others)


def label_id(path: Path, value: object) -> int:
    """The value as a label id; FileError where it is none."""
    text = value if isinstance(value, str) else ""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_LABEL:
        raise FileError(f"{path}: label ids are whole numbers from 0 to {MAX_LABEL}; got {_shown(value)}")
    return number


def clean(name: object) -> str:
    """A name as a model file can hold it: one line of printable letters."""
    printable = "".join(c if c.isprintable() else " " for c in str(name))
    return " ".join(printable.split())[:_MAX_NAME] or "unnamed"


def _text(path: Path) -> str:
    if check_regular(path) > _MAX_BYTES:
        raise FileError(f"{path}: too long: at most {_MAX_BYTES >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"{path}: not text in UTF-8") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN]
