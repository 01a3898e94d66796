"""What the child process says of a 2D image, checked: it read the file and is not trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_medseg.errors import FileError
from napari_medseg.volume import Colour

_KINDS = ("grey", "rgb", "palette", "white is 0")
_TYPES = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8")
_MOST_SAMPLES = 4096
_MOST_TEXT = 1 << 20


@dataclass(frozen=True)
class Facts:
    """What a file states of its pixels."""

    pages: int
    size_yx: tuple[int, int]
    samples: int
    """Of a pixel; 0 for no axis of them."""
    dtype: np.dtype[Any]
    colours: str
    """"grey", "rgb", "palette" or "white is 0"."""
    has_opacity: bool
    """Whether the last sample is the opacity."""
    palette: tuple[Colour, ...]
    spacing_yx_mm: tuple[float, float] | None
    dpi: tuple[float, float] | None
    """(x, y) as the file states it: it may be meant for a printer or a screen."""
    text: str
    """Our own text, or what another program has written in its place."""
    orientation: int
    """As Exif and TIFF count it: 1 for as stored."""
    axes: str
    """What tifffile calls the axes that count the pages."""

    @classmethod
    def of(cls, path: object, said: Mapping[str, Any]) -> Facts:
        """The checked facts. Raises FileError where they cannot be."""
        try:
            pages, y, x, *samples = (int(n) for n in said["shape"])
            found = cls(
                pages,
                (y, x),
                samples[0] if samples else 0,
                np.dtype(_one_of(said["dtype"], _TYPES)),
                _one_of(said["colours"], _KINDS),
                bool(said["alpha"]),
                tuple(_colour(c) for c in said["palette"]),
                _pair(said["spacing_yx_mm"]),
                _pair(said["dpi"]),
                str(said["text"])[:_MOST_TEXT],
                int(said["orientation"]) if 1 <= int(said["orientation"]) <= 8 else 1,
                str(said["axes"])[:20],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: cannot be read: its reader sent nonsense") from error
        if min(pages, y, x, *samples) < 1 or found.samples > _MOST_SAMPLES:
            raise FileError(f"{path}: impossible sizes: {pages} pages of {y} x {x} pixels of {found.samples} samples")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, Y, X) or (P, Y, X, S)."""
        return (self.pages, *self.size_yx, *([self.samples] if self.samples else []))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _one_of(value: object, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"none of {known}: {value!r}")
    return str(value)


def _colour(value: Any) -> Colour:
    red, green, blue = (int(v) for v in value)
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"not a colour: {value!r}")
    return red, green, blue


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    one, two = (float(v) for v in value)
    return (one, two) if all(math.isfinite(v) and v > 0 for v in (one, two)) else None
