"""Pixels as channels of an image, or as ids of labels: palettes, colours, opacity, and tables of colours.

A table of colours is a file `colours.csv` (or `class_dict.csv`) beside the masks: a line for each label, under the
heading `id,name,red,green,blue`. Without the column `id`, the first line is 0, the next one 1, and so on.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, InputError, NotSupportedError, warn
from napari_medseg.io.attributes import Attributes
from napari_medseg.io.disk import files
from napari_medseg.io.raster.facts import Facts
from napari_medseg.io.stored import Unread
from napari_medseg.volume import MAX_LABEL, Colour, LazyArray, label_dtype

Array = npt.NDArray[Any]

_TABLES = ("colours.csv", "class_dict.csv")
_MOST_ROWS = 65_536
_MOST_TABLE_BYTES = 8 << 20
_MOST_NAMED = 5
"""Colours that a message names."""


@dataclass(frozen=True)
class Table:
    """Which id each colour of a mask stands for."""

    path: Path
    ids: Mapping[Colour, int]
    names: Mapping[int, str] = field(default_factory=dict)


def channels(array: LazyArray, facts: Facts, file: Path) -> LazyArray:
    """(1, Y, X), or (C, 1, Y, X) for colours and for pages as channels, of pixels (P, Y, X) or (P, Y, X, S)."""
    if facts.colours == "palette" and not facts.samples:
        return _palette_colours(array, facts, file)
    if not facts.samples:
        return array if array.shape[0] == 1 else _with_depth(array)
    kept = facts.samples - 1 if facts.has_opacity else facts.samples
    if isinstance(array, Unread):
        size = array.shape[1:3]
        return Unread((1, *size) if kept == 1 else (kept, 1, *size), array.dtype)
    pixels = np.asarray(array)[0]
    if facts.has_opacity and _is_see_through(pixels[..., -1]):
        warn(f"{file}: some pixels are transparent; their opacity is left out, and their colours are read as stored")
    moved = np.ascontiguousarray(np.moveaxis(pixels[..., :kept], -1, 0))
    return moved if kept == 1 else moved[:, None]


def ids(array: LazyArray, facts: Facts, file: Path, table: Table | None) -> LazyArray:
    """The ids (1, Y, X) of labels; several channels where the pixels are no labels, which the caller refuses."""
    if not facts.samples:
        return array if array.shape[0] == 1 else _with_depth(array)
    if facts.samples - facts.has_opacity != 3:
        return channels(array, facts, file)
    if isinstance(array, Unread):
        largest = max(table.ids.values(), default=0) if table else 0
        return Unread((1, *array.shape[1:3]), label_dtype(largest) if table else array.dtype)
    pixels = np.asarray(array)[0, ..., :3]
    if table is not None:
        return _by_table(pixels, file, table)[None]
    if (pixels == pixels[..., :1]).all():  # grey, saved as colours
        return np.ascontiguousarray(pixels[..., 0])[None]
    raise InputError(
        f"{file}: colours ({_some(_unique(pixels))}) are not ids of labels: put a table {_TABLES[0]} beside it, with "
        f"the heading id,name,red,green,blue"
    )


def names_and_colours(
    own: Attributes | None, facts: Facts, table: Table | None, *, holds_labels: bool
) -> tuple[dict[int, str], dict[int, Colour]]:
    """The names and colours of labels: ours, else those of the table, else the colours of the palette."""
    if own is not None and (own.labels or own.colours):
        return dict(own.labels), dict(own.colours)
    if table is not None:
        return dict(table.names), {label: colour for colour, label in table.ids.items() if label}
    if not holds_labels or facts.samples:
        return {}, {}
    # A palette is filled up with black.
    return {}, {label: colour for label, colour in enumerate(facts.palette) if label and any(colour)}


def table_beside(file: Path) -> Table | None:
    """The table of colours in a mask's folder; None without one. Raises FileError for one that is not understood."""
    path = next((file.with_name(name) for name in _TABLES if file.with_name(name).is_file()), None)
    if path is None:
        return None
    if files.check_regular(path) > _MOST_TABLE_BYTES:
        raise FileError(f"{path}: too long for a table of colours")
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            rows = [{str(k).strip().lower(): str(v).strip() for k, v in row.items()} for row in csv.DictReader(text)]
        listed = [_row(n, row) for n, row in enumerate(rows[:_MOST_ROWS])]
    except (ValueError, KeyError, csv.Error) as error:
        raise FileError(f"{path}: not a table of colours under the heading id,name,red,green,blue") from error
    found = {colour: label for label, _, colour in listed}
    if len(found) < len(rows):
        raise FileError(f"{path}: two lines have the same colour: a colour stands for one id")
    return Table(path, found, {label: name for label, name, _ in listed if name})


