"""The volumes of one DICOM series: of time points, echoes, contrasts, or of slices that lie in different planes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from napari_medseg.io.dicom.header import nested_items, text
from napari_medseg.io.dicom.planes import DicomPlane

_SAME_MM = 0.01
"""Planes nearer to each other lie at the same position."""
_ALIKE = 1e-3
"""The greatest difference of sizes, directions and spacings in one stack."""
_MOST_KINDS = 20
"""A series of more kinds of planes is no collection of volumes."""
_TIME = "time point"
_MARKS = (
    (_TIME, ("TemporalPositionIdentifier", "TemporalPositionIndex")),
    ("echo time", ("EchoTime", "EffectiveEchoTime")),
    ("echo", ("EchoNumbers",)),
    ("b-value", ("DiffusionBValue",)),
    ("inversion time", ("InversionTime", "InversionTimes")),
    ("flip angle", ("FlipAngle",)),
    ("trigger time", ("TriggerTime", "NominalCardiacTriggerDelayTime")),
    ("kVp", ("KVP",)),
    ("stack", ("StackID",)),
    ("kind", ("ImageType", "FrameType")),
    ("acquisition", ("AcquisitionNumber",)),
    (_TIME, ("AcquisitionTime", "FrameReferenceDateTime")),
)
"""What tells the volumes of a series apart: its word, and its attributes in classic and in enhanced files."""
_SHOWN = re.compile(r"[A-Z0-9_.\\[\]', -]{1,80}")
"""Numbers and codes; anything else could be a text about a patient."""


@dataclass(frozen=True)
class DicomVolume:
    """Some planes of a series."""

    planes: Sequence[DicomPlane]
    mark: str
    """What tells it from the others, in words."""
    is_time: bool = False
    """Whether it is a point of a time series."""
    is_part: bool = False
    """Whether the series has slices of another size, orientation or spacing."""


def volumes_of(planes: Sequence[DicomPlane]) -> list[DicomVolume]:
    """The volumes that the planes of a series make; one if they are one, or if nothing tells them apart.

    Only the headers are looked at, once for each attribute that may tell.
    """
    kinds = _kinds(planes)
    found = []
    for kind in kinds:
        name = "" if len(kinds) == 1 else _size(kind)
        parts = _apart(kind)
        for part in parts:
            mark = ", ".join(word for word in (name, part.mark) if word)
            found.append(DicomVolume(part.planes, mark, part.is_time and len(kinds) == 1, len(kinds) > 1))
    return found


def _size(planes: Sequence[DicomPlane]) -> str:
    rows, columns = planes[0].header.size
    return f"{len(planes)} slice{'s' if planes[1:] else ''} of {rows} x {columns}"


def _most_at_a_position(planes: Sequence[DicomPlane]) -> int:
    """How many parallel planes share a position at the most."""
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    along = np.sort([plane.position_mm @ normal for plane in planes])
    ends = np.flatnonzero(np.diff(along) >= _SAME_MM) + 1
    return max(len(stack) for stack in np.split(along, ends))


def _kinds(planes: Sequence[DicomPlane]) -> list[list[DicomPlane]]:
    """Planes that are alike in size, orientation and spacing, the most first; all in one where they are too many."""
    values = np.array([(*p.header.size, *p.orientation, *p.spacing_mm) for p in planes], dtype=float)
    left = np.arange(len(planes))
    kinds = []
    while len(left):
        alike = np.abs(values[left] - np.median(values[left], axis=0)).max(axis=1) <= _ALIKE
        if not alike.any():
            alike = np.abs(values[left] - values[left[0]]).max(axis=1) <= _ALIKE
        kinds.append([planes[i] for i in left[alike]])
        left = left[~alike]
        if len(kinds) > _MOST_KINDS:
            return [list(planes)]
    return sorted(kinds, key=len, reverse=True)


def _apart(planes: list[DicomPlane]) -> list[DicomVolume]:
    """Parallel planes by the fewest attributes that leave no two planes of a volume at one position."""
    count = _most_at_a_position(planes)
    if count == 1:
        return [DicomVolume(planes, "")]
    rows = [_values(plane) for plane in planes]
    varying = [i for i in range(len(_MARKS)) if len({row[i] for row in rows}) > 1]
    for marks in (m for size in (1, 2, 3) for m in combinations(varying, size)):
        groups: dict[tuple[str, ...], list[DicomPlane]] = {}
        for plane, row in zip(planes, rows, strict=True):
            groups.setdefault(tuple(row[i] for i in marks), []).append(plane)
        # No more volumes than planes at a position: an attribute that each slice has to itself tells nothing apart.
        if len(groups) == count and all(_most_at_a_position(group) == 1 for group in groups.values()):
            words = [_MARKS[i][0] for i in marks]
            return [
                DicomVolume(groups[key], _named(words, key, number, count), words == [_TIME])
                for number, key in enumerate(sorted(groups, key=_order))
            ]
    return _by_instance(planes) or [DicomVolume(planes, "")]


def _by_instance(planes: list[DicomPlane]) -> list[DicomVolume]:
    """One volume after the other in the order of the InstanceNumber; none unless every position has as many planes."""
    number = [plane.header.count("InstanceNumber") * 100_000 + plane.frame for plane in planes]
    uids = {(plane.header.text("SOPInstanceUID"), plane.frame) for plane in planes}
    if len(set(number)) < len(planes) or len(uids) < len(planes):
        return []
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    along = np.array([plane.position_mm @ normal for plane in planes])
    order = np.argsort(along, kind="stable")
    ends = np.flatnonzero(np.diff(along[order]) >= _SAME_MM) + 1
    stacks = [sorted(stack.tolist(), key=lambda i: number[i]) for stack in np.split(order, ends)]
    count = len(stacks[0])
    if len(stacks) == 1 or any(len(stack) != count for stack in stacks):
        return []
    return [
        DicomVolume([planes[stack[k]] for stack in stacks], f"volume {k + 1} of {count} by InstanceNumber", True)
        for k in range(count)
    ]


def _values(plane: DicomPlane) -> list[str]:
    """The text of each mark: in the plane's functional groups, else at the top of its file; empty if it is absent."""
    places = [*(item for group in plane.groups for item in nested_items(group, plane.path)), plane.header.dataset]
    found = []
    for _, keywords in _MARKS:
        texts = (text(place, keyword, plane.path) for place in places for keyword in keywords)
        found.append(next((value for value in texts if value), ""))
    return found


def _order(key: tuple[str, ...]) -> list[tuple[float, str]]:
    """Orders numbers as numbers."""
    return [_number(value) for value in key]


def _number(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _named(words: Sequence[str], key: Sequence[str], number: int, count: int) -> str:
    shown = [f"{word} {value}" for word, value in zip(words, key, strict=True) if _SHOWN.fullmatch(value)]
    return ", ".join(shown) or f"{words[0]} {number + 1} of {count}"
