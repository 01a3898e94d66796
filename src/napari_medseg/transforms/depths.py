"""How deep a voxel lies in its object, in a few steps: labels from which objects that touch can be told apart.

A label "lesion" becomes "lesion, depth 1 of 3" along the border of every object, also where it touches another one, to
"lesion, depth 3 of 3" in its middle. The steps are a distance map in whole numbers, which any network can learn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.label_boxes import connected_parts
from napari_medseg.geometry import Triple

DEPTHS = 3
"""Steps from the border of an object to its middle."""
_NAME = re.compile(r"(?P<of>.*), depth (?P<depth>[1-9]) of (?P<depths>[1-9])")

Ids = npt.NDArray[np.integer[Any]]
Number = TypeVar("Number", int, npt.NDArray[np.int64])


def depth_label(label: Number, depth: Number, after: int = 0) -> Number:
    """The id of a depth, from 1 on, of a label; or of each of several. after: the last id that is taken otherwise."""
    return after + (label - 1) * DEPTHS + depth


def depth_name(name: str, depth: int) -> str:
    """The name of a depth of a label."""
    return f"{name}, depth {depth} of {DEPTHS}"


def depths_in(labels: Mapping[int, str]) -> dict[int, tuple[str, int]]:
    """{id: (name of what it is a depth of, depth)} where all of these labels are depths; else empty."""
    found = {label: _NAME.fullmatch(name) for label, name in labels.items() if label}
    if not found or not all(found.values()):
        return {}
    return {label: (match["of"], int(match["depth"])) for label, match in found.items() if match}


def depths_of(ids: Ids, spacing_zyx_mm: Triple) -> npt.NDArray[np.uint8]:
    """The depth (Z, Y, X) of every voxel in its object, 1 to `DEPTHS`; 0 outside.

    ids: numbers of the objects, 0 outside. The distance to the outside of the object (mm) is divided by its largest.
    The end of the image is no border.
    """
    made = np.zeros(ids.shape, np.uint8)
    for number, place in enumerate(ndimage.find_objects(ids), start=1):
        if place is None:
            continue
        around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in place)
        inside = ids[around] == number
        if inside.all():
            made[around] = DEPTHS
            continue
        distance = ndimage.distance_transform_edt(inside, spacing_zyx_mm)
        steps = np.ceil(distance / distance.max() * DEPTHS).astype(np.uint8)
        made[around][inside] = steps[inside]
    return made


def objects_of(labels: Ids, *, connected: bool) -> npt.NDArray[np.int32]:
    """Numbers (Z, Y, X) from 1 on of the objects in labels; 0 outside.

    connected: an object is a part of one label that is connected by faces, edges or corners; else all that has one id.
    """
    found = np.zeros(labels.shape, np.int32)
    if not connected:
        found[...] = np.searchsorted(np.unique(labels[labels > 0]), labels) + 1
        found[labels <= 0] = 0
        return found
    count = 0
    for parts in connected_parts(labels, np.ones((3, 3, 3))):
        inside = parts.numbers > 0
        found[parts.box][inside] = parts.numbers[inside] + count
        count += parts.count
    return found
