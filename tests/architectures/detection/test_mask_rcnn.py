"""Mask R-CNN: shapes, what it finds, and that a mask lands where its box is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_medseg.architectures.detection import mask_rcnn
from napari_medseg.architectures.detection.mask_rcnn import MaskRCNN, pasted
from napari_medseg.registry import network

SMALL: dict[str, Any] = {"features": (4, 8, 8), "anchors": (4, 8), "roi": 3, "mask": 2, "hidden": 8}


def built(dims: int, classes: int = 2) -> MaskRCNN:
    torch.manual_seed(0)
    made = network("mask_rcnn").build(spatial_dims=dims, out_channels=classes + 1, in_channels=2, **SMALL)
    assert isinstance(made, MaskRCNN)
    return made.eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [9, 16])
def test_any_size(dims: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "SCORE", 0.0)
    made, x = built(dims), torch.randn(2, 2, *[size] * dims)
    with torch.no_grad():
        found, logits = made.find(x), made(x)
    assert logits.shape == (2, 3, *[size] * dims)
    for one in found:
        assert 0 < len(one.boxes) <= mask_rcnn.DETECTIONS
        assert one.masks.shape == (len(one.boxes), *[4] * dims)
        assert set(one.classes.tolist()) <= {1, 2}
        assert (one.scores.diff() <= 0).all(), "the best first"
        assert (one.boxes >= 0).all()
        assert (one.boxes <= size).all()


def test_a_sure_network_paints_its_objects_as_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels are the likeliest object's class, and background elsewhere."""
    made = built(2)
    found = mask_rcnn.Found(
        torch.tensor([[2.0, 2.0, 6.0, 6.0], [4.0, 4.0, 8.0, 8.0]]),
        torch.tensor([0.9, 0.8]),
        torch.tensor([1, 2]),
        torch.stack((torch.full((4, 4), 0.99), torch.full((4, 4), 0.8))),
    )
    monkeypatch.setattr(MaskRCNN, "find", lambda self, x: [found])
    labels = made(torch.zeros(1, 2, 9, 9)).argmax(1)[0]
    expected = torch.zeros(9, 9, dtype=torch.long)
    expected[4:8, 4:8] = 2
    expected[2:6, 2:6] = 1
    assert torch.equal(labels, expected)


def test_no_object_is_background() -> None:
    made = built(3)
    torch.nn.init.constant_(made.class_scores.bias, 0.0)
    made.class_scores.bias.data[0] = 50
    with torch.no_grad():
        assert not made(torch.randn(1, 2, 8, 8, 8)).argmax(1).any()


def test_a_mask_is_stretched_over_its_box() -> None:
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    place, found = pasted(mask, torch.tensor([2.0, 1.0, 6.0, 5.0]), (8, 8))
    assert place == (slice(2, 6), slice(1, 5))
    assert found[0].tolist() == pytest.approx([1.0, 0.75, 0.25, 0.0])
    assert found[3].tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0])
