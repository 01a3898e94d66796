"""Boxes against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg.architectures.detection.boxes import anchors_of, best_of, clipped, iou, moved, offsets_between


def test_anchors_lie_around_the_middles_of_the_places() -> None:
    found = anchors_of((2, 1), 4, (2, 6))
    assert found.tolist() == [
        [1.0, 1.0, 3.0, 3.0],
        [-1.0, -1.0, 5.0, 5.0],
        [5.0, 1.0, 7.0, 3.0],
        [3.0, -1.0, 9.0, 5.0],
    ]


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0]])
    b = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0, 3.0, 3.0], [2.0, 0.0, 0.0, 4.0, 2.0, 2.0]])
    assert iou(a, b)[0].tolist() == pytest.approx([1.0, 1 / 15, 0.0])


@given(seed=st.integers(0, 2**31), dims=st.sampled_from([2, 3]))
@settings(max_examples=20)
def test_offsets_lead_from_anchors_to_boxes(seed: int, dims: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand((2, 5, dims), generator=draw) * 20
    boxes = torch.cat((low, low + 1 + torch.rand((2, 5, dims), generator=draw) * 10), dim=-1)
    assert torch.allclose(moved(boxes[0], offsets_between(boxes[0], boxes[1])), boxes[1], atol=1e-3)


def test_the_best_of_boxes_that_overlap_stays() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [0.0, 2.0, 4.0, 6.0], [9.0, 9.0, 10.0, 10.0]])
    scores = torch.tensor([0.6, 0.9, 0.5, 0.1])
    assert best_of(boxes, scores, 0.5).tolist() == [1, 2, 3], "3/4 of the union is shared by the first two"
    assert best_of(boxes, scores, 0.8).tolist() == [1, 0, 2, 3]
    assert best_of(boxes, torch.ones(4), 0.5).tolist() == [0, 2, 3], "of equal ones the first"
    assert best_of(boxes[:0], scores[:0], 0.5).tolist() == []


def test_boxes_are_cut_at_the_image() -> None:
    assert clipped(torch.tensor([[-1.0, 2.0, 9.0, 3.0]]), (4, 5)).tolist() == [[0.0, 2.0, 4.0, 3.0]]
