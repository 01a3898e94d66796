"""Where a memory network looks: in the annotated slices, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import marked
import napari_medseg as ms
from napari_medseg.errors import InputError
from napari_medseg.explanation.check import Check
from napari_medseg.explanation.randomised import NETWORKS
from napari_medseg.explanation.reads import _effect

TINY: dict[str, object] = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8, "aspp": False}


def test_reads_lie_in_the_annotated_slices_around_the_object(tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    ms.train([marked.phantom(1000)[:2]], out=path, scheme="memory", arguments=TINY, epochs=1, batch_size=2, val=0)
    volume, labels, region = marked.phantom()
    data = np.asarray(labels.data)
    held = np.flatnonzero(data.any((1, 2)))
    kept, between = [int(held[1]), int(held[-2])], int(held[len(held) // 2])
    chosen = np.zeros_like(data)
    chosen[kept] = data[kept]
    slices = ms.Segmentation(chosen, labels.grid, {1: "ball"}, name="slices")
    _, y, x = (int(i) for i in np.argwhere(data[between : between + 1])[0])
    heat = ms.explain(
        volume, path, label="ball", method="memory-read", labels=slices, voxel=(between, y, x), check=True
    )
    values = np.asarray(heat.data[0])
    assert heat.grid == volume.grid
    assert np.flatnonzero(values.any((1, 2))).tolist() == kept
    there = np.zeros_like(region)
    there[kept] = region[kept]
    assert marked.share_inside(values, there) >= 3
    made = Check.of(heat)
    assert made is not None
    assert len(set(made.each)) == NETWORKS
    plain = ms.explain(volume, path, label="ball", method="memory-read", labels=slices, weighted=False)
    assert not np.array_equal(np.asarray(plain.data[0]), values)
    with pytest.raises(InputError, match="lies in an annotated slice"):
        ms.explain(volume, path, method="memory-read", labels=slices, voxel=(kept[0], y, x))
    with pytest.raises(InputError, match="leave component out"):
        ms.explain(volume, path, method="memory-read", labels=slices, component=1)


def test_a_place_counts_by_what_more_attention_to_it_does() -> None:
    """The derivative by the logits of the softmax, shifted for all queries at once."""
    torch.manual_seed(0)
    logits, value = torch.randn(5, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    shift = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    weights = (logits + shift).softmax(1)
    score = (weights @ value).sum()
    (expected,) = torch.autograd.grad(score, shift)
    torch.testing.assert_close(_effect(weights.detach(), value.expand(5, 4)), expected.clamp(min=0))
    assert not _effect(weights.detach(), torch.full((5, 4), 3.0, dtype=torch.float64)).gt(1e-12).any()
