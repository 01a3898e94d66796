"""Our own JSON beside an array: labels, channels and provenance, in whatever place a format has for text."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_medseg.errors import MedsegWarning
from napari_medseg.io.stored import Stored

#: the key under which our JSON lies in every format
KEY = "napari_medseg"


@dataclass(frozen=True)
class Attributes:
    """What our JSON says."""

    labels: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    is_labels: bool = False


def to_json_object(stored: Stored) -> dict[str, object]:
    """The object to store under `KEY`; an image may have nothing to say, labels say that they are labels."""
    content: dict[str, object] = {}
    if stored.is_labels:
        content["labels"] = {str(label): name for label, name in stored.labels.items()}
    if stored.channels:
        content["channels"] = list(stored.channels)
    if stored.provenance:
        content["provenance"] = dict(stored.provenance)
    return content


def from_json_object(content: object, where: str) -> Attributes:
    """Our object as read; what does not fit is left out with a warning, for the voxels are good without it."""
    if not isinstance(content, dict):
        return _odd(where)
    labels, channels = content.get("labels", {}), content.get("channels", [])
    provenance = content.get("provenance", {})
    if not isinstance(labels, dict) or not isinstance(channels, list) or not isinstance(provenance, dict):
        return _odd(where)
    if not all(str(key).isdecimal() for key in labels):
        return _odd(where)
    named = {int(key): str(name) for key, name in labels.items()}
    return Attributes(named, tuple(str(channel) for channel in channels), provenance, "labels" in content)


def from_text(text: str, where: str) -> Attributes | None:
    """The attributes in a text that may or may not be ours; None where it is not."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict) or KEY not in content:
        return None
    return from_json_object(content[KEY], where)


def to_text(stored: Stored) -> str:
    """The attributes as one line of JSON; empty where there is nothing to say."""
    content = to_json_object(stored)
    return json.dumps({KEY: content}) if content else ""


def _odd(where: str) -> Attributes:
    warnings.warn(f"{where}: its napari_medseg attributes are not understood and left out", MedsegWarning, stacklevel=4)
    return Attributes()
