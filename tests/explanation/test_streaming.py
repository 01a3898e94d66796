"""A map is streamed: what is held at once does not grow with the planes of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import marked
import napari_medseg as ms
from tall import held_by, tall


@pytest.mark.parametrize("method", ["gradient", "grad-cam"])
def test_what_a_map_holds_does_not_grow_with_the_planes(tmp_path: Path, method: str) -> None:
    model = marked.trained(tmp_path, "attention_unet", steps=0)
    planes = np.asarray(marked.phantom()[0].data[0])

    def work(depth: int) -> tuple[int, int]:
        out = tmp_path / f"{depth}.zarr"
        return held_by(lambda: ms.explain(tall(planes, depth), model, method=method, check=True, out=out))

    work(8)  # what is imported and compiled once
    (few, few_elements), (many, many_elements) = work(70), work(140)
    assert many_elements == few_elements < planes[0].size * 140
    assert many - few < 70 * planes[0].nbytes / 4
