from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.architectures.blocks.base import crop, pad_to_multiple, resize

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=3)


@given(size=sizes, exponent=st.integers(0, 3))
def test_padding_is_undone_by_cropping(size: list[int], exponent: int) -> None:
    multiple = 2**exponent
    x = torch.rand(1, 2, *size)
    padded = pad_to_multiple(x, multiple)
    assert all(n % multiple == 0 for n in padded.shape[2:])
    assert max(padded.shape[2:]) >= 2 * multiple, "more than one voxel at the coarsest scale"
    assert torch.equal(crop(padded, size), x)


def test_padding_repeats_the_last_plane() -> None:
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert pad_to_multiple(x, 2).tolist() == [[[[1, 2, 3, 3], [1, 2, 3, 3]]]]


@pytest.mark.parametrize("size", [(8, 8), (8, 4, 4), (4, 4, 8)])
def test_an_aligned_image_is_not_copied(size: tuple[int, ...]) -> None:
    x = torch.rand(1, 1, *size)
    assert pad_to_multiple(x, 4) is x


@pytest.mark.parametrize("size", [(4, 6), (2, 4, 6)], ids=["2D", "3D"])
def test_resizing_keeps_a_ramp_between_the_edges(size: tuple[int, ...]) -> None:
    ramp = torch.arange(3.0).expand(1, 1, *(n // 2 for n in size))
    assert resize(ramp, size).flatten()[:6].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
    assert resize(ramp, ramp.shape[2:]) is ramp
