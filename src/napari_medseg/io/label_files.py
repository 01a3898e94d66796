"""Whether an image holds labels, where its file does not say so."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from napari_medseg.io import stored
from napari_medseg.io.stored import Array, Stored
from napari_medseg.volume import MAX_LABEL, Segmentation, Volume

_NAMES = frozenset(
    (
        *("seg", "segs", "dseg", "segmentation", "segmentations", "label", "labels", "labelmap", "mask", "masks", "gt"),
        *("groundtruth", "annotation", "annotations"),
    )
)
"""The words that end the names of label files, and begin some."""
_FEW = 32
"""The most different values of an image that is taken for labels whatever its name."""
_BORDERS = 0.2
"""Of all neighbours in a row, the most that differ in labels: they are areas, and not noise."""
_SAMPLE = 1 << 12
_ROWS = 1 << 12
"""Voxels, and rows, that are looked at in a large image."""


def labels_in(volume: Volume) -> Volume | Segmentation:
    """The image as labels where it is named like labels and can be, or holds few ids in areas; else as it is.

    Only images in memory are looked at, of one channel, in whole numbers from 0.
    """
    data = volume.data
    if not isinstance(data, np.ndarray) or len(volume.channels) != 1:
        return volume
    if not (is_named_like_labels(volume.name) or holds_few_ids(data[0])) or not _are_ids(data[0]):
        return volume
    return as_labels(volume)


def as_labels(volume: Volume) -> Segmentation:
    """The image as labels, under the same name. Raises InputError for fractions, ids out of range, several channels."""
    content = Stored(volume.data, volume.grid, provenance=volume.provenance)
    return replace(stored.to_segmentation(content, volume.name), name=volume.name)


def is_named_like_labels(name: str) -> bool:
    """Whether the last word of a name says labels (case_seg, case-label, masks), or its first (labels_01)."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(words) and (words[-1] in _NAMES or (words[0] in _NAMES and len(words) == 1))


def holds_few_ids(data: Array) -> bool:
    """Whether an array (z, y, x) holds 0 and a few ids more, in areas: no image does, and no noise."""
    if data.size < 2 or len(np.unique(data.ravel()[:: max(1, data.size // _SAMPLE)])) > _FEW:
        return False
    rows = data.reshape(-1, data.shape[-1])
    rows = rows[:: max(1, len(rows) // _ROWS)]
    values = np.unique(rows)
    if not 2 <= len(values) <= _FEW or values[0] != 0 or not (values == np.rint(values)).all():
        return False
    return bool((rows[:, 1:] != rows[:, :-1]).mean() <= _BORDERS) if rows.shape[1] > 1 else False


def _are_ids(data: Array) -> bool:
    """Whether all values are whole numbers that an id can have."""
    if data.dtype.kind == "b":
        return True
    if not (data.size and data.min() >= 0 and data.max() <= MAX_LABEL):
        return False
    return data.dtype.kind != "f" or bool((data == np.rint(data)).all())
