"""Where the pixels of a 2D image lie: how large they are, and how the picture is turned."""

from __future__ import annotations

import json
import math

import numpy as np

from napari_medseg.io.raster.facts import Facts
from napari_medseg.volume import Grid

SPACING_KEY = "spacing_yx_mm"
"""The key, in our text, of the exact size of a pixel: the formats' own fields round it."""
_NOT_STATED = "the file does not say how large a pixel is: lengths are in pixels, where other images have mm"
_TURNS = {
    # (rows, columns) of the stored picture, each as (y, x) of the upright one
    1: ((1, 0), (0, 1)),
    2: ((1, 0), (0, -1)),
    3: ((-1, 0), (0, -1)),
    4: ((-1, 0), (0, 1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}
"""{orientation of Exif and TIFF: the directions in which stored rows and columns follow each other}."""


def spacing(facts: Facts) -> tuple[float, float] | None:
    """(y, x) in mm as stored, exact where we wrote the file; None where the file states nothing to believe."""
    return _of_our_text(facts) or facts.spacing_yx_mm


def _of_our_text(facts: Facts) -> tuple[float, float] | None:
    try:
        content = json.loads(facts.text)
        y, x = (float(v) for v in content[SPACING_KEY])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (y, x) if all(math.isfinite(v) and v > 0 for v in (y, x)) else None


def notes(facts: Facts) -> tuple[str, ...]:
    """What the file does not say of the size of a pixel, or says in dots per inch."""
    dpi = f"{facts.dpi[0]:.4g} dots per inch" if facts.dpi else ""
    found = spacing(facts)
    if found is None:
        return (_NOT_STATED, *([f"its {dpi} are those of a screen or a printer, and are not taken"] if dpi else []))
    if dpi and not _of_our_text(facts):
        return (f"a pixel is {found[1]:.4g} mm wide by the {dpi} that the file states: check that no printer is meant",)
    return ()


def grid(shape_yx: tuple[int, ...], spacing_yx_mm: tuple[float, float] | None, orientation: int) -> Grid:
    """The grid of a slice: upright, rows run to P and columns to L from the origin on."""
    y, x = int(shape_yx[-2]), int(shape_yx[-1])
    rows, columns = np.array(_TURNS[orientation], float)
    steps = spacing_yx_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[1:3, 1] = rows * steps[0]
    affine[1:3, 2] = columns * steps[1]
    # The first pixel of the upright picture lies at the origin.
    ends = [affine[1:3, 1] * a * (y - 1) + affine[1:3, 2] * b * (x - 1) for a in (0, 1) for b in (0, 1)]
    affine[1:3, 3] = -np.min(ends, axis=0) + 0.0
    return Grid((1, y, x), affine, in_pixels=spacing_yx_mm is None)
