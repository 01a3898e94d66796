"""The boxes of a volume as a network wants them: in its axis order, normalised, at its spacing, decoded once.

Shapes: stored data (C, *stored zyx); everything handed out is (C, z, y, x) in the model's axis order.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import Box, chunk_edges, intersection, parts, within
from napari_medseg.arrays.views import absent_value
from napari_medseg.errors import FileError
from napari_medseg.events import Progress
from napari_medseg.geometry import AxisOrder, Shape3, triple_of
from napari_medseg.transforms.intensity import (
    Float32Array,
    NonzeroBox,
    RunningStatistics,
    Statistics,
    as_float32,
    standardise,
)
from napari_medseg.transforms.spatial import resample_axis
from napari_medseg.volume import Volume

if TYPE_CHECKING:
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.models.spec import Normalisation

Stored = npt.NDArray[Any]
"""Voxels (C, z, y, x) as they are stored, of any type."""
_BAND = 512
"""Rows of a plane whose sum is one term of the statistics."""
_MEASURED_BYTES = 1 << 28
"""About the most bytes that are read at once while an image is measured."""

ChannelStatistics = tuple[Statistics | None, ...]
"""Per channel of the image its statistics; None where no normalisation asks for them."""


def any_not_finite(values: Stored) -> bool:
    """Whether some of the values are NaN or infinite."""
    return values.dtype.kind == "f" and not bool(np.isfinite(values).all())


def count_as_zero(volume: Volume) -> str:
    """A line for the user of an image that holds such values."""
    return f"{volume.name or 'the image'} has voxels that are no numbers (NaN or infinite): they count as 0"


@dataclass(frozen=True, eq=False)
class _Block:
    """Chunks that are decoded together."""

    box: Box
    """Where they lie, in stored order."""
    values: Future[Stored]

    def copy_into(self, target: Stored, wanted: Box) -> None:
        """Copy what the target, which holds the stored box `wanted`, shares with the block."""
        shared = intersection(self.box, wanted)
        target[(slice(None), *within(shared, wanted))] = self.values.result()[(slice(None), *within(shared, self.box))]


class BoxReader:
    """Stored voxels in the model's axis order, read in whole chunks, each decoded once while neighbours need it.

    The chunks of the last box are kept, and of those before it as many as fit into `keep_bytes`. `expect` decodes in a
    thread of the reader's own. An array in memory is neither copied nor cached.
    """

    def __init__(self, volume: Volume, order: AxisOrder, *, keep_bytes: int = 0) -> None:
        self.volume = volume
        self._order = order
        self._stored_shape = volume.grid.shape
        self.shape = order.shape(volume.grid.shape)
        self._edges = [chunk_edges(volume.data, axis) for axis in (1, 2, 3)]
        self.rows = self._rows(self._edges[order.axes[0]])
        """The planes [start, stop) of each row of chunks, ascending."""
        self._in_memory = isinstance(volume.data, np.ndarray)
        self._keep_bytes = keep_bytes
        self._chunks: OrderedDict[Shape3, _Block] = OrderedDict()
        """By the chunk's number along each stored axis; the one that was used last is at the end."""
        self._expected: set[Shape3] = set()
        self._thread: ThreadPoolExecutor | None = None
        self._read_not_finite = False
        """Whether a box held values that are not finite."""

    def _rows(self, edges: list[int]) -> list[tuple[int, int]]:
        rows = list(zip([0, *edges[:-1]], edges, strict=True))
        if self._order.flips[0]:
            n = self.shape[0]
            rows = [(n - stop, n - start) for start, stop in reversed(rows)]
        return rows

    def read(self, box: Box) -> Stored:
        """A box (C, z, y, x) of stored values."""
        found = self._read(box)
        self._read_not_finite = self._read_not_finite or any_not_finite(found)
        return found

    @property
    def doubts(self) -> list[str]:
        """What the user should know of the voxels that were read."""
        return [count_as_zero(self.volume)] if self._read_not_finite else []

    def _read(self, box: Box) -> Stored:
        stored = self._order.source_slices(box, self._stored_shape)
        if self._in_memory:
            return self._order.apply(self.volume.data[(slice(None), *stored)])
        touched = self._touched(stored)
        self._decode(touched, self._load_now)
        blocks = {id(block): block for block in (self._chunks[at] for at in touched)}
        first = self._chunks[touched[0]]
        if len(blocks) == 1:
            found = first.values.result()[(slice(None), *within(stored, first.box))]
        else:
            found = np.empty((len(self.volume.channels), *(s.stop - s.start for s in stored)), self.volume.data.dtype)
            for block in blocks.values():
                block.copy_into(found, stored)
        self._forget(touched)
        return self._order.apply(found)

    def absent(self, box: Box) -> Any:
        """The value of all voxels of a box that is not on the disk; None where a part of it is, or nobody knows."""
        channels = slice(0, len(self.volume.channels))
        return absent_value(self.volume.data, (channels, *self._order.source_slices(box, self._stored_shape)))

    def expect(self, box: Box) -> None:
        """Begin to decode the chunks of a box that is read soon."""
        if self._in_memory:
            return
        self._thread = self._thread or ThreadPoolExecutor(1, "medseg-read")
        touched = self._touched(self._order.source_slices(box, self._stored_shape))
        self._decode(touched, lambda part: self._thread.submit(self._load, part))  # type: ignore[union-attr]
        self._expected.update(touched)

    def close(self) -> None:
        """Forget all chunks, and end the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None
        self._chunks.clear()
        self._expected.clear()

    def _touched(self, stored: Box) -> list[Shape3]:
        """The numbers of the chunks that a stored box touches, the last axis fastest."""
        z, y, x = (
            range(bisect_right(edges, side.start), bisect_left(edges, side.stop) + 1)
            for edges, side in zip(self._edges, stored, strict=True)
        )
        return list(itertools.product(z, y, x))

    def _decode(self, wanted: list[Shape3], load: Callable[[Box], Future[Stored]]) -> None:
        """Have missing chunks loaded: where a whole row of them is missing in one call, which costs least."""
        for _, numbers in itertools.groupby(wanted, key=lambda at: at[0]):
            row = list(numbers)
            missing = [at for at in row if at not in self._chunks]
            for group in [row] if missing == row else [[at] for at in missing]:
                box = self._box_of(group[0], group[-1])
                block = _Block(box, load(box))
                self._chunks.update(dict.fromkeys(group, block))

    def _box_of(self, first: Shape3, last: Shape3) -> Box:
        """The stored box from one chunk to another."""
        return triple_of(
            slice(edges[i - 1] if i else 0, edges[j]) for edges, i, j in zip(self._edges, first, last, strict=True)
        )

    def _load_now(self, box: Box) -> Future[Stored]:
        done: Future[Stored] = Future()
        done.set_result(self._load(box))
        return done

    def _load(self, box: Box) -> Stored:
        try:
            return np.asarray(self.volume.data[(slice(None), *box)])
        except (OSError, RuntimeError, ValueError) as error:
            where = ", ".join(f"{s.start}:{s.stop}" for s in box)
            raise FileError(
                f"{self.volume.name or 'volume'}: voxels [{where}] cannot be read ({error}): check the store's files"
            ) from error

    def _forget(self, touched: list[Shape3]) -> None:
        """Drop the chunks that were used longest ago; those just touched and those that are expected stay."""
        self._expected.difference_update(touched)
        for at in touched:
            self._chunks.move_to_end(at)
        keep, room, kept = {*touched, *self._expected}, self._keep_bytes, set()
        for at in reversed(list(self._chunks)):
            block = self._chunks[at]
            if at in keep or id(block) in kept:
                kept.add(id(block))
            elif (size := block.values.result().nbytes) <= room:
                room -= size
                kept.add(id(block))
            else:
                del self._chunks[at]


def measuring(reader: BoxReader, plan: InferencePlan) -> Generator[Progress, None, ChannelStatistics]:
    """Measure the channels that a normalisation of the plan asks for, in one pass over the image.

    Both stages of a cascade are served by the same pass. Yields a Progress per row of chunks where there are several.
    Raises InputError for a channel without a finite voxel, FileError where the image cannot be read.
    """
    specs = [plan.spec] if plan.first is None else [plan.spec, plan.first.spec]
    rules = zip(*(spec.normalisation for spec in specs), strict=True)
    wanted = [c for c, of_stages in enumerate(rules) if any(rule.kind == "zscore" for rule in of_stages)]
    volume = reader.volume
    found: list[Statistics | None] = [None] * len(volume.channels)
    if not wanted:
        return tuple(found)
    running = RunningStatistics([f"{volume.name or 'volume'}, {volume.channels[c]}" for c in wanted])
    box = NonzeroBox() if plan.spec.recipe.statistics == "box" else None
    for done, (start, stop) in enumerate(reader.rows, start=1):
        for band in _bands(reader, start, stop):
            block = reader.read((slice(start, stop), band, slice(0, reader.shape[2])))
            if box is not None:
                box.add(block, (start, band.start))
            # Always the same parts are summed, so that the numbers do not depend on how the image is chunked.
            for part in parts(slice(0, block.shape[2]), _BAND):
                running.add([block[c][:, part] for c in wanted])
        if len(reader.rows) > 1:
            yield Progress(done, len(reader.rows), "statistics")
    for c, statistics in zip(wanted, running.result(box.voxels if box else None), strict=True):
        found[c] = statistics
    return tuple(found)


def _bands(reader: BoxReader, start: int, stop: int) -> list[slice]:
    """The rows of some planes in parts that do not take too much memory."""
    _, height, width = reader.shape
    size = len(reader.volume.channels) * (stop - start) * width * reader.volume.data.dtype.itemsize
    return parts(slice(0, height), max(1, _MEASURED_BYTES // (size * _BAND)) * _BAND)


@dataclass(frozen=True)
class Normaliser:
    """One channel's normalisation with its numbers filled in."""

    low: float | None
    high: float | None
    mean: float
    std: float

    def __call__(self, block: npt.NDArray[np.generic]) -> Float32Array:
        values = as_float32(block)
        if self.low is not None:
            values = np.clip(values, np.float32(self.low), np.float32(self.high))
        return standardise(values, self.mean, self.std)

    @classmethod
    def of(cls, rule: Normalisation, statistics: Statistics | None) -> Normaliser:
        """The rule of a model; the image's own statistics are needed where its kind is zscore."""
        if rule.kind == "zscore":
            assert statistics is not None, "what a rule asks for was measured"
            return cls(None, None, statistics.mean, statistics.std)
        if rule.kind == "clip_zscore":
            assert rule.mean is not None, "the model file's schema holds all four"
            assert rule.std is not None
            return cls(rule.low, rule.high, rule.mean, rule.std)
        return cls(None, None, 0.0, 1.0)


