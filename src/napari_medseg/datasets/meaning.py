"""What the values of 2D masks mean, judged from some of them: one structure, numbers of objects, or ids of classes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_medseg import io

_JPEG = (".jpg", ".jpeg")
_FEWEST_OBJECTS = 3
"""Numbers in a mask from which on they may count objects."""
_WHOLE = 0.9
"""Share of the numbers in a mask that are one connected part each, where they count objects."""


class Meaning(enum.Enum):
    """What values mean, in words for the user."""

    ONE = "the masks hold one structure (0, and 1 or 255)"
    OBJECTS = "the values of the masks number objects, not classes"
    CLASSES = "the values of the masks are taken for ids of classes"


def meaning_of(paths: Sequence[Path]) -> Meaning:
    """What the values of these masks mean. Masks in JPEG, which changes values, can hold one structure only."""
    if any(path.suffix.lower() in _JPEG for path in paths):
        return Meaning.ONE
    masks = [np.asarray(io.read_segmentation(path).data[...])[0] for path in paths]
    values = [np.unique(mask[mask > 0]) for mask in masks]
    if all(len(found) <= 1 and set(found.tolist()) <= {1, 255} for found in values):
        return Meaning.ONE
    counts = {len(found) for found in values}
    numbered = all(np.array_equal(found, np.arange(1, len(found) + 1)) for found in values)
    if numbered and len(counts) > 1 and max(counts) >= _FEWEST_OBJECTS and all(map(_is_in_one_piece, masks)):
        return Meaning.OBJECTS
    return Meaning.CLASSES


def _is_in_one_piece(mask: npt.NDArray[np.integer]) -> bool:
    """Whether most numbers in a mask are one connected part."""
    from scipy import ndimage

    numbers = np.unique(mask[mask > 0])
    whole = [ndimage.label(mask == number, np.ones((3, 3)))[1] == 1 for number in numbers[:50]]
    return not whole or float(np.mean(whole)) >= _WHOLE
