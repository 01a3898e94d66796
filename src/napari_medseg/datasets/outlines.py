"""Outlines of objects in the XML of Aperio's ImageScope, as MoNuSeg has them.

Annotations > Annotation > Regions > Region > Vertices > Vertex, with attributes X and Y in pixels. No other part is
read. A document type, which entities need, is refused where it begins. Sizes are bounded before anything is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError
from napari_medseg.io.disk.files import check_regular

_MAX_BYTES = 64 << 20
_MAX_VERTICES = 2_000_000
_MAX_PLACE = 1e6
"""Pixels from the corner of the image, to either side."""
_FEWEST = 3
"""Vertices of an outline that encloses anything."""
_CHUNK = 1 << 16


class _RefusedError(Exception):
    """The XML is larger than any annotation, or has what an annotation does not need."""


def outlines_in(path: Path) -> list[npt.NDArray[np.float64]]:
    """Each outline as (n, 2) vertices (x, y) in pixels. Raises FileError, in one line, for what is not such an XML."""
    if check_regular(path) > _MAX_BYTES:
        raise FileError(f"{path}: too long for outlines: at most {_MAX_BYTES >> 20} MiB")
    reader = _Reader()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                reader.feed(chunk)
        reader.feed(b"", last=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (expat.ExpatError, _RefusedError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FileError(f"{path}: not an XML of outlines (Region > Vertex with X and Y): {reason}") from None
    return [np.array(outline) for outline in reader.outlines if len(outline) >= _FEWEST]


class _Reader:
    """What the parser has found so far."""

    def __init__(self) -> None:
        self.outlines: list[list[tuple[float, float]]] = []
        self._count = 0
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start

    def feed(self, content: bytes, *, last: bool = False) -> None:
        self._parser.Parse(content, last)

    def _refuse(self, *_: object) -> None:
        raise _RefusedError("it declares a document type")

    def _start(self, name: str, given: Mapping[str, str]) -> None:
        if name == "Region":
            self.outlines.append([])
        elif name == "Vertex" and self.outlines:
            self._count += 1
            if self._count > _MAX_VERTICES:
                raise _RefusedError(f"more than {_MAX_VERTICES} vertices")
            x, y = float(given["X"]), float(given["Y"])
            if not (abs(x) <= _MAX_PLACE and abs(y) <= _MAX_PLACE):  # NaN too
                raise _RefusedError(f"a vertex at {x:g}, {y:g}")
            self.outlines[-1].append((x, y))
