"""The chunks of a zarr array as arrays, without zarr's own pipeline, which costs more than the decoding.

Chunks are built from metadata that zarr has parsed and `zarr.metadata` has checked.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from zarr.codecs import ShardingCodec, TransposeCodec
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from napari_medseg.arrays.boxes import BoxND, whole
from napari_medseg.io.zarr.codecs import CRC_BYTES, ChunkError, Step, decoded, filter_step, step_of

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

_ABSENT = 2**64 - 1


class Chunk(Protocol):
    """How the bytes of a chunk, or of a shard of chunks, become voxels."""

    def read(self, file: BinaryIO, inside: BoxND, target: Array, room: Room) -> None:
        """Fill the target with the box `inside` the chunk in a file. Raises ChunkError, or the error of a codec."""


class Room:
    """Memory for the decoding of one chunk after the other: it is asked for once."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory of `size` bytes; its former content is lost."""
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]


@dataclass(frozen=True)
class Plain:
    """A chunk whose bytes, once decoded, are the voxels in C order."""

    shape: Shape
    dtype: np.dtype[Any]
    steps: tuple[Step, ...]

    def read(self, file: BinaryIO, inside: BoxND, target: Array, room: Room) -> None:
        chunk = decoded(file.read(), self.steps, room.of(math.prod(self.shape) * self.dtype.itemsize))
        target[...] = chunk.view(self.dtype).reshape(self.shape)[inside]


@dataclass(frozen=True)
class Transposed:
    """A chunk that is stored with its axes in another order."""

    order: Shape
    """Of the stored axes, as axes of the array."""
    stored: Chunk

    def read(self, file: BinaryIO, inside: BoxND, target: Array, room: Room) -> None:
        self.stored.read(file, tuple(inside[axis] for axis in self.order), target.transpose(self.order), room)


@dataclass(frozen=True)
class Shard:
    """Chunks one behind the other, with an index of their places; only the wanted ones are read."""

    inner_shape: Shape
    inner: Chunk
    index: Plain
    """(..., 2): the start and the length of each chunk, in bytes."""
    index_bytes: int
    index_at_end: bool
    fill_value: Any

    def read(self, file: BinaryIO, inside: BoxND, target: Array, room: Room) -> None:
        size = file.seek(0, io.SEEK_END)
        index = self._index(file, size, room)
        for at, within, where in pieces(inside, self.inner_shape):
            start, length = (int(n) for n in index[at])
            if start == length == _ABSENT:
                target[where] = self.fill_value
                continue
            if start + length > size:
                raise ChunkError(f"it is cut short: {start + length} bytes expected, {size} there")
            file.seek(start)
            self.inner.read(io.BytesIO(file.read(length)), within, target[where], room)

    def _index(self, file: BinaryIO, size: int, room: Room) -> Array:
        if size < self.index_bytes:
            raise ChunkError(f"it is cut short: its index has {self.index_bytes} bytes, {size} there")
        file.seek(size - self.index_bytes if self.index_at_end else 0)
        index = np.empty(self.index.shape, np.uint64)
        self.index.read(io.BytesIO(file.read(self.index_bytes)), whole(index.shape), index, room)
        return index


def chunk_of(metadata: Any) -> Chunk:
    """The reader of an array's files: chunks, or shards of chunks."""
    fill_value = fill_value_of(metadata)
    dtype = np.dtype(metadata.dtype.to_native_dtype())
    if isinstance(metadata, ArrayV3Metadata):
        return _version_3(metadata.codecs, metadata.chunk_grid.chunk_shape, dtype, fill_value)  # type: ignore[attr-defined]
    assert isinstance(metadata, ArrayV2Metadata)
    packing = () if metadata.compressor is None else (step_of(metadata.compressor.codec_id),)
    steps = packing + tuple(filter_step(codec) for codec in reversed(metadata.filters or ()))
    if metadata.order == "C":
        return Plain(metadata.chunks, dtype, steps)
    return Transposed(tuple(reversed(range(len(metadata.chunks)))), Plain(metadata.chunks[::-1], dtype, steps))


def fill_value_of(metadata: Any) -> Any:
    """The value of a voxel in a missing chunk; 0 if metadata of version 2 leave it open."""
    return 0 if metadata.fill_value is None else metadata.fill_value


def _version_3(codecs: Sequence[Any], shape: Shape, dtype: np.dtype[Any], fill_value: Any) -> Chunk:
    first, *packing = codecs
    if isinstance(first, TransposeCodec):
        stored_shape = tuple(shape[axis] for axis in first.order)
        return Transposed(first.order, _version_3(packing, stored_shape, dtype, fill_value))
    if isinstance(first, ShardingCodec):
        return _shard(first, shape, dtype, fill_value)
    return _plain(codecs, shape, dtype)


def _plain(codecs: Sequence[Any], shape: Shape, dtype: np.dtype[Any]) -> Plain:
    to_bytes, *packing = codecs
    big = to_bytes.endian is not None and to_bytes.endian.value == "big"
    steps = tuple(step_of(codec.to_dict()["name"]) for codec in packing[::-1])
    return Plain(shape, dtype.newbyteorder(">" if big else "<"), steps)


def _shard(codec: ShardingCodec, shape: Shape, dtype: np.dtype[Any], fill_value: Any) -> Shard:
    counts = tuple(math.ceil(n / c) for n, c in zip(shape, codec.chunk_shape, strict=True))
    return Shard(
        codec.chunk_shape,
        _version_3(codec.codecs, codec.chunk_shape, dtype, fill_value),
        _plain(codec.index_codecs, (*counts, 2), np.dtype(np.uint64)),
        16 * math.prod(counts) + CRC_BYTES * (len(codec.index_codecs) - 1),
        codec.index_location.value == "end",
        fill_value,
    )


def pieces(wanted: BoxND, chunk: Shape) -> Iterator[tuple[Shape, BoxND, BoxND]]:
    """The chunks that a box touches: (number along each axis, box in the chunk, box in what is wanted)."""
    sides = list(zip(wanted, chunk, strict=True))
    numbers = [range(w.start // n, math.ceil(w.stop / n)) if w.stop > w.start else range(0) for w, n in sides]
    for at in itertools.product(*numbers):
        spans = [
            (max(w.start, i * n), min(w.stop, (i + 1) * n), i * n, w.start) for i, (w, n) in zip(at, sides, strict=True)
        ]
        yield (
            at,
            tuple(slice(start - origin, stop - origin) for start, stop, origin, _ in spans),
            tuple(slice(start - first, stop - first) for start, stop, _, first in spans),
        )
