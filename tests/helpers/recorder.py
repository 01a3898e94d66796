"""An array that remembers how much of it was read or written at once, for tests of what streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Recorder:
    """A lazy array in chunks that remembers the largest box that was read or written, in voxels."""

    def __init__(self, data: npt.NDArray[Any], chunks: tuple[int, ...] = (4, 8, 8)) -> None:
        self.data, self.shape, self.dtype, self.chunks = data, data.shape, data.dtype, chunks
        self.ndim = data.ndim
        self.largest = 0

    def __getitem__(self, box: Any) -> npt.NDArray[Any]:
        found = np.array(self.data[box])
        self.largest = max(self.largest, found.size)
        return found

    def __setitem__(self, box: Any, values: Any) -> None:
        self.largest = max(self.largest, self.data[box].size)
        self.data[box] = values
