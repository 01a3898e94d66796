"""Where a memory network looks: in the annotated slices, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import marked
import napari_medseg as ms
from napari_medseg.errors import InputError
from napari_medseg.explanation.check import Check

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
    assert Check.of(heat) is not None
    with pytest.raises(InputError, match="lies in an annotated slice"):
        ms.explain(volume, path, method="memory-read", labels=slices, voxel=(kept[0], y, x))
    with pytest.raises(InputError, match="leave component out"):
        ms.explain(volume, path, method="memory-read", labels=slices, component=1)
