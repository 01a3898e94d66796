"""A run that finds nothing says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Notice
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.runs.files import segmenting_case

SHAPE = (8, 16, 16)


@pytest.mark.parametrize("name", ["out.zarr", "out.nii.gz"])
def test_labels_without_a_voxel_are_told(name: str, tmp_path: Path) -> None:
    model = write_brighter(tmp_path / "m.safetensors", segmenter(spec_of(patch=SHAPE)))
    image = np.zeros((1, *SHAPE), np.float32)
    for value, told in ((0.0, 1), (1.0, 0)):
        image[0, 3, 5:9, 5:9] = value
        path = tmp_path / "a.nii.gz"
        ms.write(path, ms.Volume(image, ms.Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))))
        config = SegmentConfig(device="cpu")
        events = list(segmenting_case(Case(name="a", images=(path,)), model, config, Wanted(tmp_path / name)))
        found = [e.message for e in events if isinstance(e, Notice) and "no voxel is labelled" in e.message]
        assert len(found) == told
