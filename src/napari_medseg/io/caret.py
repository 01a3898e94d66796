"""Names and colours of labels as NIfTI files of TotalSegmentator and Connectome Workbench carry them.

An extension of the header holds XML: CaretExtension > VolumeInformation > LabelTable > Label. A Label has its id in
Key, its colour in Red, Green and Blue (fractions of 1), and its name as text.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from napari_medseg.errors import warn
from napari_medseg.io.attributes import Attributes, colour_of
from napari_medseg.volume import MAX_LABEL, Colour

CODES = (0, 30)
"""The codes of extensions that may hold the table: TotalSegmentator writes 0, "unknown"; 30 is Caret's own."""
CODE = 30
"""The code that we write."""
_MARK = b"<CaretExtension"
_MAX_BYTES = 4 << 20
_MAX_LABELS = 100_000
_MAX_NAME = 1000
"""Characters of a name; the rest is left out."""
_GOLDEN = 0.618034
"""Steps of the hue by this fraction of the circle keep neighbours apart."""
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 cannot hold."""


class _RefusedError(Exception):
    """The XML is larger than any table of labels, or declares entities."""


def from_extension(content: bytes, point: int, where: str) -> Attributes | None:
    """The labels in the content of an extension; None where it is no table of labels.

    point: the time point, which may have a table of its own. A table that is damaged, too large or hostile is left out
    with a warning: the voxels are good without it.
    """
    if _MARK not in content[:4096]:
        return None
    table = _Table()
    try:
        if len(content) > _MAX_BYTES:
            raise _RefusedError("it is too large")
        table.parse(content.strip(b"\0 \r\n\t"))
    except (expat.ExpatError, _RefusedError, ValueError, LookupError) as error:
        warn(f"{where}: the label names in its header cannot be read and are left out: {error}")
        return None
    names, colours = table.volumes.get(point) or table.volumes.get(0) or ({}, {})
    return Attributes(names, is_labels=True, colours=colours) if names else None


def to_extension(labels: Mapping[int, str], colours: Mapping[int, Colour]) -> bytes:
    """The table for a file's header. A label without a colour gets one: the table has no empty place for it."""
    rows = "".join(_row(label, name, colours.get(label)) for label, name in labels.items() if label > 0)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        f"{rows}</LabelTable><VolumeType>Label</VolumeType></VolumeInformation></CaretExtension>\n"
    ).encode(errors="replace")


def _row(label: int, name: str, colour: Colour | None) -> str:
    if colour is None:
        red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.8, 1.0)
    else:
        red, green, blue = (value / 255 for value in colour)
    text = escape(_NO_XML.sub(" ", name))
    return f'<Label Key="{label}" Red="{red:.6g}" Green="{green:.6g}" Blue="{blue:.6g}" Alpha="1">{text}</Label>\n'


class _Table:
    """What a parser has found so far. Entities are refused where they are declared, before any is expanded."""

    def __init__(self) -> None:
        self.volumes: dict[int, tuple[dict[int, str], dict[int, Colour]]] = {}
        self._volume = 0
        self._count = 0
        self._label: Mapping[str, str] | None = None
        self._text: list[str] = []

    def parse(self, content: bytes) -> None:
        """Take all labels of the XML. Raises ExpatError, _RefusedError, and ValueError for a key that is no number."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_entities
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._characters
        parser.EndElementHandler = self._end
        parser.Parse(content, True)

    def _refuse_entities(self, *_: object) -> None:
        raise _RefusedError("it declares a document type, which a table of labels does not need")

    def _start(self, name: str, given: Mapping[str, str]) -> None:
        if name == "VolumeInformation":
            self._volume = int(given.get("Index", "0"))
        elif name == "Label":
            self._label, self._text = dict(given), []

    def _characters(self, text: str) -> None:
        if self._label is not None:
            self._text.append(text)

    def _end(self, name: str) -> None:
        if name != "Label" or self._label is None:
            return
        given, self._label = self._label, None
        self._count += 1
        if self._count > _MAX_LABELS:
            raise _RefusedError(f"it has more than {_MAX_LABELS} labels")
        key = int(given.get("Key", "0"))
        if not 0 < key <= MAX_LABEL:  # 0 is the background
            return
        names, colours = self.volumes.setdefault(self._volume, ({}, {}))
        names[key] = " ".join("".join(self._text).split())[:_MAX_NAME]
        colour = _colour(given)
        if colour is not None:
            colours[key] = colour


def _colour(given: Mapping[str, Any]) -> Colour | None:
    try:
        return colour_of([round(float(given[part]) * 255) for part in ("Red", "Green", "Blue")])
    except (KeyError, ValueError, OverflowError):
        return None
