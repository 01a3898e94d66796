"""Where the windows lie and how much each of their voxels counts. Pure index code.

Positions depend on the volume's shape and the model only, so that any partition of the work gives the same labels.
They are those of MONAI's `sliding_window_inference`, the peer that tests compare the labels with.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3, triple_of

_DEVIATION = 0.125
"""Of the Gaussian, as a fraction of the window's size."""
_LEAST_OF_NNUNET = 6e-9
_LEAST_WEIGHT = 1e-3
"""A voxel in a window's corner counts this much at least: where no other window lies, it is all there is."""


def starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis of `size` >= `window`; the last window ends with the axis."""
    if size == window:
        return [0]
    step = max(1, int(window * (1 - overlap)))  # rounded down, as MONAI does: the overlap is at least what was asked
    count = -(-(size - window) // step) + 1
    return [min(i * step, size - window) for i in range(count)]


def even_starts(size: int, window: int, overlap: float) -> list[int]:
    """As `starts`, with the windows at equal distances; they overlap by at least as much. As nnU-Net places them."""
    if size == window:
        return [0]
    step = max(1, window * (1 - overlap))  # below 1, as of windows of one plane, windows would begin at one voxel
    count = math.ceil((size - window) / step) + 1
    return [round((size - window) * i / (count - 1)) for i in range(count)]


def gaussian(window: Shape3, *, as_nnunet: bool = False) -> npt.NDArray[np.float32]:
    """The weight (z, y, x) of a window's voxels: a Gaussian around its centre, at least 0.001.

    as_nnunet: around the voxel behind the centre of an even size, and without a least weight that matters. Source:
    Isensee et al., Nature Methods 2021.
    """
    axes = []  # float32 from the start, as MONAI computes it
    for n in window:
        distance = np.arange(n, dtype=np.float32) - np.float32(n // 2 if as_nnunet else (n - 1) / 2)
        axes.append(np.exp(distance**2 / np.float32(-2 * (n * _DEVIATION) ** 2), dtype=np.float32))
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    floor = np.float32(max(float(weight.min()), _LEAST_OF_NNUNET if as_nnunet else _LEAST_WEIGHT))
    return np.asarray(np.maximum(weight, floor))


Placing = Literal["monai", "even", "nnunet"]
"""monai: the last window along an axis ends with the image; even: at equal distances; nnunet: even, with its weight."""
Row = tuple[int, int, list[tuple[int, int]]]
"""Windows that begin with the same plane: (that plane, the plane before which all is final once they are done, their
(y, x) starts)."""


@dataclass(frozen=True)
class Windows(ABC):
    """Windows over an image of `shape`; an image smaller than the window is padded evenly on both sides."""

    shape: Shape3
    window: Shape3
    overlap: float

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The windows by their first plane, ascending; no two rows are further apart than a window is deep.

        A row may have no windows: it only says that planes are final.
        """

    @abstractmethod
    def __len__(self) -> int:
        """How many windows there are."""

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """How much each voxel (z, y, x) of a window counts."""
        return gaussian(self.window)

    @property
    def padded(self) -> Shape3:
        """The image's shape, and at least that of a window."""
        return triple_of(max(n, w) for n, w in zip(self.shape, self.window, strict=True))

    @property
    def pad_before(self) -> Shape3:
        """Voxels of padding before the image, along each axis; behind it there is one more where the sum is odd."""
        return triple_of((p - n) // 2 for p, n in zip(self.padded, self.shape, strict=True))


@dataclass(frozen=True)
class WindowGrid(Windows):
    """Windows everywhere."""

    placing: Placing = "monai"

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        return gaussian(self.window, as_nnunet=self.placing == "nnunet")

    @property
    def starts_zyx(self) -> tuple[list[int], list[int], list[int]]:
        """First voxels of the windows along each axis, in the padded image."""
        along = starts if self.placing == "monai" else even_starts
        return triple_of(along(n, w, self.overlap) for n, w in zip(self.padded, self.window, strict=True))

    def mirrored_in_turn(self, corner: Shape3, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the axes along which the window at this corner is mirrored: every second one along each."""
        return tuple(axis for axis in axes if self.starts_zyx[axis].index(corner[axis]) % 2)

    def __len__(self) -> int:
        z, y, x = self.starts_zyx
        return len(z) * len(y) * len(x)

    def rows(self) -> Iterator[Row]:
        z_starts, y_starts, x_starts = self.starts_zyx
        for z, following in zip(z_starts, [*z_starts[1:], self.padded[0]], strict=True):
            yield z, following, list(itertools.product(y_starts, x_starts))


@dataclass(frozen=True)
class BoxWindows(Windows):
    """Windows over some boxes only, each box in the middle of its windows.

    There are never more windows than over the whole image. Many small boxes could need more: then the windows are those
    of the whole image that touch a box.
    """

    boxes: tuple[Box, ...]
    """In voxels of the image."""

    @cached_property
    def _corners(self) -> dict[int, list[tuple[int, int]]]:
        """The (y, x) starts by the z start, ascending."""
        everywhere = WindowGrid(self.shape, self.window, self.overlap)
        centred = self._corners_of(self._starts)
        if sum(map(len, centred.values())) <= len(everywhere):
            return centred
        axes = everywhere.starts_zyx
        return self._corners_of(lambda axis, side: [s for s in axes[axis] if self._touches(axis, s, side)])

    def _corners_of(self, starts_of: Callable[[int, slice], list[int]]) -> dict[int, list[tuple[int, int]]]:
        corners: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for box in self.boxes:
            z_starts, y_starts, x_starts = (starts_of(axis, side) for axis, side in enumerate(box))
            for z in z_starts:
                corners[z].update(itertools.product(y_starts, x_starts))
        return {z: sorted(corners[z]) for z in sorted(corners)}

    def _touches(self, axis: int, start: int, side: slice) -> bool:
        """Whether the window from `start` (padded) on reaches into one side of a box."""
        low, high = (int(self.pad_before[axis] + end) for end in (side.start, side.stop))
        return start < high and start + self.window[axis] > low

    def _starts(self, axis: int, side: slice) -> list[int]:
        """First voxels (padded) of the windows that cover one side of a box."""
        window, before, size = self.window[axis], self.pad_before[axis], self.padded[axis]
        covered = max(window, side.stop - side.start)
        # Centred, because a network sees best what lies in the middle of its window; moved inwards at the image's edge.
        first = before + (side.start + side.stop - covered) // 2
        first = min(max(0, first), size - covered)
        return [first + s for s in starts(covered, window, self.overlap)]

    def __len__(self) -> int:
        return sum(map(len, self._corners.values()))

    def rows(self) -> Iterator[Row]:
        corners = self._corners
        stops = [*corners, self.padded[0]]
        # The accumulator holds one window's depth: planes between the boxes become final in steps of that depth.
        yield from self._empty(0, stops[0])
        for z, following in itertools.pairwise(stops):
            reach = min(following, z + self.window[0])
            yield z, reach, corners[z]
            yield from self._empty(reach, following)

    def _empty(self, start: int, stop: int) -> Iterator[Row]:
        """Rows without windows that pass the planes [start, stop)."""
        for z in range(start, stop, self.window[0]):
            yield z, min(stop, z + self.window[0]), []
