"""What the memory network sees of a volume: a square around the annotated slices' object, in the network's size.

Planes are (Z, Y, X) of a volume whose annotated axis was moved to the front.
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
_HALF = 0.5
_CLIPPED_PERCENT = (0.5, 99.5)
"""Percentiles of the annotated slices that intensities are clipped to."""


@dataclass(frozen=True)
class Square:
    """A square of the slices, in mm, that `size` x `size` samples see."""

    box: tuple[slice, slice]
    """Rows and columns of a slice that the square can reach."""
    spacing_mm: tuple[float, float]
    low_mm: tuple[float, float]
    """Its low corner, from the centre of the first voxel of the box."""
    side_mm: float
    size: int

    @classmethod
    def around(
        cls, object_: npt.NDArray[np.bool_], spacing_mm: tuple[float, float], size: int, margin: float = MARGIN
    ) -> Square:
        """The square around what the slices hold, all together. object_: (Y, X), with a voxel at least."""
        first, last = np.argwhere(object_).min(axis=0), np.argwhere(object_).max(axis=0)
        extent = float(((last - first + 1) * spacing_mm).max())
        side = extent + 2 * max(margin * extent, _LEAST_MARGIN * min(spacing_mm))
        low = ((first + last) / 2 * spacing_mm) - side / 2
        starts = [max(0, int(a // s)) for a, s in zip(low, spacing_mm, strict=True)]
        stops = [int((a + side) // s) + 2 for a, s in zip(low, spacing_mm, strict=True)]
        rows, columns = (slice(a, min(b, n)) for a, b, n in zip(starts, stops, object_.shape, strict=True))
        corner = [float(a - k * s) for a, k, s in zip(low, starts, spacing_mm, strict=True)]
        return cls((rows, columns), spacing_mm, (corner[0], corner[1]), side, size)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the box."""
        rows, columns = self.box
        return rows.stop - rows.start, columns.stop - columns.start

    def cut(self, planes: Tensor) -> Tensor:
        """(Z, *shape) -> (Z, size, size) float32, linear; beyond the volume its border goes on."""
        return _sampled(planes, self._indices, "border")

    def cut_masks(self, masks: Tensor) -> Tensor:
        """The same of masks, at a half; an object ends with the volume, or it would go on as stripes."""
        return (_sampled(masks, self._indices, "zeros") > _HALF).float()

    @property
    def _indices(self) -> list[Tensor]:
        """Rows and columns of the samples, in voxels."""
        samples = (torch.arange(self.size) + 0.5) / self.size * self.side_mm
        return [(samples + a) / s for a, s in zip(self.low_mm, self.spacing_mm, strict=True)]

    def paste(self, samples: Tensor) -> Tensor:
        """(Z, size, size) -> (Z, *shape), linear; nothing beyond the square."""
        places = [torch.arange(n) * s - a for n, s, a in zip(self.shape, self.spacing_mm, self.low_mm, strict=True)]
        return _sampled(samples, [place / self.side_mm * self.size - 0.5 for place in places], "zeros")


def normalised(planes: npt.NDArray[np.generic], references: Sequence[int]) -> Tensor:
    """(Z, Y, X) -> float32, by mean and deviation of the annotated slices, -5 to 5; what is not finite is 0."""
    values = torch.from_numpy(np.nan_to_num(np.asarray(planes, np.float32), nan=0.0, posinf=0.0, neginf=0.0))
    low, high = np.percentile(values[list(references)].numpy(), _CLIPPED_PERCENT)
    values = values.clamp(float(low), float(high))
    seen = values[list(references)]
    return ((values - seen.mean()) / (seen.std() + 1e-6)).clamp(-5, 5)


def _sampled(planes: Tensor, indices: Sequence[Tensor], beyond: str) -> Tensor:
    """(Z, Y, X) at rows and columns, in fractions of voxels."""
    scaled = [2 * i / max(1, n - 1) - 1 for i, n in zip(indices, planes.shape[1:], strict=True)]
    rows, columns = torch.meshgrid(*scaled, indexing="ij")
    grid = torch.stack((columns, rows), dim=-1)[None].float()
    return grid_sample(planes[None].float(), grid, mode="bilinear", padding_mode=beyond, align_corners=True)[0]
