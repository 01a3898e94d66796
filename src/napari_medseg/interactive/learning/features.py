"""What a voxel looks like at several scales: the features that a classifier of voxels learns from.

Shapes: features are (F, Z, Y, X) float32. Per channel they are the intensity, and for each scale the smoothed
intensity, the length of its gradient, and the three eigenvalues of its Hessian, ascending. Millimetres make them the
same in volumes of any spacing. A box has the same features as that part of the whole volume, to the last bit.

Sources: the features of ilastik (Berg et al., Nature Methods 2019); eigenvalues by Smith (CACM 4, 1961).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, first_of, with_margin, within
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive.kernels import Map, compiled
from napari_medseg.volume import Grid, LazyArray, Volume

SCALES = (0.7, 1.5, 3.0)
"""The usual scales: sigmas of a Gaussian, in the smallest spacings of a volume."""
_TRUNCATE = 3.0
"""Where the Gaussian ends, in sigmas."""
OF_A_SCALE = 5
"""Features of a channel at a scale."""


def usual_scales_mm(grid: Grid) -> tuple[float, ...]:
    """The scales for a volume, in mm."""
    spacings = [s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1] or list(grid.spacing)
    return tuple(scale * min(spacings) for scale in SCALES)


def halo(shape: Shape3, spacing: Triple, scales_mm: Sequence[float]) -> Shape3:
    """How far around a voxel, in voxels (z, y, x), its features look."""
    widest = max(scales_mm, default=0.0)
    z, y, x = (int(_TRUNCATE * widest / s + 0.5) + 1 if n > 1 else 0 for n, s in zip(shape, spacing, strict=True))
    return z, y, x


def features(volume: Volume, box: Box, scales_mm: Sequence[float]) -> Map:
    """(F, Z, Y, X) the features of the voxels of a box. Values that are no finite numbers count as 0."""
    shape, spacing = volume.grid.shape, volume.grid.spacing
    around = halo(shape, spacing, scales_mm)
    read = with_margin(box, shape, around)
    inner = within(box, read)
    low, size = first_of(inner), [side.stop - side.start for side in inner]
    channels = _read(volume.data, read)
    of_channel = 1 + OF_A_SCALE * len(scales_mm)
    found = np.empty((len(channels) * of_channel, *size), np.float32)  # filled in place: it may be most of the memory
    for channel, out in zip(channels, found.reshape(len(channels), of_channel, *size), strict=True):
        out[0] = channel[inner]
        for k, scale in enumerate(scales_mm):
            sigmas = [scale / s if n > 1 else 0.0 for n, s in zip(shape, spacing, strict=True)]
            smooth = ndimage.gaussian_filter(channel, sigmas, mode="nearest", truncate=_TRUNCATE)
            own = out[1 + OF_A_SCALE * k : 1 + OF_A_SCALE * (k + 1)]
            own[0] = smooth[inner]
            _derivatives(smooth, np.array(low), np.array(spacing), own[1:])
    return found


def _read(data: LazyArray, box: Box) -> Map:
    """(C, Z, Y, X) float32, finite."""
    with np.errstate(over="ignore"):
        values = np.asarray(data[(slice(None), *box)]).astype(np.float32)
    values[~np.isfinite(values)] = 0
    return values


@compiled
def _derivatives(image: Map, low: npt.NDArray[np.int64], spacing: npt.NDArray[np.float64], out: Map) -> None:
    """Fill `out` (4, z, y, x): the length of the gradient and the eigenvalues of the Hessian in a part of an image.

    Differences are central, per mm; the outermost voxels go on.
    """
    nz, ny, nx = image.shape
    per_z, per_y, per_x = 1 / spacing[0], 1 / spacing[1], 1 / spacing[2]
    for a in range(out.shape[1]):
        z = a + low[0]
        u, d = max(z - 1, 0), min(z + 1, nz - 1)
        for b in range(out.shape[2]):
            y = b + low[1]
            n, s = max(y - 1, 0), min(y + 1, ny - 1)
            for c in range(out.shape[3]):
                x = c + low[2]
                w, e = max(x - 1, 0), min(x + 1, nx - 1)
                twice = 2.0 * image[z, y, x]
                dz = (image[d, y, x] - image[u, y, x]) * (0.5 * per_z)
                dy = (image[z, s, x] - image[z, n, x]) * (0.5 * per_y)
                dx = (image[z, y, e] - image[z, y, w]) * (0.5 * per_x)
                zz = (image[d, y, x] - twice + image[u, y, x]) * (per_z * per_z)
                yy = (image[z, s, x] - twice + image[z, n, x]) * (per_y * per_y)
                xx = (image[z, y, e] - twice + image[z, y, w]) * (per_x * per_x)
                zy = (image[d, s, x] - image[d, n, x] - image[u, s, x] + image[u, n, x]) * (0.25 * per_z * per_y)
                zx = (image[d, y, e] - image[d, y, w] - image[u, y, e] + image[u, y, w]) * (0.25 * per_z * per_x)
                yx = (image[z, s, e] - image[z, s, w] - image[z, n, e] + image[z, n, w]) * (0.25 * per_y * per_x)
                out[0, a, b, c] = math.sqrt(dz * dz + dy * dy + dx * dx)
                out[1, a, b, c], out[2, a, b, c], out[3, a, b, c] = _eigenvalues(zz, yy, xx, zy, zx, yx)


@compiled
def _eigenvalues(zz: float, yy: float, xx: float, zy: float, zx: float, yx: float) -> tuple[float, float, float]:
    """The eigenvalues of a symmetric matrix of 3 x 3, ascending."""
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    p = math.sqrt((a * a + b * b + c * c + 2 * (zy * zy + zx * zx + yx * yx)) / 6)
    if p < 1e-30:
        return mean, mean, mean
    determinant = a * (b * c - yx * yx) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    cosine = math.cos(math.acos(min(1.0, max(-1.0, determinant / (2 * p) / p / p))) / 3)
    largest = mean + 2 * p * cosine
    smallest = mean - p * (cosine + math.sqrt(3 * max(0.0, 1 - cosine * cosine)))  # the cosine a third of a turn on
    return smallest, 3 * mean - largest - smallest, largest
