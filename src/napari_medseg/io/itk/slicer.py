"""Segmentations of 3D Slicer (.seg.nrrd): which value of which layer is which segment.

Segments that overlap lie in several layers, the components of a voxel. The same value means another segment in another
layer. Layers are read one at a time: `FILE#0`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseg.errors import InputError
from napari_medseg.io import attributes, choice
from napari_medseg.io.attributes import Attributes
from napari_medseg.io.choice import ChoiceError
from napari_medseg.volume import MAX_LABEL, Colour

KEY = re.compile(r"Segment(\d{1,9})_(LabelValue|Layer|Name|Color)")
"""The keys of an NRRD that describe segments."""
_MOST_NAMED = 5
"""Segments of a layer that a message names."""


@dataclass(frozen=True)
class Segment:
    layer: int
    value: int
    name: str
    colour: Colour | None


def segments(text: Mapping[str, str]) -> tuple[Segment, ...]:
    """The segments that have a name and a value, in the order of their numbers."""
    rows: dict[int, dict[str, str]] = {}
    for key, value in text.items():
        match = KEY.fullmatch(key)
        if match:
            rows.setdefault(int(match[1]), {})[match[2]] = value.strip()
    return tuple(
        Segment(int(row.get("Layer", "0")), int(row["LabelValue"]), row["Name"], _colour(row.get("Color", "")))
        for _, row in sorted(rows.items())
        if "Name" in row
        and _is_number(row.get("LabelValue", ""), MAX_LABEL)
        and _is_number(row.get("Layer", "0"), MAX_LABEL)
    )


def layer(path: Path, part: str, found: Sequence[Segment], count: int) -> int:
    """The layer that `part` chooses, of `count`; 0 where there is one only or the file holds no segments.

    Raises ChoiceError where one must be chosen, InputError where `part` is none of them.
    """
    if count == 1 or not found:
        choice.refuse_part(path, part)
        return 0
    if part.isdecimal() and int(part) < count:
        return int(part)
    held = "; ".join(f"{path.name}#{n} holds {_names(found, n)}" for n in range(count))
    what = f"{path}: a segmentation of {count} layers, which may overlap, and a label image holds one label per voxel"
    if part:
        raise InputError(f"{what}; #{part} is none of them: {held}")
    raise ChoiceError(f"{what}: name one: {held}", [f"{path}#{n}" for n in range(count)])


def attributes_of(found: Sequence[Segment], of_layer: int) -> Attributes:
    """The names and colours of one layer's values."""
    here = [segment for segment in found if segment.layer == of_layer]
    return Attributes(
        {segment.value: segment.name for segment in here},
        is_labels=bool(found),
        colours={segment.value: segment.colour for segment in here if segment.colour is not None},
    )


def _names(found: Sequence[Segment], of_layer: int) -> str:
    here = [f"{segment.name:.30} ({segment.value})" for segment in found if segment.layer == of_layer]
    more = f" and {len(here) - _MOST_NAMED} more" if len(here) > _MOST_NAMED else ""
    return ", ".join(here[:_MOST_NAMED]) + more if here else "segments without names"


def _is_number(text: str, most: int) -> bool:
    return text.isdecimal() and len(text) <= 10 and int(text) <= most


def _colour(text: str) -> Colour | None:
    """Three fractions of 1."""
    try:
        return attributes.colour_of([round(float(part) * 255) for part in text.split()])
    except (ValueError, OverflowError):
        return None
