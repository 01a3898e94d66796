"""A map is streamed: what is held at once does not grow with the planes of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import napari_medseg as ms
from tall import held_by, tall


def test_what_a_map_holds_does_not_grow_with_the_planes(ball_model: Path, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).normal(size=(12, 20, 16)).astype(np.float32)

    def work(depth: int) -> tuple[int, int]:
        out = tmp_path / f"{depth}.zarr"
        return held_by(lambda: ms.explain(tall(planes, depth), ball_model, method="gradient", check=True, out=out))

    work(8)  # what is imported and compiled once
    (few, few_elements), (many, many_elements) = work(70), work(140)
    assert many_elements == few_elements < planes[0].size * 70
    assert many - few < 70 * planes[0].nbytes / 2
