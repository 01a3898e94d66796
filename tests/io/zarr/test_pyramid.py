from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg.geometry import Shape3, Triple
from napari_medseg.io.zarr import pyramid

sizes = st.integers(1, 400)


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        pytest.param((64, 64, 64), (1, 1, 1), [(64, 64, 64)], id="small"),
        pytest.param((200, 200, 200), (1, 1, 1), [(200, 200, 200), (100, 100, 100), (50, 50, 50)], id="cube"),
        pytest.param((20, 240, 240), (4, 1, 1), [(20, 240, 240), (20, 120, 120), (20, 60, 60)], id="thick slices"),
        pytest.param((1, 100, 100), (5, 1, 1), [(1, 100, 100), (1, 50, 50)], id="one slice"),
    ],
)
def test_finer_axes_are_halved_first(shape: Shape3, spacing: Triple, expected: list[Shape3]) -> None:
    assert [level.shape for level in pyramid.plan(shape, spacing)] == expected


@given(shape=st.tuples(sizes, sizes, sizes), spacing=st.tuples(*[st.floats(0.1, 10)] * 3))
def test_every_plan_ends_small(shape: Shape3, spacing: Triple) -> None:
    levels = pyramid.plan(shape, spacing)
    assert max(levels[-1].shape) <= 64
    for fine, coarse in pairwise(levels):
        assert coarse.shape == tuple(n // f for n, f in zip(fine.shape, coarse.factors, strict=True))
        assert coarse.scale == tuple(s * f for s, f in zip(fine.scale, coarse.factors, strict=True))


@settings(max_examples=30)
@given(shape=st.tuples(*[st.integers(1, 6)] * 4), factors=st.tuples(*[st.integers(1, 2)] * 3), chunk=st.integers(2, 4))
def test_blocks_give_the_reduction_of_the_whole(shape: tuple[int, ...], factors: Shape3, chunk: int) -> None:
    source = np.random.default_rng(0).integers(-99, 99, shape).astype(np.int16)
    coarse = tuple(n // f for n, f in zip(shape, (1, *factors), strict=True))
    if min(coarse) == 0:
        return
    for is_labels in (False, True):
        target = zarr.create_array({}, shape=coarse, dtype=np.int16, chunks=(chunk,) * 4)
        pyramid.reduce_blocks(source, target, factors, is_labels=is_labels)
        z, y, x = factors
        corners = [
            source[:, a : a + coarse[1] * z : z, b : b + coarse[2] * y : y, c : c + coarse[3] * x : x]
            for a in range(z)
            for b in range(y)
            for c in range(x)
        ]
        expected = corners[0] if is_labels else np.rint(np.mean(corners, axis=0))
        assert np.array_equal(target[...], expected)
