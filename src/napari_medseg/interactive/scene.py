"""The surroundings of a prompt: a small cube of voxels of equal size, sampled from a volume of any size.

Shapes: a scene's image is (C, Z, Y, X) float32, in units of the image's noise. "Millimetres along the stored axes"
count from the outer face of the first voxel: oblique grids need nothing else, since their axes stand at right angles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive.kernels import Map, Mask
from napari_medseg.volume import LazyArray, Volume

SMOOTHING_VOXELS = 0.7
"""Gaussian sigma, in voxels of the scene, before anything is measured."""
_PREFILTER = 0.35
"""Gaussian sigma, in voxels of the scene, before sampling at wider steps: else fine texture becomes noise."""
_MOST_SAMPLES = 3
"""Of the stored array that are read for one voxel of a scene, along each axis: at wider steps every k-th is read."""
_SLAB_VOXELS = 1 << 25
"""Of the stored array that are read at once: views that cannot skip voxels hold all of them."""
_LEAST_NOISE = 0.03
"""Of a z-scored image; what is smoother (a phantom) would make every step a wall."""


@dataclass(frozen=True)
class Frame:
    """A box of cubic voxels in a volume, along its stored axes."""

    low_mm: Triple
    """Its corner, in millimetres along the stored axes (z, y, x)."""
    step_mm: float
    shape: Shape3

    @classmethod
    def around(cls, centre_mm: Triple, step_mm: float, shape: Shape3) -> Frame:
        z, y, x = (c - n / 2 * step_mm for c, n in zip(centre_mm, shape, strict=True))
        return cls((z, y, x), step_mm, shape)

    def widened(self, factor: float) -> Frame:
        """The frame around the same centre, with larger voxels."""
        z, y, x = (low + n / 2 * self.step_mm for low, n in zip(self.low_mm, self.shape, strict=True))
        return Frame.around((z, y, x), self.step_mm * factor, self.shape)

    def places(self, voxels: npt.NDArray[np.int64], spacing: Triple) -> npt.NDArray[np.int64]:
        """(n, 3) voxels of the volume as voxels of the frame, those inside only, each once and in order."""
        return np.unique(self.hits(voxels, spacing), axis=0)

    def hits(self, voxels: npt.NDArray[np.int64], spacing: Triple) -> npt.NDArray[np.int64]:
        """As `places`, one for each voxel of the volume that lies inside."""
        mm = (voxels + 0.5) * np.asarray(spacing)
        inner = np.floor((mm - self.low_mm) / self.step_mm).astype(np.int64)
        inside = ((inner >= 0) & (inner < self.shape)).all(axis=1)
        hits: npt.NDArray[np.int64] = inner[inside]
        return hits

    def samples(self, axis: int, spacing: Triple) -> npt.NDArray[np.float64]:
        """Where the frame's voxels lie along an axis, in (fractional) voxels of the volume."""
        centres_mm = self.low_mm[axis] + (np.arange(self.shape[axis], dtype=np.float64) + 0.5) * self.step_mm
        at: npt.NDArray[np.float64] = centres_mm / spacing[axis] - 0.5
        return at

    def box(self, shape: Shape3, spacing: Triple) -> Box:
        """The voxels of the volume whose centres lie in the frame."""
        sides = []
        for axis in range(3):
            low = math.ceil(self.low_mm[axis] / spacing[axis] - 0.5)
            high = math.floor((self.low_mm[axis] + self.shape[axis] * self.step_mm) / spacing[axis] - 0.5) + 1
            sides.append(slice(max(0, min(low, shape[axis])), max(0, min(high, shape[axis]))))
        return sides[0], sides[1], sides[2]


