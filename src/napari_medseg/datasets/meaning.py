"""What the values of 2D masks mean, judged from all of them: one structure, numbers of objects, or ids of classes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_medseg import io

_JPEG = (".jpg", ".jpeg")
_FEWEST_OBJECTS = 3
"""Numbers in a mask from which on they may count objects."""
_WHOLE = 0.9
"""Share of the numbers in a mask that are one connected part each, where they count objects."""
_SHOWN = 5
"""Values that a reason names."""


class Meaning(enum.Enum):
    """What values mean, in words for the user."""

    ONE = "the masks hold one structure (0, and 1 or 255)"
    OBJECTS = "the values of the masks number objects, not classes"
    CLASSES = "the values of the masks are taken for ids of classes"


@dataclass(frozen=True)
class Judged:
    """What the values of masks mean, and why."""

    meaning: Meaning
    reason: str

    def __str__(self) -> str:
        return f"{self.meaning.value}; {self.reason}"


def meaning_of(paths: Sequence[Path]) -> Judged:
    """What the values of these masks mean. Masks in JPEG, which changes values, can hold one structure only.

    The others are read until it is sure that they are classes; that they are not takes all of them.
    """
    jpeg = next((path for path in paths if path.suffix.lower() in _JPEG), None)
    if jpeg is not None:
        return Judged(Meaning.ONE, f"{jpeg.name} is a JPEG, which keeps no ids")
    is_one, against, counts = True, "", set[int]()
    for path in paths:
        mask = np.asarray(io.read_segmentation(path).data[...])[0]
        values = np.unique(mask[mask > 0]).tolist()
        is_one = is_one and len(values) <= 1 and set(values) <= {1, 255}
        against = against or _against_numbers(path.name, mask, values)
        counts.add(len(values))
        if against and not is_one:
            return Judged(Meaning.CLASSES, against)
    if is_one:
        return Judged(Meaning.ONE, f"all {len(paths)} do")
    if len(counts) == 1 or max(counts) < _FEWEST_OBJECTS:
        few = f"at most {max(counts)}" if len(counts) > 1 else f"{max(counts)} each"
        return Judged(Meaning.CLASSES, f"all {len(paths)} hold few of them, {few}")
    return Judged(Meaning.OBJECTS, f"all {len(paths)} count from 1 on, up to {max(counts)}, in one piece each")


def _against_numbers(name: str, mask: npt.NDArray[np.integer], values: Sequence[int]) -> str:
    """Why the values of a mask do not count objects; empty where they may."""
    if values != list(range(1, len(values) + 1)):
        more = ", ..." if len(values) > _SHOWN else ""
        return f"{name} holds {', '.join(map(str, values[:_SHOWN]))}{more}"
    return "" if _is_in_one_piece(mask) else f"in {name} an id is in several pieces"


def _is_in_one_piece(mask: npt.NDArray[np.integer]) -> bool:
    """Whether most numbers in a mask, which count from 1 on, are one connected part."""
    from scipy import ndimage

    boxes = ndimage.find_objects(mask.astype(np.int32))
    whole = [ndimage.label(mask[box] == k, np.ones((3, 3)))[1] == 1 for k, box in enumerate(boxes, start=1)]
    return not whole or float(np.mean(whole)) >= _WHOLE
