"""A map is streamed: what is taken at once does not grow with the planes of the image."""

from __future__ import annotations

from pathlib import Path

import napari_medseg as ms
from tall import taken_at_once


def test_what_a_map_takes_at_once_does_not_grow_with_the_planes(ball_model: Path, tmp_path: Path) -> None:
    few, many = (
        taken_at_once(depth, lambda image, out=tmp_path / f"{depth}.zarr": ms.explain(image, ball_model, out=out))
        for depth in (48, 96)
    )
    assert few == many
    assert 0 < many[0] < 48 * 20 * 16
