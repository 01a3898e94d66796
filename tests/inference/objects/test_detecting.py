"""Detections of several windows brought together and painted, without a network."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import napari_medseg as ms
from napari_medseg import registry
from napari_medseg.errors import NotSupportedError
from napari_medseg.events import Notice
from napari_medseg.inference.objects.detecting import Detection, Painter, _on_grid, together
from napari_medseg.models.file import write_model
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from recorder import Recorder

FULL = np.ones((2, 2, 2), np.float16)


def detection(low: float, high: float, score: float, *, cut: bool = False, of: int = 1) -> Detection:
    """A bar along x."""
    return Detection((0.0, 0.0, low, 4.0, 4.0, high), score, of, FULL, cut)


def test_windows_in_any_order_give_the_same_objects() -> None:
    """An object seen twice is one, and so are the pieces of a long one; a piece of one that is seen whole is none."""
    seen = [
        detection(0, 10, 0.9),
        detection(0.5, 10, 0.8),
        detection(20, 32, 0.7, cut=True),
        detection(24, 44, 0.75, cut=True),
        detection(5, 10, 0.6, cut=True),
        detection(0, 10, 0.5, of=2),
        detection(60, 70, 0.4, cut=True),
    ]
    wanted = [[(0, 10, 1)], [(24, 44, 1), (20, 32, 1)], [(0, 10, 2)], [(60, 70, 1)]]
    for order in itertools.islice(itertools.permutations(seen), 0, 5000, 617):
        objects = together(order)
        assert [[(one.box[2], one.box[5], one.of) for one in group] for group in objects] == wanted


def test_the_better_object_keeps_its_voxels_and_boxes_of_the_output_agree() -> None:
    objects = together([detection(0, 10, 0.9), detection(6, 20, 0.8)])
    painter = Painter(objects, (1.0, 1.0, 0.5))
    whole = (slice(0, 4), slice(0, 4), slice(0, 50))
    found = painter.paint(whole)
    assert found[0, 0].tolist() == [1] * 20 + [2] * 20 + [0] * 10
    left, right = (painter.paint((*whole[:2], side)) for side in (slice(0, 17), slice(17, 50)))
    assert np.array_equal(np.concatenate([left, right], axis=2), found)


def test_nothing_found_is_nothing() -> None:
    assert together([]) == []


@pytest.mark.parametrize(("z", "depth", "cut"), [(4, 8, [True, False, True]), (3, 1, [False, False, True])])
def test_what_a_window_cuts_off_is_a_piece(z: int, depth: int, cut: list[bool]) -> None:
    """Along z, unless the window is a slice; at the end of the image nothing is cut. The padding holds no object."""
    windows = SimpleNamespace(padded=(20, 8, 16), pad_before=(0, 1, 0), shape=(20, 6, 16))
    job = SimpleNamespace(windows=windows)
    boxes = np.array([[0, 2, 2, 1, 4, 4], [0.2, 0, 0, 1, 3, 3], [0.5, 2, 5, 1, 4, 8], [0.5, 0, 2, 1, 1, 4]], np.float32)
    boxes[1:, 0] = boxes[1:, 3] - (1 if depth == 1 else -2)
    boxes[1:, 3] += 0 if depth == 1 else 4
    seen = SimpleNamespace(scores=torch.ones(4), classes=torch.ones(4, dtype=torch.long))
    masks = np.ones((4, 2, 2, 2), np.float16)
    found = _on_grid(job, seen, boxes, masks, (z, 0, 0), (depth, 8, 8))  # type: ignore[arg-type]
    assert [one.cut for one in found] == cut
    assert found[0].box == (z, 1, 2, z + 1, 3, 4)


def test_no_more_of_an_image_is_read_where_it_has_more_planes(tmp_path: Path) -> None:
    network = registry.network("mask_rcnn")
    sizes = {"features": (4, 8), "hidden": 8, "roi": 3, "mask": 4, "anchors": (4, 6, 9)}
    spec = ModelSpec(
        network="mask_rcnn",
        arguments=network.arguments(in_channels=1, out_channels=2, spatial_dims=3, **sizes),  # type: ignore[arg-type]
        channels=(Channel(name="image", modality="other"),),
        labels={1: "object"},
        patch_zyx=(8, 16, 16),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    torch.manual_seed(0)
    model = write_model(tmp_path / "m.safetensors", spec, network.build_from(spec.arguments).state_dict())
    largest = []
    for depth in (24, 48):
        shape = (depth, 16, 16)
        image = Recorder(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32), (1, 4, 16, 16))
        volume = ms.Volume(image, ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0)), ("image",))
        found = ms.segment(volume, model, device="cpu", preset="exact")
        assert found.grid.shape == shape
        largest.append(image.largest)
    assert largest[0] == largest[1] < 24 * 16 * 16
    mirrored = replace(model, spec=replace(model.spec, recipe=Recipe(mirror_axes=(0, 1, 2))))
    events = list(ms.iter_segment(volume, mirrored, device="cpu", preset="exact", tta=True))
    told = [e.message for e in events if isinstance(e, Notice)]
    assert "a model that finds objects sees each window once: tta changes nothing" in told
    with pytest.raises(NotSupportedError, match="runs with torch: leave backend out"):
        ms.segment(volume, model, device="cpu", backend="openvino")
