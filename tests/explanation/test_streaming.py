"""A map is streamed: what is taken at once does not grow with the planes of the image."""

from __future__ import annotations

from pathlib import Path

import napari_medseg as ms
from tall import taken_at_once


def test_what_a_map_takes_at_once_does_not_grow_with_the_planes(ball_model: Path, tmp_path: Path) -> None:
    def explained(image: ms.Volume) -> object:
        return ms.explain(image, ball_model, out=tmp_path / f"{image.grid.shape[0]}.zarr")

    few, many = taken_at_once(48, explained), taken_at_once(96, explained)
    assert few == many
    assert 0 < many[0] < 48 * 20 * 16