@dataclass(frozen=True, eq=False)
class Scene:
    """What the engine sees: a frame, its image, and where the volume ends."""

    frame: Frame
    image: Map
    """(C, Z, Y, X), smoothed, in units of its noise; outside of the volume its outermost voxels go on."""
    inside: Mask
    """Which voxels lie in the volume: the rest is a barrier."""

    @classmethod
    def of(cls, volume: Volume, frame: Frame) -> Scene:
        """The scene of a frame; only the voxels around it are read."""
        sampled, inside = sample(volume.data, volume.grid.spacing, frame)
        channels = [_in_units_of_noise(channel, inside) for channel in sampled]
        return cls(frame, np.stack(channels), inside)

    @property
    def is_flat(self) -> bool:
        """Whether the image shows nothing: it is constant, or not a number, wherever it lies in the volume."""
        return not bool(self.image.any())

    @cached_property
    def frame_faces(self) -> Mask:
        """The outermost voxels of the frame, where the volume goes on."""
        faces: Mask = _faces(self.inside.shape) & self.inside
        return faces

    @cached_property
    def volume_faces(self) -> Mask:
        """The outermost voxels of the volume that lie in the frame."""
        faces: Mask = self.inside & ~ndimage.binary_erosion(self.inside, border_value=1)
        return faces

    @cached_property
    def gradient(self) -> Map:
        """The largest gradient among the channels, in noise per voxel."""
        largest: Map = np.max(
            [ndimage.gaussian_gradient_magnitude(channel, SMOOTHING_VOXELS) for channel in self.image], axis=0
        )
        return largest


def sample(data: LazyArray, spacing: Triple, frame: Frame) -> tuple[Map, Mask]:
    """(C, Z, Y, X) nearest samples of the stored array at the frame's voxels, and which of them lie in the volume.

    Wide steps are smoothed over before. Outside of the volume its outermost voxels go on, and voxels that are no finite
    numbers (NaN) get the mean of the others; neither lies in the volume.
    """
    sides: list[slice] = []
    where: list[npt.NDArray[np.int64]] = []
    sigmas: list[float] = []
    inside = np.ones((1, 1, 1), dtype=bool)
    for axis in range(3):
        n = int(data.shape[1 + axis])
        at = frame.samples(axis, spacing)
        side, sigma = _seen(frame, axis, n, spacing)
        ratio = frame.step_mm / spacing[axis]
        # What the volume reaches into counts: else a coarse frame would lose the outermost slice, and prompts on it.
        axis_inside = (at + ratio / 2 > -0.5) & (at - ratio / 2 < n - 0.5)
        inside = inside & np.expand_dims(axis_inside, [a for a in range(3) if a != axis])
        sides.append(side)
        last = (side.stop - 1 - side.start) // side.step
        nearest = np.floor((at.clip(0, n - 1) - side.start) / side.step + 0.5)
        where.append(nearest.astype(np.int64).clip(0, last))
        sigmas.append(sigma / side.step)
    values = _read(data, sides)
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].mean() if finite.any() else 0
    for axis in range(3):
        if sigmas[axis]:
            values = ndimage.gaussian_filter1d(values, sigmas[axis], axis=1 + axis, mode="nearest")
        values = values.take(where[axis], 1 + axis)
        finite = finite.take(where[axis], 1 + axis)
    return values, np.broadcast_to(inside, frame.shape) & finite.all(axis=0)


def read_once(volume: Volume, frames: Sequence[Frame]) -> Volume:
    """The volume, what the frames see being in memory: frames around one place read the same chunks again and again.

    A volume in memory, or frames that see too much of it, leave it as it is.
    """
    sides = []
    for axis, n in enumerate(volume.grid.shape):
        seen = [_seen(frame, axis, n, volume.grid.spacing)[0] for frame in frames]
        sides.append(slice(min(side.start for side in seen), max(side.stop for side in seen)))
    voxels = len(volume.channels) * math.prod(side.stop - side.start for side in sides)
    if isinstance(volume.data, np.ndarray) or voxels > _SLAB_VOXELS:
        return volume
    held = np.asarray(volume.data[(slice(None), *sides)])
    return replace(volume, data=_Held(volume.data, (sides[0], sides[1], sides[2]), held))


@dataclass(frozen=True, eq=False)
class _Held:
    """A stored array (C, Z, Y, X) of which a box is in memory; slices that lie in it are not read."""

    stored: LazyArray
    box: Box
    values: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> Any:
        return self.stored.dtype

    def __getitem__(self, key: Any) -> Any:
        channels, *sides = key
        if any(side.start < held.start or side.stop > held.stop for side, held in zip(sides, self.box, strict=True)):
            return self.stored[key]
        inner = (
            slice(side.start - held.start, side.stop - held.start, side.step)
            for side, held in zip(sides, self.box, strict=True)
        )
        return self.values[(channels, *inner)]


