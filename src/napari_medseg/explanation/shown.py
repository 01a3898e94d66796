"""How a map is shown: between which values its colours lie, and where that of a large image is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from napari_medseg.explanation.methods import METHODS
from napari_medseg.inference.runs.live import is_large
from napari_medseg.volume import Volume

_LOOKED = 2_000_000
"""About the most voxels that are looked at."""
_BRIGHTEST = 99.8
"""Percentile of the values from which on all have the brightest colour: single voxels would leave the rest dark."""


def limits_of(heat: Volume) -> tuple[float, float]:
    """The values of the first and the last colour of a map: from 0, or for a signed one the same on both sides of 0."""
    step = max(1, int(np.ceil((np.prod(heat.grid.shape) / _LOOKED) ** (1 / 3))))
    values = np.abs(np.asarray(heat.data[0, ::step, ::step, ::step]))
    values = values[values > 0]
    high = float(np.percentile(values, _BRIGHTEST)) if values.size else 1.0
    signed = METHODS[str(heat.provenance["method"])].signed
    return (-high if signed else 0.0), high


def store_for(volume: Volume, method: str) -> Path | None:
    """Where the map of a large image goes, among temporary files; None for an image whose map fits into memory."""
    if not is_large(volume):
        return None
    folder = Path(tempfile.mkdtemp(prefix="napari-medseg-"))
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{volume.name}-{method}")
    return folder / f"{stem}.zarr"
