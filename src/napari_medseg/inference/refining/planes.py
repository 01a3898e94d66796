"""Means of overlapping boxes, plane by plane: only planes that a box has touched and others may still touch are kept.

K: classes. Shares of a box are (K, z, y, x); a plane is (Y, X).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3

Floats = npt.NDArray[np.float32]


class RollingMeans:
    """The sums of the boxes so far in the planes that are not final."""

    def __init__(self, classes: int, shape: Shape3) -> None:
        self._classes = classes
        self._shape = shape
        self._planes: dict[int, tuple[Floats, npt.NDArray[np.int32]]] = {}
        """Per plane the sums (K, Y, X), and of how many boxes."""

    def add(self, box: Box, shares: Floats) -> None:
        """Add the shares of a box, of which a part may lie behind the end of the image."""
        _, height, width = self._shape
        rows, columns = slice(box[1].start, min(box[1].stop, height)), slice(box[2].start, min(box[2].stop, width))
        for z in range(box[0].start, min(box[0].stop, self._shape[0])):
            sums, counts = self._planes.setdefault(z, self._empty())
            part = shares[:, z - box[0].start, : rows.stop - rows.start, : columns.stop - columns.start]
            sums[:, rows, columns] += part
            counts[rows, columns] += 1

    def take(self, z: int, given: npt.NDArray[np.integer[Any]], ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The labels of a plane, which is final and forgotten: of the largest mean where boxes lie, else as given.

        ids: of the classes, the background first. Voxels of other labels stay.
        """
        if z not in self._planes:
            return given
        sums, counts = self._planes.pop(z)
        decided = (counts > 0) & np.isin(given, ids)
        dtype = np.promote_types(given.dtype, np.min_scalar_type(int(ids.max())))
        return np.where(decided, ids[sums.argmax(0)], given).astype(dtype)

    def _empty(self) -> tuple[Floats, npt.NDArray[np.int32]]:
        _, height, width = self._shape
        return np.zeros((self._classes, height, width), np.float32), np.zeros((height, width), np.int32)
