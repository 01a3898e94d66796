"""A landmark through read -> layer -> Segmentation -> write -> read, in every orientation and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels

from grids import ORIENTATIONS, grid
from napari_medseg import Segmentation, Volume, read, read_segmentation, write
from napari_medseg.widgets.layers import labels_layer, to_segmentation, to_volume, volume_layer

TILT = (0.12, -0.19, 0.28)
LANDMARK = (2, 1, 2)
IDS = np.array([0, 3, 70_000, 2**31 - 1])


@pytest.mark.parametrize("oblique", [False, True], ids=["aligned", "oblique"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".zarr"])
def test_a_landmark_stays_and_labels_are_bit_exact(tmp_path: Path, suffix: str, oblique: bool) -> None:
    assert len(ORIENTATIONS) == 48
    rng = np.random.default_rng(0)
    for orientation in ORIENTATIONS:
        where = grid(orientation, angles_rad=TILT if oblique else (0.0, 0.0, 0.0))
        assert where.orientation == orientation
        assert where.is_oblique == oblique
        landmark = where.index_to_world(LANDMARK)
        labels = IDS[rng.integers(0, 4, where.shape)].astype(np.int32)
        image = rng.integers(-1000, 3000, (1, *where.shape)).astype(np.int16)
        write(tmp_path / f"image{suffix}", Volume(image, where))
        write(tmp_path / f"labels{suffix}", Segmentation(labels, where, {3: "three"}))

        image_data, image_arguments, _ = volume_layer(read(tmp_path / f"image{suffix}"))[0]
        label_data, label_arguments, _ = labels_layer(read_segmentation(tmp_path / f"labels{suffix}"))
        layers = [Image(image_data, **image_arguments), Labels(label_data, **label_arguments)]
        volume, segmentation = to_volume(layers[0], layers), to_segmentation(layers[1], layers)
        write(tmp_path / f"again{suffix}", segmentation)
        again = read_segmentation(tmp_path / f"again{suffix}")

        np.testing.assert_array_equal(np.asarray(volume.data[...]), image, err_msg=orientation)
        np.testing.assert_array_equal(np.asarray(again.data[...]), labels, err_msg=orientation)
        # the arrays are as stored all the way, so the landmark keeps its index
        for reached in (volume.grid, segmentation.grid, again.grid):
            moved = reached.index_to_world(LANDMARK) - landmark
            assert np.linalg.norm(moved) <= 0.01, orientation
        assert again.labels[3] == "three"