def _seen(frame: Frame, axis: int, n: int, spacing: Triple) -> tuple[slice, float]:
    """(what of an axis of n voxels is read for a frame, the sigma that it is smoothed by), in voxels of the volume."""
    ratio = frame.step_mm / spacing[axis]
    stride = math.ceil(ratio / _MOST_SAMPLES)
    sigma = _PREFILTER * ratio if ratio > 1.3 else 0.0
    reach = math.ceil(3 * sigma) + stride
    at = frame.samples(axis, spacing).clip(0, n - 1)
    return slice(int(max(0, at.min() - reach)), int(min(n, at.max() + reach + 2)), stride), sigma


def _read(data: LazyArray, sides: Sequence[slice]) -> Map:
    """(C, Z, Y, X) the box of a stored array at its strides, as float32; large ones a slab of planes at a time."""
    z, y, x = sides
    planes = range(z.start, z.stop, z.step)
    plane_voxels = int(data.shape[0]) * (y.stop - y.start) * (x.stop - x.start)
    each = max(1, _SLAB_VOXELS // (plane_voxels * z.step))
    slabs = []
    for first in range(0, len(planes), each):
        part = planes[first : first + each]
        slab = np.asarray(data[:, part[0] : part[-1] + 1 : z.step, y, x])
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is left out as NaN is
            slabs.append(slab.astype(np.float32))
    return slabs[0] if len(slabs) == 1 else np.concatenate(slabs, axis=1)


def spread(values: Map, frame: Frame, box: Box, spacing: Triple) -> Map:
    """The frame's values at the voxels of a box of the volume: linear, the outermost ones carried on."""
    for axis in range(3):
        centres_mm = (np.arange(box[axis].start, box[axis].stop) + 0.5) * spacing[axis]
        at = (centres_mm - frame.low_mm[axis]) / frame.step_mm - 0.5
        values = _linear(values, at.clip(0, frame.shape[axis] - 1), axis)
    return values


def _linear(values: Map, at: npt.NDArray[np.float64], axis: int) -> Map:
    """Values at fractional indices along an axis."""
    n = values.shape[axis]
    first = np.floor(at).astype(np.int64).clip(0, max(0, n - 2))
    weight = (at - first).astype(np.float32)
    weight = np.expand_dims(weight, [a for a in range(values.ndim) if a != axis])
    a, b = values.take(first, axis), values.take((first + 1).clip(0, n - 1), axis)
    mixed: Map = a + weight * (b - a)
    return mixed


def _in_units_of_noise(channel: Map, inside: Mask) -> Map:
    """z-scored inside of the volume, smoothed, and divided by the median difference of neighbours."""
    values = channel[inside]
    if not len(values) or values.min() == values.max():
        return np.zeros_like(channel)
    mean, spread_of = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    scored = (channel - np.float32(mean)) / np.float32(spread_of)
    smooth = ndimage.gaussian_filter(scored, SMOOTHING_VOXELS, mode="nearest")
    differences = np.concatenate([_differences(smooth, inside, axis) for axis in range(3)])
    noise = max(1e-3, 1.05 * float(np.median(differences))) + _LEAST_NOISE
    scaled: Map = (smooth / np.float32(noise)).astype(np.float32)
    return scaled


def _differences(values: Map, inside: Mask, axis: int) -> Map:
    """(n,) how far neighbours along an axis are apart, where both lie in the volume."""
    a, b = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
    apart: Map = np.abs(values[a] - values[b])[inside[a] & inside[b]]
    return apart


def _faces(shape: tuple[int, ...]) -> Mask:
    """The outermost voxels; of an axis of one voxel, as of a 2D image, neither side is one."""
    faces = np.zeros(shape, dtype=bool)
    for axis, n in enumerate(shape):
        if n > 1:
            for index in (0, n - 1):
                faces[tuple(index if a == axis else slice(None) for a in range(3))] = True
    return faces
