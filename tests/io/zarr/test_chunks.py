"""Chunks of a few bytes: which of them a box touches, and where each of their bytes goes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from napari_medseg.arrays.boxes import BoxND, whole
from napari_medseg.io.zarr.chunks import Chunk, Plain, Room, Shard, Transposed, pieces
from napari_medseg.io.zarr.codecs import ChunkError

BYTE = np.dtype(np.uint8)
ABSENT = 2**64 - 1


def read(chunk: Chunk, content: bytes, inside: BoxND, dtype: np.dtype[Any] = BYTE) -> list[Any]:
    target = np.full([s.stop - s.start for s in inside], 99, dtype)
    chunk.read(io.BytesIO(content), inside, target, Room())
    found: list[Any] = target.tolist()
    return found


def test_the_pieces_of_an_axis() -> None:
    assert list(pieces((slice(1, 5),), (2,))) == [
        ((0,), (slice(1, 2),), (slice(0, 1),)),
        ((1,), (slice(0, 2),), (slice(1, 3),)),
        ((2,), (slice(0, 1),), (slice(3, 4),)),
    ]


def test_pieces_of_two_axes_cover_what_is_wanted_once() -> None:
    found = list(pieces((slice(0, 3), slice(4, 6)), (2, 5)))
    assert [at for at, _, _ in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    seen = np.zeros((3, 2), int)
    for _, inside, where in found:
        assert [s.stop - s.start for s in inside] == [s.stop - s.start for s in where]
        seen[where] += 1
    assert (seen == 1).all()


def test_nothing_is_wanted() -> None:
    assert list(pieces((slice(3, 3), slice(0, 9)), (2, 2))) == []


def test_plain_bytes_are_in_c_order() -> None:
    chunk = Plain((2, 3), BYTE, ())
    assert read(chunk, bytes(range(6)), (slice(0, 2), slice(1, 3))) == [[1, 2], [4, 5]]


def test_big_endian_bytes() -> None:
    chunk = Plain((2,), np.dtype(">i2"), ())
    assert read(chunk, b"\x01\x00\xff\xff", whole((2,)), np.dtype(np.int16)) == [256, -1]


def test_transposed_bytes() -> None:
    # Stored as (x, y): the columns of the array one after the other.
    chunk = Transposed((1, 0), Plain((3, 2), BYTE, ()))
    assert read(chunk, bytes([0, 3, 1, 4, 2, 5]), whole((2, 3))) == [[0, 1, 2], [3, 4, 5]]
    assert read(chunk, bytes([0, 3, 1, 4, 2, 5]), (slice(1, 2), slice(0, 2))) == [[3, 4]]


def shard(*, at_end: bool) -> Shard:
    """Three chunks of two bytes."""
    index = Plain((3, 2), np.dtype("<u8"), ())
    return Shard((2,), Plain((2,), BYTE, ()), index, 48, at_end, fill_value=7)


@pytest.mark.parametrize("at_end", [True, False], ids=["index at the end", "index in front"])
def test_a_shard_finds_its_chunks_by_the_index(at_end: bool) -> None:
    first = 0 if at_end else 48
    # The last chunk lies in front, the middle one is absent.
    index = np.array([[first + 2, 2], [ABSENT, ABSENT], [first, 2]], "<u8").tobytes()
    voxels = bytes([50, 51, 10, 11])
    content = voxels + index if at_end else index + voxels
    assert read(shard(at_end=at_end), content, whole((6,))) == [10, 11, 7, 7, 50, 51]
    assert read(shard(at_end=at_end), content, (slice(1, 5),)) == [11, 7, 7, 50]


def test_a_cut_shard_is_damage() -> None:
    index = np.array([[0, 2], [2, 2], [4, 2_000]], "<u8").tobytes()
    with pytest.raises(ChunkError, match="cut short: 2004 bytes expected, 54 there"):
        read(shard(at_end=True), bytes(6) + index, whole((6,)))
    with pytest.raises(ChunkError, match="its index has 48 bytes, 40 there"):
        read(shard(at_end=True), bytes(40), whole((6,)))


def test_room_is_given_again() -> None:
    room = Room()
    first = room.of(10)
    assert room.of(4).base is first.base
    assert room.of(20).size == 20
