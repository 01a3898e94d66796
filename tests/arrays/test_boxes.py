"""Walking over arrays in blocks: every voxel once, whole chunks, bounded size, any reading order."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.arrays.boxes import (
    Box,
    block_shape,
    blocks,
    chunk_edges,
    chunks_of,
    is_empty,
    mask_of,
    overlaps,
    placed,
    regions,
    rolling,
    union,
    whole,
    with_margin,
    within,
)

sizes = st.tuples(*[st.integers(1, 12)] * 3)


@given(shape=sizes, block=sizes, corners=st.tuples(*[st.floats(0, 1)] * 6))
def test_blocks_tile_a_box(
    shape: tuple[int, int, int], block: tuple[int, int, int], corners: tuple[float, ...]
) -> None:
    ends = [sorted((round(corners[2 * a] * n), round(corners[2 * a + 1] * n))) for a, n in enumerate(shape)]
    z, y, x = (slice(start, stop) for start, stop in ends)
    visits, expected = np.zeros(shape, int), np.zeros(shape, int)
    expected[z, y, x] = 1
    for part in blocks((z, y, x), block):
        visits[part] += 1
        assert all(p.stop - p.start <= n for p, n in zip(part, block, strict=True))
    np.testing.assert_array_equal(visits, expected)


def test_blocks_tile_an_array_of_any_axes() -> None:
    assert list(blocks(whole((3, 5)), (2, 3))) == [
        (slice(0, 2), slice(0, 3)),
        (slice(0, 2), slice(3, 5)),
        (slice(2, 3), slice(0, 3)),
        (slice(2, 3), slice(3, 5)),
    ]


@given(shape=sizes, block=sizes, halo=st.integers(1, 5))
def test_regions_are_seen_whole_though_only_parts_are_read(
    shape: tuple[int, int, int], block: tuple[int, int, int], halo: int
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    walk = list(regions(shape, block, halo))
    read, judged = np.zeros(shape, int), np.zeros(shape, int)
    for region, seen in zip(walk, rolling(array, walk, halo), strict=True):
        read[region.part] += 1
        np.testing.assert_array_equal(seen, array[region.read])
        if not is_empty(region.core):
            judged[region.core] += 1
            assert region.read == tuple(
                slice(max(0, core.start - halo), min(n, core.stop + halo))
                for core, n in zip(region.core, shape, strict=True)
            )
            np.testing.assert_array_equal(seen[region.core_in_read], array[region.core])
    assert (read == 1).all()
    assert (judged == 1).all()


@given(corners=st.tuples(*[st.integers(0, 4)] * 12))
def test_boxes_overlap_where_they_share_a_voxel(corners: tuple[int, ...]) -> None:
    ends = [sorted(corners[i : i + 2]) for i in range(0, 12, 2)]
    a, b = (box_of(*(slice(*end) for end in half)) for half in (ends[:3], ends[3:]))
    first, second = np.zeros((2, 5, 5, 5), bool)
    first[a], second[b] = True, True
    assert overlaps(a, b) == (first & second).any()
    assert is_empty(a) == (not first.any())


def box_of(z: slice, y: slice, x: slice) -> Box:
    return z, y, x


@pytest.mark.parametrize(
    ("shape", "chunks", "voxels", "expected"),
    [
        pytest.param((10, 10, 10), (1, 1, 1), 1000, (10, 10, 10), id="everything fits"),
        pytest.param((10, 10, 10), (1, 1, 1), 250, (2, 10, 10), id="whole slices"),
        pytest.param((10, 10, 10), (1, 1, 1), 35, (1, 3, 10), id="whole rows"),
        pytest.param((10, 10, 10), (4, 4, 4), 64, (4, 4, 4), id="one chunk"),
        pytest.param((10, 10, 10), (4, 4, 4), 7, (4, 4, 4), id="never below a chunk"),
        pytest.param((10, 10, 10), (4, 4, 4), 200, (4, 4, 10), id="chunks along x"),
        pytest.param((2, 3, 4), (64, 64, 64), 200, (2, 3, 4), id="chunks larger than the array"),
    ],
)
def test_block_shape(
    shape: tuple[int, int, int], chunks: tuple[int, int, int], voxels: int, expected: tuple[int, int, int]
) -> None:
    assert block_shape(shape, chunks, voxels) == expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param((1, 20, 20), (8, 20, 20), id="single slices"),
        pytest.param((3, 4, 16), (9, 8, 16), id="whole chunks"),
        pytest.param((30, 30, 30), (10, 20, 20), id="no more than there is"),
    ],
)
def test_block_shape_is_never_thin(chunks: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    assert block_shape((10, 20, 20), chunks, voxels=1, least=8) == expected


def test_chunks_of() -> None:
    array = np.zeros((5, 6, 7), np.uint8)
    assert chunks_of(array) == (1, 1, 1)
    assert chunks_of(zarr.array(array, chunks=(2, 3, 4))) == (2, 3, 4)
    assert chunks_of(da.from_array(array, chunks=(3, 3, 3))) == (3, 3, 3)


def test_chunk_edges() -> None:
    array = np.zeros((70, 6, 7), np.uint8)
    assert chunk_edges(array, 0) == [32, 64, 70]
    assert chunk_edges(zarr.array(array, chunks=(30, 3, 4)), 0) == [30, 60, 70]
    sharded = zarr.create_array({}, shape=array.shape, dtype=array.dtype, chunks=(10, 3, 4), shards=(40, 6, 8))
    assert chunk_edges(sharded, 0) == [40, 70]
    assert chunk_edges(da.from_array(array, chunks=((9, 60, 1), 6, 7)), 0) == [9, 69, 70]


def test_union() -> None:
    a: Box = (slice(1, 3), slice(0, 2), slice(5, 6))
    b: Box = (slice(2, 4), slice(1, 2), slice(0, 1))
    assert union(a, b) == (slice(1, 4), slice(0, 2), slice(0, 6))


def test_a_box_inside_of_another_and_back() -> None:
    outer: Box = (slice(2, 9), slice(1, 5), slice(4, 8))
    inner: Box = (slice(3, 4), slice(1, 5), slice(6, 7))
    assert within(inner, outer) == (slice(1, 2), slice(0, 4), slice(2, 3))
    assert placed(within(inner, outer), outer) == inner


def test_a_margin_ends_with_the_image() -> None:
    box: Box = (slice(1, 3), slice(0, 2), slice(5, 6))
    assert with_margin(box, (4, 3, 9)) == (slice(0, 4), slice(0, 3), slice(4, 7))
    assert with_margin(box, (4, 3, 9), (0, 5, 2)) == (slice(1, 3), slice(0, 3), slice(3, 8))


def test_mask_of_reads_the_box_only() -> None:
    array = np.arange(60).reshape(3, 4, 5) % 4
    box = (slice(1, 3), slice(1, 4), slice(0, 2))
    np.testing.assert_array_equal(mask_of(zarr.array(array, chunks=(2, 2, 2)), 3, box), array[box] == 3)
