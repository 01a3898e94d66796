"""Compressed chunks that cannot become larger than a chunk: each codec is asked, or bounded, before it inflates."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any, Self

from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

#: what a checksum behind the voxels may add
_SLACK = 64
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class ChunkError(ValueError):
    """A chunk is not what the array's metadata says."""


@dataclass(frozen=True)
class Bounded(BytesBytesCodec):
    """A zarr v3 codec that refuses a chunk which would become larger than the chunk's shape needs."""

    codec: BytesBytesCodec
    is_fixed_size = False

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        limit = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize + _SLACK
        content = chunk_data.to_bytes()
        if isinstance(self.codec, GzipCodec):
            return chunk_spec.prototype.buffer.from_bytes(inflated(content, limit))
        if isinstance(self.codec, BloscCodec | ZstdCodec):
            check_size("blosc" if isinstance(self.codec, BloscCodec) else "zstd", content, limit)
        return await self.codec._decode_single(chunk_data, chunk_spec)

    def evolve_from_array_spec(self, array_spec: Any) -> Self:
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)

    def to_dict(self) -> dict[str, Any]:
        return self.codec.to_dict()


@dataclass  # not frozen: zarr asks for a codec whose id can be set
class BoundedNumcodec:
    """The compressor of a zarr v2 array, bounded in the same way."""

    codec: Any
    limit: int
    codec_id: str = ""

    def decode(self, buf: Any, out: Any = None) -> Any:
        content = bytes(memoryview(buf).cast("B"))
        if self.codec_id in ("gzip", "zlib"):
            return inflated(content, self.limit)
        check_size(self.codec_id, content, self.limit)
        return self.codec.decode(content, out)

    def encode(self, buf: Any) -> Any:
        return self.codec.encode(buf)

    def get_config(self) -> Any:
        return self.codec.get_config()

    @classmethod
    def from_config(cls, _: Any) -> Self:
        raise NotImplementedError("made around a codec that zarr opened")


def bounded(metadata: Any) -> Any:
    """The metadata of an array, with each of its compressors bounded."""
    if isinstance(metadata, ArrayV3Metadata):
        return replace(metadata, codecs=tuple(map(_bounded, metadata.codecs)))
    assert isinstance(metadata, ArrayV2Metadata)
    if metadata.compressor is None:
        return metadata
    limit = math.prod(metadata.chunks) * metadata.dtype.to_native_dtype().itemsize + _SLACK
    return replace(metadata, compressor=BoundedNumcodec(metadata.compressor, limit, metadata.compressor.codec_id))


def _bounded(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_bounded, codec.codecs)))
    return Bounded(codec) if isinstance(codec, BytesBytesCodec) else codec


def inflated(content: bytes, limit: int) -> bytes:
    """A gzip or zlib stream, of one or several members. Raises ChunkError beyond `limit` bytes and for damage."""
    parts: list[bytes] = []
    size = 0
    while content:
        inflate = zlib.decompressobj(wbits=47)  # 47: zlib or gzip, whichever it is
        try:
            parts.append(inflate.decompress(content, limit - size + 1))
        except zlib.error as error:
            raise ChunkError(f"it cannot be decompressed: {error}") from error
        size += len(parts[-1])
        if size > limit:
            raise ChunkError(f"it would become larger than a chunk's {limit - _SLACK} bytes")
        if not inflate.eof:
            raise ChunkError(f"its compressed bytes end early, after {size} bytes")
        content = inflate.unused_data
    return b"".join(parts)


def check_size(codec_id: str, content: bytes, limit: int) -> None:
    """Raise ChunkError where the size that a compressed chunk says it has is larger than `limit`."""
    try:
        size = _SIZES[codec_id](content) if codec_id in _SIZES else 0
    except struct.error as error:
        raise ChunkError("its compressed bytes are too short") from error
    if not 0 <= size <= limit:
        raise ChunkError(f"it would become larger ({size} bytes) than a chunk's {limit - _SLACK} bytes")


def _blosc_size(content: bytes) -> int:
    inflated_size, _, compressed_size = struct.unpack_from("<III", content, 4)
    if compressed_size > len(content):  # c-blosc would read on behind the chunk
        raise ChunkError(f"its compressed bytes end early: {compressed_size} expected, {len(content)} there")
    return int(inflated_size)


def _lz4_size(content: bytes) -> int:
    return int(struct.unpack_from("<i", content)[0])


def _zstd_size(content: bytes) -> int:
    """Of the first frame, the only one that is read; where it does not say, all that its blocks can hold (RFC 8878)."""
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
        # A raw block holds itself, one of a repeated byte says its length, a compressed one makes at most 128 KiB.
        size += length if kind < 2 else 0
        compressed = kind == 2
        size += (1 << 17) if compressed and not last else 0
        start += 3 + (1 if kind == 1 else length)
    return size


_SIZES = {"blosc": _blosc_size, "zstd": _zstd_size, "lz4": _lz4_size}
