"""Compressed chunks, which never inflate beyond a chunk's size: each codec states its size first, or is bounded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc, lz4, zstd  # type: ignore[import-untyped]

from napari_medseg.io.disk import inflate

Bytes = npt.NDArray[np.uint8]
Step = Callable[[Any, Bytes], Any]
"""Undoes one codec: (coded bytes, room for a chunk) -> bytes, which may lie in that room."""

_SLACK = 64
"""Bytes that a checksum behind the voxels may add."""
CRC_BYTES = 4
"""Bytes of a CRC-32C."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class ChunkError(ValueError):
    """A chunk is not what the array's metadata says."""


def decoded(content: bytes, steps: Iterable[Step], room: Bytes) -> Bytes:
    """The bytes of a chunk: as many as `room` has, and perhaps in it. Raises ChunkError or the error of a codec."""
    coded: Any = content
    for step in steps:
        coded = step(coded, room)
    chunk = np.frombuffer(coded, np.uint8)
    if chunk.size != room.size:
        raise ChunkError(f"it holds {chunk.size} bytes: {room.size} expected")
    return chunk


def step_of(codec_id: str) -> Step:
    """The step that undoes a codec of zarr metadata. Raises KeyError for an unknown name."""
    return _STEPS[codec_id]


def filter_step(codec: Any) -> Step:
    """The step that undoes a filter of numcodecs; such filters keep the number of bytes (shuffle, delta)."""

    def undo(content: Any, room: Bytes) -> Any:
        return np.ascontiguousarray(codec.decode(content)).reshape(-1).view(np.uint8)

    return undo


def inflated(content: bytes, room: Bytes) -> bytes:
    """A gzip or zlib stream of one or several members. Raises ChunkError for damage and for more than a chunk."""
    limit = room.size + _SLACK
    content = bytes(content)
    parts: list[bytes] = []
    size = 0
    while content:
        stream = inflate.inflater()
        try:
            parts.append(stream.decompress(content, limit - size + 1))
        except inflate.ERRORS as error:
            raise ChunkError(f"it cannot be decompressed: {error}") from error
        size += len(parts[-1])
        if size > limit:
            raise ChunkError(f"it would become larger than a chunk's {room.size} bytes")
        if not stream.eof:
            raise ChunkError(f"its compressed bytes end early, after {size} bytes")
        content = stream.unused_data
    return b"".join(parts)


def _decompressing(size_of: Callable[[bytes], int], decompress: Callable[..., Any]) -> Step:
    """The step of a codec that states the size of its content."""

    def undo(content: Any, room: Bytes) -> Any:
        content = bytes(content)  # a copy: it may lie in the room that is written to
        try:
            size = size_of(content)
        except struct.error as error:
            raise ChunkError("its compressed bytes are too short") from error
        if not 0 <= size <= room.size + _SLACK:
            raise ChunkError(f"it would become larger ({size} bytes) than a chunk's {room.size} bytes")
        if size != room.size:
            return decompress(content)
        decompress(content, room)
        return room

    return undo


def _blosc_size(content: bytes) -> int:
    inflated_size, _, compressed_size = struct.unpack_from("<III", content, 4)
    if compressed_size > len(content):  # c-blosc would read beyond the end
        raise ChunkError(f"its compressed bytes end early: {compressed_size} expected, {len(content)} there")
    return int(inflated_size)


def _lz4_size(content: bytes) -> int:
    return int(struct.unpack_from("<i", content)[0])


def _zstd_size(content: bytes) -> int:
    """The size that the first frame states, or else the most that its blocks can hold (RFC 8878).

    Only the first frame is read.
    """
    if not content.startswith(_ZSTD_MAGIC):
        raise ChunkError("it cannot be decompressed: no zstd frame")
    descriptor = struct.unpack_from("<B", content, 4)[0]
    single = bool(descriptor & 0x20)
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    flag = descriptor >> 6
    if flag or single:
        kind, added = (("<B", 0), ("<H", 256), ("<I", 0), ("<Q", 0))[flag]
        return int(struct.unpack_from(kind, content, start)[0]) + added
    return _zstd_blocks_size(content, start)


def _zstd_blocks_size(content: bytes, start: int) -> int:
    size, last = 0, False
    while not last:
        low, high = struct.unpack_from("<HB", content, start)
        header = low | high << 16
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        # Kind 0, raw, and kind 1, one byte repeated, state their size. A compressed block makes at most 128 KiB.
        size += length if kind < 2 else 0
        compressed = kind == 2
        size += (1 << 17) if compressed and not last else 0
        start += 3 + (1 if kind == 1 else length)
    return size


def _checked(content: Any, room: Bytes) -> Any:
    """The bytes in front of their CRC-32C."""
    content = bytes(content)
    if google_crc32c.value(content[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little") != content[-CRC_BYTES:]:
        raise ChunkError("its checksum is wrong")
    return content[:-CRC_BYTES]


_STEPS: dict[str, Step] = {
    "gzip": inflated,
    "zlib": inflated,
    "blosc": _decompressing(_blosc_size, blosc.decompress),
    "zstd": _decompressing(_zstd_size, zstd.decompress),
    "lz4": _decompressing(_lz4_size, lz4.decompress),
    "crc32c": _checked,
}
