"""Doubts and suggestions are streamed: what is taken at once does not grow with the planes of the image."""

from __future__ import annotations

from pathlib import Path

import napari_medseg as ms
from tall import taken_at_once


def test_what_a_suggestion_takes_at_once_does_not_grow_with_the_planes(ball_model: Path) -> None:
    def suggested(image: ms.Volume) -> object:
        return ms.suggest([image], ball_model, count=3, device="cpu")

    few, many = taken_at_once(48, suggested), taken_at_once(96, suggested)
    assert few == many
    assert 0 < many[0] < 48 * 20 * 16


def test_what_doubts_take_at_once_does_not_grow_with_the_planes(ball_model: Path, tmp_path: Path) -> None:
    def doubted(image: ms.Volume) -> object:
        return ms.doubts(image, ball_model, out=tmp_path / f"{image.grid.shape[0]}.zarr", device="cpu")

    few, many = taken_at_once(48, doubted), taken_at_once(96, doubted)
    assert few == many
    assert 0 < many[0] < 48 * 20 * 16
