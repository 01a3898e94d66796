"""What `napari-medseg info` says about a file: what it is, where it lies, and what is odd about it."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import blocks, whole
from napari_medseg.errors import MedsegWarning
from napari_medseg.io import formats
from napari_medseg.io.stored import image_for_labels
from napari_medseg.volume import Grid, LazyArray, Segmentation, Volume, require_order_onto

_SLAB = 64
"""Slices (z) that are looked at at once, so that an array in memory is not copied whole."""
_MAX_READ = 16 << 30
"""Bytes up to which an array on the disk is read through, for its values and for damaged chunks."""
_MOST_NAMED = 5
"""Labels that a note names."""
_MANY_LABELS = 1000
"""More ids than this are instances rather than classes."""


def describe(path: str | PathLike[str], labels: bool = False, image: str | PathLike[str] | None = None) -> list[str]:
    """Lines about an image, or about labels. With `image`, the labels must lie on its grid, as it is stored or not.

    Raises as `read` and `read_segmentation`, and GridMismatchError where labels and image lie apart.
    """
    noun = formats.read_segmentation(path) if labels else formats.read(path)
    lines = [
        f"file: {_printable(path)}",
        f"format: {formats.format_of(Path(path)).name}",
        *_array_lines(noun.data),
        *_grid_lines(noun.grid),
    ]
    if isinstance(noun, Segmentation):
        if told := image_for_labels(noun, _printable(path)):
            warnings.warn(told, MedsegWarning, stacklevel=2)
        lines += _label_lines(noun)
    else:
        lines += _image_lines(noun)
    if isinstance(noun, Segmentation) and image is not None:
        reference = formats.peek(image)
        order = require_order_onto(noun, reference, "labels", "image")
        turned = "" if order.is_identity else ", with its axes flipped or in another order"
        lines.append(f"grid: the same as that of {_printable(image)}{turned}")
    return lines + _notes(path, labels=labels) + _provenance_lines(noun)


def _notes(path: str | PathLike[str], *, labels: bool) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MedsegWarning)  # reading the file has given the same warnings
        outline = formats.peek(path, as_labels=labels)
    notes = list(outline.notes)
    if outline.is_labels and not labels:
        names = _listed(outline.labels, list(outline.labels))
        notes.append(f"a segmentation{f' ({names})' if names else ''}: --labels lists its labels")
    return [f"note: {note}" for note in notes]


def _printable(path: str | PathLike[str]) -> str:
    """The name; bytes that are no text in UTF-8 become escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _array_lines(data: LazyArray) -> list[str]:
    chunks = getattr(data, "chunks", None)
    lines = [f"shape: {' x '.join(map(str, data.shape[-3:]))} (z, y, x)", f"type: {np.dtype(data.dtype)}"]
    return lines if chunks is None else [*lines, f"chunks: {' x '.join(map(str, _regular(chunks)[-3:]))}"]


def _grid_lines(grid: Grid) -> list[str]:
    spacing, origin = (", ".join(f"{value:.6g}" for value in values) for values in (grid.spacing, grid.origin))
    oblique = ", oblique" if grid.is_oblique else ""
    return [
        f"spacing: {spacing} mm (z, y, x)",
        f"origin: {origin} mm (towards S, P, L)",
        f"orientation: {grid.orientation}{oblique} (the direction that each array axis runs to)",
    ]


def _image_lines(volume: Volume) -> list[str]:
    lines = [f"channels: {len(volume.channels)} ({', '.join(volume.channels)})"]
    if not _is_read_through(volume.data):
        return [*lines, "values: not looked at: too large an array"]
    low, high = np.inf, -np.inf
    for block in _blocks(volume.data):
        low, high = min(low, block.min()), max(high, block.max())
    return [*lines, f"values: {low:.6g} to {high:.6g}"]


def _label_lines(segmentation: Segmentation) -> list[str]:
    if not _is_read_through(segmentation.data):
        return ["labels: not counted: too large an array"]
    counts = count_labels(segmentation.data)
    present = [label for label in counts if label != 0]
    odd = _oddity(counts, present)
    if odd:
        warnings.warn(f"{segmentation.name}: {odd}", MedsegWarning, stacklevel=3)
    named_only = sorted(label for label in segmentation.labels if label != 0 and label not in counts)
    rows = [f"  {label}  {segmentation.label_name(label)}  {counts[label]} voxels" for label in sorted(present)]
    of_all = f" of {len(present) + len(named_only)} present" if named_only else ""
    if named_only:
        rows.append(f"  absent: {_listed(segmentation.labels, named_only)}")
    return [f"labels: {len(present)}{of_all} ({counts[0]} voxels of background)", *rows]


def _listed(names: Mapping[int, str], labels: Sequence[int]) -> str:
    """Labels with their names, the first ones only."""
    more = ", ..." if len(labels) > _MOST_NAMED else ""
    return ", ".join(f"{label} {names[label]}" for label in labels[:_MOST_NAMED]) + more


def _oddity(counts: Counter[int], present: list[int]) -> str:
    """What is odd about the numbers of voxels; "" where nothing is odd."""
    if not present:
        return "nothing is labelled: every voxel is background"
    if counts[0] == 0 and len(present) == 1:
        return f"every voxel is label {present[0]}: there is no background and no other class"
    if len(present) > _MANY_LABELS:
        return f"{len(present)} different labels are many for classes: is it a map of instances?"
    return ""


def count_labels(data: LazyArray) -> Counter[int]:
    """Voxels per id of labels (Z, Y, X), in memory or on the disk; a Counter, so that an absent id has 0."""
    counts: Counter[int] = Counter()
    for block in _blocks(data):
        ids, voxels = np.unique(block, return_counts=True)
        counts.update(dict(zip(ids.tolist(), voxels.tolist(), strict=True)))
    return counts


def _is_read_through(data: LazyArray) -> bool:
    return isinstance(data, np.ndarray) or math.prod(data.shape) * np.dtype(data.dtype).itemsize <= _MAX_READ


def _blocks(data: LazyArray) -> Iterator[npt.NDArray[Any]]:
    """The array piece by piece; an array on the disk chunk by chunk."""
    slabs = (*data.shape[:-3], _SLAB, *data.shape[-2:])
    for block in blocks(whole(data.shape), _regular(getattr(data, "chunks", slabs))):
        yield np.asarray(data[block])


def _regular(chunks: Any) -> tuple[int, ...]:
    """One chunk size per axis; dask has a tuple of sizes per axis."""
    return tuple(c if isinstance(c, int) else max(c) for c in chunks)


def _provenance_lines(noun: Volume | Segmentation) -> list[str]:
    return [f"provenance, {key}: {_one_line(value)}" for key, value in noun.provenance.items()]


def _one_line(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
