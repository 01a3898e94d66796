from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize

from napari_medseg.geometry import Triple
from napari_medseg.transforms.spatial import resample
from napari_medseg.transforms.splines import coarse_axis, nnunet_maps, spline_map


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("n_old", "n_new"), [(40, 57), (57, 40), (13, 50), (3, 7), (2, 5), (1, 4), (60, 1), (9, 9)])
def test_an_axis_is_resampled_as_skimage_does(n_old: int, n_new: int, order: int) -> None:
    values = np.random.default_rng(0).normal(size=(n_old, 1, 1)).astype(np.float32)
    expected = resize(values, (n_new, 1, 1), order, mode="edge", anti_aliasing=False, clip=False)
    axis = spline_map(n_old, n_new, 1 if order == 1 else 3)
    one = spline_map(1, 1, 1)
    found = resample(torch.from_numpy(values), (axis, one, one)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (np.diff(axis.first) >= 0).all()


@pytest.mark.parametrize(
    ("old", "new", "axis"),
    [
        ((1.0, 1.0, 1.0), (1.5, 1.5, 1.5), None),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), 1),
        ((4.0, 4.0, 1.0), (1.0, 1.0, 1.0), None),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_a_coarse_axis_is_resampled_apart(old: Triple, new: Triple, axis: int | None) -> None:
    assert coarse_axis(old, new) == axis


def test_along_a_coarse_axis_the_nearest_slice_is_taken() -> None:
    z, y, _ = nnunet_maps((4, 8, 8), (8, 12, 12), ((5.0, 1.0, 1.0), (2.5, 0.7, 0.7)), "image")
    assert z.first.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (z.taps, y.taps > 4) == (1, True)
