"""Our own JSON beside an array: labels, channels and provenance. It lies wherever a format has a place for text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_medseg.errors import warn
from napari_medseg.io.stored import Stored
from napari_medseg.volume import Colour

KEY = "napari_medseg"
"""The key of our JSON in every format."""


@dataclass(frozen=True)
class Attributes:
    """What our JSON says."""

    labels: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    is_labels: bool = False
    colours: Mapping[int, Colour] = field(default_factory=dict)


def to_json_object(stored: Stored) -> dict[str, object]:
    """The object to store under `KEY`. It may be empty for an image; for labels it says that they are labels."""
    content: dict[str, object] = {}
    if stored.is_labels:
        content["labels"] = {str(label): name for label, name in stored.labels.items()}
    if stored.colours:
        content["colours"] = {str(label): list(colour) for label, colour in stored.colours.items()}
    if stored.channels:
        content["channels"] = list(stored.channels)
    if stored.provenance:
        content["provenance"] = dict(stored.provenance)
    return content


def from_json_object(content: object, where: str) -> Attributes:
    """Our object as read. Where it does not fit it is left out with a warning: the voxels are good without it."""
    if not isinstance(content, dict):
        return _odd(where)
    labels, channels = content.get("labels", {}), content.get("channels", [])
    provenance = content.get("provenance", {})
    if not isinstance(labels, dict) or not isinstance(channels, list) or not isinstance(provenance, dict):
        return _odd(where)
    if not all(str(key).isdecimal() for key in labels):
        return _odd(where)
    named = {int(key): str(name) for key, name in labels.items()}
    colours = _colours(content.get("colours", {}))
    return Attributes(named, tuple(str(channel) for channel in channels), provenance, "labels" in content, colours)


def colour_of(values: object) -> Colour | None:
    """Three whole numbers from 0 to 255 as a colour; a fourth, the opacity, is ignored. None for anything else."""
    if not isinstance(values, list) or not 3 <= len(values) <= 4:
        return None
    if not all(type(value) is int and 0 <= value <= 255 for value in values):
        return None
    return values[0], values[1], values[2]


def _colours(content: object) -> dict[int, Colour]:
    rows = content.items() if isinstance(content, dict) else ()
    found = {int(key): colour_of(values) for key, values in rows if str(key).isdecimal()}
    return {label: colour for label, colour in found.items() if colour is not None}


def from_text(text: str, where: str) -> Attributes | None:
    """The attributes in a text; None where the text is not ours."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # a hostile text may be brackets only
        return None
    if not isinstance(content, dict) or KEY not in content:
        return None
    return from_json_object(content[KEY], where)


def to_text(stored: Stored) -> str:
    """The attributes as one line of JSON; "" where there are none."""
    content = to_json_object(stored)
    return json.dumps({KEY: content}) if content else ""


def _odd(where: str) -> Attributes:
    warn(f"{where}: its napari_medseg attributes are not understood and left out")
    return Attributes()
