"""Codecs on bytes that are written out here: what they give, and that none gives more than a chunk."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
from numcodecs import Delta  # type: ignore[import-untyped]

from napari_medseg.io.zarr.codecs import ChunkError, decoded, filter_step, step_of

ZSTD = bytes.fromhex("28b52ffd")
UNSIZED = ZSTD + bytes([0x00, 0x00])
"""A zstd frame that says its window and not its size. A block's header: last, kind << 1, length << 3."""


def room(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.empty(size, np.uint8)


def undo(codec: str, content: bytes, size: int) -> bytes:
    return bytes(decoded(content, [step_of(codec)], room(size)))


def block(kind: int, length: int, *, last: bool) -> bytes:
    return (last | kind << 1 | length << 3).to_bytes(3, "little")


def test_without_a_codec_the_bytes_are_the_chunk() -> None:
    assert bytes(decoded(b"abc", [], room(3))) == b"abc"
    with pytest.raises(ChunkError, match="it holds 3 bytes: 4 expected"):
        decoded(b"abc", [], room(4))


def test_steps_are_taken_in_their_order() -> None:
    coded = zlib.compress(b"123456789")
    coded += (0).to_bytes(4, "little")
    with pytest.raises(ChunkError, match="its checksum is wrong"):
        decoded(coded, [step_of("crc32c"), step_of("zlib")], room(9))


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert undo("crc32c", b"123456789" + bytes.fromhex("839206e3"), 9) == b"123456789"


def test_a_zstd_frame_without_a_size_is_as_large_as_its_blocks() -> None:
    raw = block(0, 3, last=False) + b"abc"
    repeated = block(1, 5, last=True) + b"z"
    assert undo("zstd", UNSIZED + raw + repeated, 8) == b"abczzzzz"
    with pytest.raises(ChunkError, match=r"it would become larger \(2000003 bytes\) than a chunk's 8 bytes"):
        undo("zstd", UNSIZED + raw + block(1, 2_000_000, last=True) + b"z", 8)


@pytest.mark.parametrize(
    ("size", "stated"),
    [
        pytest.param(3, bytes([0x20, 3]), id="one byte"),
        pytest.param(300, bytes([0x60]) + (300 - 256).to_bytes(2, "little"), id="two bytes"),
        pytest.param(3, bytes([0xA0]) + (3).to_bytes(4, "little"), id="four bytes"),
        pytest.param(3, bytes([0xE0]) + (3).to_bytes(8, "little"), id="eight bytes"),
    ],
)
def test_a_zstd_frame_states_its_size(size: int, stated: bytes) -> None:
    content = b"a" * size
    assert undo("zstd", ZSTD + stated + block(0, size, last=True) + content, size) == content


@pytest.mark.parametrize(
    ("codec", "content", "match"),
    [
        pytest.param("zstd", b"abcdefgh", "no zstd frame", id="zstd"),
        pytest.param("zstd", ZSTD, "too short", id="zstd, cut"),
        pytest.param("lz4", struct.pack("<i", 1 << 30), r"larger \(1073741824 bytes\)", id="lz4"),
        pytest.param("lz4", struct.pack("<i", -1), r"larger \(-1 bytes\)", id="lz4, negative"),
        pytest.param("blosc", bytes(4) + struct.pack("<III", 8, 8, 99), "99 expected, 16 there", id="blosc, cut"),
        pytest.param("blosc", bytes(4) + struct.pack("<III", 999, 8, 16), r"larger \(999 bytes\)", id="blosc"),
        pytest.param("gzip", gzip.compress(bytes(500)), "would become larger than a chunk's 8 bytes", id="gzip"),
        pytest.param("zlib", zlib.compress(b"abcdefgh")[:-6], "end early", id="zlib, cut"),
        pytest.param("gzip", b"abcdefgh", "cannot be decompressed", id="gzip, noise"),
    ],
)
def test_what_lies_about_its_size_is_refused(codec: str, content: bytes, match: str) -> None:
    with pytest.raises(ChunkError, match=match):
        undo(codec, content, 8)


def test_gzip_may_have_several_members() -> None:
    assert undo("gzip", gzip.compress(b"abc") + gzip.compress(b"de"), 5) == b"abcde"


def test_a_filter_is_undone() -> None:
    coded = np.array([5, 1, -2], "<i2").tobytes()
    assert decoded(coded, [filter_step(Delta("<i2"))], room(6)).view("<i2").tolist() == [5, 6, 4]