class ModelBoxes:
    """The boxes of a volume on the model's grid: reordered, normalised, resampled."""

    guides = 0
    """No channel is a guide: see `stream.Source`."""

    def __init__(self, reader: BoxReader, plan: InferencePlan, statistics: ChannelStatistics) -> None:
        self._reader = reader
        self._to_model = plan.to_model
        self.shape: Shape3 = plan.grid.shape
        self._normalisers = [Normaliser.of(*pair) for pair in zip(plan.spec.normalisation, statistics, strict=True)]

    def read(self, box: Box) -> torch.Tensor:
        """A box of the model's grid: (C, z, y, x) float32 on the CPU; a view of one value where nothing is stored."""
        needed = self._needed(box)
        absent = self._absent(needed)
        if absent is not None:
            z, y, x = (side.stop - side.start for side in box)
            return absent.expand(-1, z, y, x)
        stored = self._reader.read(needed)
        values = torch.from_numpy(np.stack([f(stored[c]) for c, f in enumerate(self._normalisers)]))
        for axis, (along, side, old) in enumerate(zip(self._to_model, box, needed, strict=True)):
            values = resample_axis(values, along, 1 + axis, side, offset=old.start)
        return values

    def expect(self, box: Box) -> None:
        """The box is read soon: its chunks are decoded meanwhile."""
        if self._absent(self._needed(box)) is None:
            self._reader.expect(self._needed(box))

    def _absent(self, needed: Box) -> torch.Tensor | None:
        """The values (C, 1, 1, 1) of a box of the image that is not on the disk, normalised; None for another.

        Resampled ones may differ in the last bit: they are read.
        """
        value = self._reader.absent(needed) if all(along.is_identity for along in self._to_model) else None
        if value is None:
            return None
        block = np.full((1, 1, 1), value, self._reader.volume.data.dtype)
        return torch.from_numpy(np.stack([f(block) for f in self._normalisers]))

    def _needed(self, box: Box) -> Box:
        """The voxels of the image behind a box of the model's grid."""
        return triple_of(
            slice(*along.needs(side.start, side.stop)) for along, side in zip(self._to_model, box, strict=True)
        )
