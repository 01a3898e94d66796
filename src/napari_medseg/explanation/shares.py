"""How much of a voxel's blended logit comes from each window that holds it. Pure index code.

The score of a label is that of the blended logits. Its derivative is the sum of the windows' own, each weighted by its
share: the maps of windows add up, without seams where windows meet.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from napari_medseg.geometry import Shape3
from napari_medseg.inference.windows import Windows


class Shares:
    """The share of a window at each of its voxels; those of all windows at a voxel sum up to one."""

    def __init__(self, windows: Windows) -> None:
        self._window = windows.window
        self._weight = torch.from_numpy(windows.weight)
        self._corners = {z: corners for z, _, corners in windows.rows() if corners}
        self._inside = [slice(b, b + n) for b, n in zip(windows.pad_before, windows.shape, strict=True)]
        self._of = functools.lru_cache(maxsize=64)(self._share)

    def at(self, corner: Shape3) -> Tensor:
        """The shares (z, y, x) of the window at this corner (padded); 0 outside of the image."""
        z, y, x = corner
        depth, height, width = self._window
        neighbours = frozenset(
            (below - z, b - y, a - x)
            for below, corners in self._corners.items()
            if abs(below - z) < depth
            for b, a in corners
            if abs(b - y) < height and abs(a - x) < width
        )
        found = self._of(neighbours).clone()
        for axis, (side, start, n) in enumerate(zip(self._inside, corner, self._window, strict=True)):
            found.narrow(axis, 0, min(n, max(0, side.start - start))).zero_()
            beyond = min(n, max(0, start + n - side.stop))
            found.narrow(axis, n - beyond, beyond).zero_()
        return found

    def _share(self, neighbours: frozenset[Shape3]) -> Tensor:
        total = torch.zeros(self._window)
        for offset in sorted(neighbours):
            here = tuple(slice(max(0, o), min(n, n + o)) for o, n in zip(offset, self._window, strict=True))
            there = tuple(slice(max(0, -o), min(n, n - o)) for o, n in zip(offset, self._window, strict=True))
            total[here] += self._weight[there]
        return self._weight / total
