"""The square that the memory network sees: where it lies, and there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.interactive.guided.region import Square, normalised


def held(
    rows: slice, columns: slice, shape: tuple[int, int] = (40, 30)
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def test_the_square_lies_around_the_object_in_mm() -> None:
    # 4 rows of 2 mm and 4 columns of 1 mm: 8 mm and 8 more on each side; rows 18 .. 21 have their middle at 39 mm.
    square = Square.around(held(slice(18, 22), slice(10, 14)), (2.0, 1.0), 16, margin=0)
    assert square.side_mm == 8 + 2 * 8
    assert square.box == (slice(13, 27), slice(0, 25))
    assert square.low_mm == (39 - 12 - 13 * 2, 11.5 - 12)


@pytest.mark.parametrize("rows", [slice(0, 4), slice(15, 20), slice(37, 40)])
def test_there_and_back_is_the_same_mask(rows: slice) -> None:
    mask = held(rows, slice(5, 12))
    square = Square.around(mask, (1.0, 1.0), 96)
    cropped = torch.from_numpy(mask[square.box].astype(np.float32))[None]
    assert square.cut(cropped).shape == (1, 96, 96)
    assert torch.equal(square.paste(square.cut(cropped)) > 0.5, cropped > 0.5)


def test_intensities_follow_the_annotated_slices() -> None:
    planes = np.stack([np.full((3, 4), np.nan), np.arange(12).reshape(3, 4), np.full((3, 4), 1e6)])
    found = normalised(planes, [1])
    assert abs(float(found[1].mean())) < 1e-5
    assert float(found[1].std()) == pytest.approx(1, abs=1e-4)
    assert found.isfinite().all()
    assert float(found.abs().max()) <= 5
