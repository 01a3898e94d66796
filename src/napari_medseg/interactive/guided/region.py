"""What the memory network sees of a volume: a square around the annotated slices' object, in the network's size.

Slices lie along the first axis here: planes (Z, Y, X) of a volume whose annotated axis was moved to the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

MARGIN = 0.75
"""Of the object's extent, added to each side of the square: what is between the references may lie beside them."""
_LEAST_MARGIN = 8
"""In voxels of the finer spacing."""


@dataclass(frozen=True)
class Square:
    """A square of the slices, in mm, that `size` x `size` samples see. Voxel centres lie at index * spacing."""

    centre_mm: tuple[float, float]
    side_mm: float
    size: int
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    """Of a slice, in voxels."""

    @classmethod
    def around(
        cls, object_: npt.NDArray[np.bool_], spacing_mm: tuple[float, float], size: int, margin: float = MARGIN
    ) -> Square:
        """The square around what the slices hold, all together. object_: (Y, X), with a voxel at least."""
        low, high = np.argwhere(object_).min(axis=0), np.argwhere(object_).max(axis=0)
        extent = float(((high - low + 1) * spacing_mm).max())
        side = extent + 2 * max(margin * extent, _LEAST_MARGIN * min(spacing_mm))
        middle = ((low + high) / 2 * spacing_mm).tolist()
        rows, columns = object_.shape
        return cls((middle[0], middle[1]), side, size, spacing_mm, (rows, columns))

    def cut(self, planes: Tensor) -> Tensor:
        """(Z, Y, X) float32 -> (Z, size, size), linear; beyond the volume its border goes on."""
        places = [(torch.arange(self.size) + 0.5) / self.size * self.side_mm + c - self.side_mm / 2 for c in self.centre_mm]
        indices = [place / s for place, s in zip(places, self.spacing_mm, strict=True)]
        return _sampled(planes, [2 * i / max(1, n - 1) - 1 for i, n in zip(indices, self.shape, strict=True)], "border")

    def paste(self, samples: Tensor) -> Tensor:
        """(Z, size, size) -> (Z, Y, X), linear; nothing beyond the square."""
        places = [torch.arange(n) * s - c for n, s, c in zip(self.shape, self.spacing_mm, self.centre_mm, strict=True)]
        unit = 2 / self.side_mm * self.size / max(1, self.size - 1)
        return _sampled(samples, [place * unit for place in places], "zeros")


def normalised(planes: npt.NDArray[np.generic], references: Sequence[int]) -> Tensor:
    """(Z, Y, X) -> float32, by mean and deviation of the annotated slices; what is not finite is 0."""
    values = torch.from_numpy(np.nan_to_num(np.asarray(planes, np.float32), nan=0.0, posinf=0.0, neginf=0.0))
    seen = values[list(references)]
    low, high = np.percentile(seen.numpy(), (0.5, 99.5))
    seen = seen.clamp(float(low), float(high))
    return ((values.clamp(float(low), float(high)) - seen.mean()) / (seen.std() + 1e-6)).clamp(-5, 5)


def _sampled(planes: Tensor, places: Sequence[Tensor], beyond: str) -> Tensor:
    """(Z, Y, X) at rows and columns from -1 (centre of the first voxel) to 1 (of the last)."""
    rows, columns = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack((columns, rows), dim=-1)[None].float()
    return grid_sample(planes[None].float(), grid, mode="bilinear", padding_mode=beyond, align_corners=True)[0]
