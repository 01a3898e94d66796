"""Whether a model was made for an image: a few of its values and its grid against the model's training record. Pure.

A model without a record (an older file, or another program's) is judged by its normalisation, spacing and patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import chunk_edges
from napari_medseg.errors import InputError
from napari_medseg.geometry import Triple, triple_of
from napari_medseg.inference.plan import axis_order
from napari_medseg.inference.source.absent import require_absent
from napari_medseg.transforms.intensity import CT_BELOW_HU, as_float32
from napari_medseg.volume import Grid, LazyArray, Outline, Volume

if TYPE_CHECKING:
    from napari_medseg.models.spec import ModelSpec

PERCENTILES = (1.0, 99.0)
"""The percentiles of an image's values between which its range lies."""
_PER_AXIS = 32
"""Samples along each axis of an array in memory."""
_CHUNK_EDGE = 64
"""Most samples along each axis of a chunk on the disk."""
_SPACING_FACTOR = 3.0
"""How much finer or coarser than the training images an image may be."""
_LEAST_OVERLAP = 0.1
"""Share of the narrower of two intensity ranges that must lie in the other."""
_WIDER = 20.0
"""How many times wider or narrower than that of the training images an intensity range may be."""
_LEAST_OF_PATCH = 0.25
"""Share of the patch, in mm3, that an image must fill."""
_LEAST_EXTENT = 0.5
"""Share of the smallest training image, along each axis, that an image must extend over."""


@dataclass(frozen=True)
class Range:
    """The values of a channel, from a sample."""

    lowest: float
    low: float
    high: float
    """`low` and `high` are at the PERCENTILES."""

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> Range:
        """The range of some values, of any shape; those that are not finite count as 0."""
        found = as_float32(values)
        low, high = np.percentile(found, PERCENTILES).tolist()
        return cls(float(found.min()), low, high)


@dataclass(frozen=True, eq=False)
class ImageSample:
    """What is compared of an image."""

    grid: Grid
    channels: tuple[str, ...]
    ranges: tuple[Range | None, ...]
    """Per channel; None where no value was looked at."""

    @classmethod
    def of(cls, volume: Volume, spec: ModelSpec) -> ImageSample:
        """A sample of a volume: of an array in memory values all over it, of one on the disk three chunks.

        A channel on the disk that the model normalises by its own statistics is left out: its range says little, and
        each of its chunks is read once for them anyway.
        """
        in_memory = isinstance(volume.data, np.ndarray)
        wanted = [in_memory or rule.kind != "zscore" for rule in spec.normalisation]
        ranges = [_range(volume.data, c) if want else None for c, want in enumerate(wanted)]
        return cls(volume.grid, volume.channels, tuple(ranges))


def doubts_about(sample: ImageSample, spec: ModelSpec) -> list[str]:
    """One line for each sign that a model was not made for an image; empty where there is none."""
    order = axis_order(sample.grid, spec)
    grid = sample.grid.reordered(order)
    doubts = []
    for c, found in enumerate(sample.ranges):
        if found is not None:
            doubts += _of_channel(spec, c, found)
    doubts += [*_of_spacing(spec, grid), *_of_extent(spec, grid)]
    return doubts


def _range(data: LazyArray, channel: int) -> Range | None:
    """The range of a channel; None where its voxels cannot be read, which the run itself reports by their place."""
    try:
        return Range.of(sampled(data, channel))
    except (OSError, RuntimeError, ValueError):
        return None