def _row(number: int, row: Mapping[str, str]) -> tuple[int, str, Colour]:
    label = int(row["id"]) if "id" in row else number
    red, green, blue = (int(row[name] if name in row else row[name[0]]) for name in ("red", "green", "blue"))
    if not 0 <= label <= MAX_LABEL or not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"out of range: {row}")
    return label, row.get("name", ""), (red, green, blue)


def _by_table(pixels: Array, file: Path, table: Table) -> Array:
    """The ids (Y, X) of colours (Y, X, 3). Black that no line names is background."""
    if pixels.dtype != np.uint8:
        raise NotSupportedError(f"{file}: colours of type {pixels.dtype} have no table: save it with 8 bits a colour")
    known = {(0, 0, 0): 0} | dict(table.ids)
    keys = sorted((_key(colour), label) for colour, label in known.items())
    codes, labels = np.array([k for k, _ in keys]), np.array([v for _, v in keys])
    wanted = pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    at = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
    unknown = codes[at] != wanted
    if unknown.any():
        raise InputError(
            f"{file}: {int(unknown.sum())} pixels have colours ({_some(_unique(pixels[unknown]))}) that {table.path} "
            f"does not name: add them, or save the mask without smoothing"
        )
    found: Array = labels[at].astype(label_dtype(int(labels.max())))
    return found


def _key(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unique(pixels: Array) -> list[Colour]:
    """A few different colours of many pixels."""
    flat = pixels.reshape(-1, 3)[: 1 << 16]
    return [(int(r), int(g), int(b)) for r, g, b in np.unique(flat, axis=0)[: _MOST_NAMED + 1]]


def _some(colours: list[Colour]) -> str:
    return ", ".join(map(str, colours[:_MOST_NAMED])) + (", ..." if len(colours) > _MOST_NAMED else "")


def _with_depth(array: LazyArray) -> LazyArray:
    """(C, Y, X) as (C, 1, Y, X)."""
    if isinstance(array, Unread):
        return Unread((array.shape[0], 1, *array.shape[1:]), array.dtype)
    return np.asarray(array)[:, None]


def _palette_colours(array: LazyArray, facts: Facts, file: Path) -> LazyArray:
    """Red, green and blue (3, 1, Y, X) of indices into a palette."""
    if array.shape[0] != 1:
        raise NotSupportedError(f"{file}: pages with palettes are no channels: name one of them")
    if isinstance(array, Unread):
        return Unread((3, 1, *array.shape[1:]), np.uint8)
    table = np.zeros((1 << 16, 3), np.uint8)
    table[: len(facts.palette)] = np.array(facts.palette or [(0, 0, 0)], np.uint8)[: 1 << 16]
    return np.ascontiguousarray(np.moveaxis(table[np.asarray(array)[0].astype(np.uint16)], -1, 0))[:, None]


def _is_see_through(opacity: Array) -> bool:
    full = 1.0 if opacity.dtype.kind == "f" else np.iinfo(opacity.dtype).max
    return bool((opacity != full).any())
