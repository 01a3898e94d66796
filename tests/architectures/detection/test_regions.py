"""RoIAlign against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.architectures.detection.regions import places_in, roi_align


def test_a_linear_map_gives_its_own_values_in_3d() -> None:
    """Voxel (z, y, x) holds 100 z + 10 y + x: between voxels, so does every place, with the voxel's middle at + 0.5."""
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (6, 5, 4)], indexing="ij")
    features = torch.stack((100 * z + 10 * y + x, -z))
    box = torch.tensor([[1.0, 1.0, 0.5, 5.0, 4.0, 3.5]])
    found = roi_align(features, box, (6, 5, 4), 2)
    assert found.shape == (1, 2, 2, 2, 2)
    # Bins of 2 x 1.5 x 1.5 voxels: their middles lie at z 2 and 4, y 1.75 and 3.25, x 1.25 and 2.75.
    assert found[0, 0, 0, 0, 0].item() == pytest.approx(100 * 1.5 + 10 * 1.25 + 0.75)
    assert found[0, 0, 1, 0, 1].item() == pytest.approx(100 * 3.5 + 10 * 1.25 + 2.25)
    assert found[0, 1, 0, 1, 0].item() == pytest.approx(-1.5)


def test_a_coarse_map_covers_the_same_edges() -> None:
    """One voxel of a map of stride 2 in 2D, and each of several boxes its own value."""
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    assert roi_align(features, boxes, (4, 4), 1).flatten().tolist() == pytest.approx([1.0, 4.0, 2.5])


def test_beyond_the_map_its_border_is_repeated() -> None:
    assert (roi_align(torch.ones(1, 3, 3), torch.tensor([[-9.0, 0.0, 9.0, 3.0]]), (3, 3), 4) == 1).all()


def test_places_are_the_middles_of_bins() -> None:
    assert places_in(torch.tensor([[0.0, 1.0, 4.0, 3.0]]), 2).tolist() == [[[1.0, 3.0], [1.5, 2.5]]]
