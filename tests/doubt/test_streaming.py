"""Doubts and suggestions are streamed: what is held at once does not grow with the planes of the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.doubt.look import MOST_CELLS
from tall import held_by, tall

WORK: dict[str, Callable[[ms.Volume, Path, Path], object]] = {
    "suggest": lambda image, model, _: ms.suggest([image], model, kind="region", device="cpu"),
    "doubts": lambda image, model, out: ms.doubts(image, model, kinds=["entropy"], out=out, device="cpu"),
}


@pytest.mark.parametrize("name", WORK)
def test_what_is_held_does_not_grow_with_the_planes(ball_model: Path, tmp_path: Path, name: str) -> None:
    planes = np.random.default_rng(0).normal(size=(12, 20, 16)).astype(np.float32)

    def work(depth: int) -> tuple[int, int]:
        return held_by(lambda: WORK[name](tall(planes, depth), ball_model, tmp_path / f"{depth}.zarr"))

    work(8)  # what is imported and compiled once
    (few, few_elements), (many, many_elements) = work(MOST_CELLS), work(2 * MOST_CELLS)
    assert many_elements == few_elements < planes[0].size * MOST_CELLS
    assert many - few < MOST_CELLS * planes[0].nbytes / 2