def sampled(data: LazyArray, channel: int) -> npt.NDArray[np.generic]:
    """A few values of a channel of data (C, Z, Y, X)."""
    if isinstance(data, np.ndarray):
        z, y, x = (slice(None, None, max(1, n // _PER_AXIS)) for n in data.shape[1:])
        return np.asarray(data[channel, z, y, x])
    edges = [chunk_edges(data, axis) for axis in (1, 2, 3)]
    parts = []
    for place in (0.0, 0.5, 1.0):
        box = [slice(channel, channel + 1)]
        for ends in edges:
            k = round(place * (len(ends) - 1))
            start = 0 if k == 0 else ends[k - 1]
            box.append(slice(start, min(ends[k], start + _CHUNK_EDGE)))
        parts.append(np.asarray(data[tuple(box)]).ravel())
    return np.concatenate(parts)


def _of_channel(spec: ModelSpec, c: int, found: Range) -> list[str]:
    channel, rule = spec.channels[c], spec.normalisation[c]
    name = channel.name if channel.name.startswith("channel") else f"channel {channel.name}"
    looks_ct, is_ct = found.lowest <= CT_BELOW_HU, channel.modality == "CT"
    if is_ct and not looks_ct:
        return [
            f"{name} does not look like CT, which the model was made for: its lowest value is "
            f"{found.lowest:.4g}, and air is near -1000 in CT"
        ]
    if looks_ct and not is_ct:
        return [f"{name} looks like CT, which the model was not made for: its lowest value is {found.lowest:.4g}"]
    if rule.kind == "zscore":
        return []
    seen = spec.training.seen
    low, high = (rule.low, rule.high) if seen is None else seen.intensity[c]
    if low is None or high is None:
        return []
    shared = min(high, found.high) - max(low, found.low)
    widths = max(high - low, 1e-6), max(found.high - found.low, 1e-6)
    if shared >= _LEAST_OVERLAP * min(widths) and max(widths) <= _WIDER * min(widths):
        return []
    return [
        f"the intensities of {name} lie in {found.low:.4g} to {found.high:.4g}, those of the training "
        f"in {low:.4g} to {high:.4g}"
    ]


def _of_spacing(spec: ModelSpec, grid: Grid) -> list[str]:
    seen = spec.training.seen
    if seen is not None:
        lowest, highest = seen.spacing_zyx_mm
    elif spec.spacing_zyx_mm is not None:
        lowest = highest = spec.spacing_zyx_mm
    else:
        return []
    pairs = zip(grid.spacing, lowest, highest, strict=True)
    if all(low / _SPACING_FACTOR <= s <= high * _SPACING_FACTOR for s, low, high in pairs):
        return []
    seen_as = _mm(lowest) if lowest == highest else f"{_mm(lowest)} to {_mm(highest)}"
    return [f"the spacing is {_mm(grid.spacing)} mm (z, y, x), in the training it was {seen_as} mm"]


def _of_extent(spec: ModelSpec, grid: Grid) -> list[str]:
    extent = _extent(grid)
    spacing = spec.spacing_zyx_mm
    if spacing is not None:
        patch = np.array(spec.patch_zyx) * spacing
        across = 1 if spec.mode in ("2d", "2.5d") else 0  # slices are seen one by one
        share = float(np.prod(np.minimum(1.0, np.array(extent) / patch)[across:]))
        if share < _LEAST_OF_PATCH:
            return [
                f"it fills {100 * share:.2g} % of the model's patch: {_mm(extent)} mm (z, y, x) of "
                f"{_mm(triple_of(patch.tolist()))} mm"
            ]
    seen = spec.training.seen
    if seen is None or all(e >= _LEAST_EXTENT * least for e, least in zip(extent, seen.extent_zyx_mm, strict=True)):
        return []
    return [
        f"it extends over {_mm(extent)} mm (z, y, x), each image of the training over at least "
        f"{_mm(seen.extent_zyx_mm)} mm"
    ]


def _extent(grid: Grid) -> Triple:
    return triple_of(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))


def _mm(values: Triple) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def require_channels(volume: Volume | Outline, spec: ModelSpec, model_name: str, missing: Sequence[str] = ()) -> None:
    """Raise InputError unless the volume has the channels that the model was trained on, but for missing ones."""
    absent = require_absent(spec, missing)
    wanted = [channel.name for c, channel in enumerate(spec.channels) if c not in absent]
    have, want = len(volume.channels), len(wanted)
    if have != want:
        names = ", ".join(wanted)
        raise InputError(
            f"{volume.name or 'the volume'} has {have} channel{'s' * (have != 1)} but model {model_name} needs {want} "
            f"({names}): give as many channels as the model was trained with, in that order"
        )
    require_order(volume.name or "the volume", volume.channels, wanted)


def require_order(name: str, have: Sequence[str], want: Sequence[str]) -> None:
    """Raise InputError for channels that have the names wanted in another order."""
    if list(have) != list(want) and sorted(have) == sorted(want):
        raise InputError(
            f"{name} has its channels in the order {', '.join(have)}, where {', '.join(want)} are needed: give them in "
            f"that order"
        )
