from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices

from napari_medseg.inference.windows import BoxWindows, WindowGrid, even_starts, gaussian, starts

sizes = st.tuples(*[st.integers(1, 40)] * 3)


def test_starts_by_hand() -> None:
    assert starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert starts(11, 4, 0.5) == [0, 2, 4, 6, 7]
    assert starts(4, 4, 0.5) == [0]
    assert starts(6, 4, 0.0) == [0, 2]
    assert starts(6, 1, 0.9) == [0, 1, 2, 3, 4, 5]


@given(size=st.integers(1, 200), window=st.integers(1, 40), overlap=st.floats(0, 0.99))
def test_even_windows_begin_once_each_and_leave_nothing_out(size: int, window: int, overlap: float) -> None:
    window = min(window, size)
    found = even_starts(size, window, overlap)
    assert found[0] == 0
    assert found[-1] == size - window
    assert all(0 < b - a <= window for a, b in itertools.pairwise(found))


def test_even_windows_of_one_plane_are_the_planes() -> None:
    assert even_starts(7, 1, 0.25) == list(range(7))
    assert even_starts(7, 1, 0.5) == list(range(7))


@given(shape=sizes, window=sizes, overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]))
def test_windows_are_those_of_monai(shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float) -> None:
    grid = WindowGrid(shape, window, overlap)
    interval = [w if w == p else max(1, int(w * (1 - overlap))) for w, p in zip(window, grid.padded, strict=True)]
    theirs = [tuple(s.start for s in w) for w in dense_patch_slices(grid.padded, window, interval)]
    ours = [(z, y, x) for z, _, corners in grid.rows() for y, x in corners]
    assert ours == theirs
    assert len(grid) == len(ours)


@given(shape=sizes, window=sizes)
def test_rows_end_where_the_next_begins_and_cover_every_plane(
    shape: tuple[int, int, int], window: tuple[int, int, int]
) -> None:
    grid = WindowGrid(shape, window, 0.5)
    rows = list(grid.rows())
    assert [following for _, following, _ in rows] == [*(z for z, _, _ in rows[1:]), grid.padded[0]]
    assert rows[0][0] == 0
    assert rows[-1][0] + window[0] == grid.padded[0]


@pytest.mark.parametrize("window", [(8, 8, 8), (5, 16, 3), (1, 32, 32)], ids=str)
def test_weights_are_those_of_monai(window: tuple[int, int, int]) -> None:
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=0.125, dtype=torch.float32).numpy()
    np.testing.assert_allclose(gaussian(window), theirs, rtol=1e-6)


def test_weights_by_hand() -> None:
    # Deviation 3 / 8 of a voxel: the neighbours of the centre are 1 / 0.375 deviations away.
    neighbour = np.exp(-0.5 * (1 / 0.375) ** 2)
    np.testing.assert_allclose(gaussian((1, 1, 3)), [[[neighbour, 1, neighbour]]], rtol=1e-6)
    corner = gaussian((9, 9, 9))[0, 0, 0]  # (4 / 1.125 deviations away, along three axes)
    assert np.exp(-0.5 * 3 * (4 / 1.125) ** 2) < corner == np.float32(0.001)


def test_padding_by_hand() -> None:
    grid = WindowGrid((3, 8, 5), (8, 8, 4), 0.5)
    assert grid.padded == (8, 8, 5)
    assert grid.pad_before == (2, 0, 0)  # of five voxels of padding, three come behind
    assert grid.starts_zyx == ([0], [0], [0, 1])
    assert list(grid.rows()) == [(0, 8, [(0, 0), (0, 1)])]


def test_a_box_lies_in_the_middle_of_its_window_and_the_window_in_the_image() -> None:
    def starts_of(z: int, stop: int) -> list[int]:
        box = (slice(z, stop), slice(0, 1), slice(0, 1))
        return [start for start, _, corners in BoxWindows((20, 1, 1), (6, 1, 1), 0.5, (box,)).rows() if corners]

    assert starts_of(9, 11) == [7]
    assert starts_of(0, 2) == [0]
    assert starts_of(19, 20) == [14]
    assert starts_of(4, 13) == [4, 7]  # larger than a window: from its first voxel to its last


def test_boxes_are_moved_by_the_padding() -> None:
    box = (slice(0, 1), slice(0, 1), slice(0, 1))
    windows = BoxWindows((2, 1, 12), (4, 1, 4), 0.5, (box,))
    assert windows.pad_before == (1, 0, 0)
    assert list(windows.rows()) == [(0, 4, [(0, 0)])]


def test_no_box_is_no_window_and_all_planes_are_final() -> None:
    windows = BoxWindows((5, 8, 8), (2, 8, 8), 0.5, ())
    assert len(windows) == 0
    assert list(windows.rows()) == [(0, 2, []), (2, 4, []), (4, 5, [])]


def test_windows_over_boxes() -> None:
    boxes = ((slice(2, 5), slice(0, 2), slice(6, 10)), (slice(30, 34), slice(4, 8), slice(0, 8)))
    windows = BoxWindows((40, 8, 10), (4, 4, 4), 0.5, boxes)
    rows = list(windows.rows())
    assert [row for row in rows if row[2]] == [
        (1, 5, [(0, 6)]),
        (30, 34, [(4, 0), (4, 2), (4, 4)]),
    ]
    assert len(windows) == 4
    stops = [following for _, following, _ in rows]
    assert stops == sorted(stops)
    assert stops[-1] == 40
    assert all(following - z <= 4 for z, following, _ in rows)
    assert [z for z, _, _ in rows] == [0, *stops[:-1]]


def test_specks_everywhere_take_no_more_windows_than_everything() -> None:
    shape, window = (9, 20, 22), (4, 8, 8)
    specks = [(z, y, x) for z in range(0, 9, 2) for y in range(0, 20, 2) for x in range(0, 10, 2)]
    boxes = tuple((slice(z, z + 1), slice(y, y + 1), slice(x, x + 1)) for z, y, x in specks)
    windows, everywhere = BoxWindows(shape, window, 0.5, boxes), WindowGrid(shape, window, 0.5)
    corners = {(z, *corner) for z, _, row in windows.rows() for corner in row}
    assert len(windows) == len(corners) < len(everywhere)
    assert corners < {(z, *corner) for z, _, row in everywhere.rows() for corner in row}
    for speck in specks:
        assert any(all(c <= s < c + w for c, s, w in zip(corner, speck, window, strict=True)) for corner in corners)


def test_each_voxel_sees_every_mirror_once_where_windows_overlap_by_half() -> None:
    windows = WindowGrid((8, 12, 4), (4, 4, 4), 0.5)
    seen: dict[tuple[int, int], set[tuple[int, ...]]] = defaultdict(set)
    for z, _, corners in windows.rows():
        for y, x in corners:
            axes = windows.mirrored_in_turn((z, y, x), (0, 1))
            for at in itertools.product(range(z, z + 4), range(y, y + 4)):
                assert axes not in seen[at]
                seen[at].add(axes)
    inner = [seen[z, y] for z in range(2, 6) for y in range(2, 10)]
    assert all(axes == {(), (0,), (1,), (0, 1)} for axes in inner)
