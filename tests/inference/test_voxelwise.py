"""Networks whose right answer is known at each voxel: every way of running them must give it everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_medseg import Grid, Segmentation, Volume, registry
from napari_medseg.config import SegmentConfig
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import segment_windows
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.pipeline import Sliding
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, Mode, ModelSpec, Normalisation


class Voxelwise(nn.Module):
    """The label of a voxel is its value, 0, 1 or 2, in the slice in the middle of those that it gets as channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = x[:, x.shape[1] // 2]
        return torch.stack([k * value - k * k / 2 for k in range(3)], dim=1)


def spec_of(mode: Mode, patch: tuple[int, int, int], *, as_nnunet: bool) -> ModelSpec:
    dims, slices = (3 if mode == "3d" else 2), (patch[0] if mode == "2.5d" else 1)
    own: dict[str, Any] = {"in_channels": slices, "out_channels": 3, "channels": (4, 8), "deep_supervision": False}
    return ModelSpec(
        network="unet3d",
        arguments=registry.network("unet3d").arguments(spatial_dims=dims, **own),
        channels=(Channel(name="image", modality="other"),),
        labels={1: "one", 2: "two"},
        patch_zyx=patch,
        normalisation=(Normalisation(kind="none"),),
        mode=mode,
        deep_supervision=False,
        recipe=Recipe(mirror_axes=(0, 1, 2) if mode == "3d" else (1, 2)),
        sliding=Sliding(positions="even") if as_nnunet else Sliding(),
    )


@pytest.mark.parametrize("as_nnunet", [False, True], ids=["own_places", "places_of_nnunet"])
@pytest.mark.parametrize("preset", ["exact", "balanced", "fast"])
@pytest.mark.parametrize("mode", ["2d", "2.5d", "triplanar", "3d"])
@given(st.data())
@settings(max_examples=6, deadline=None)
def test_labels_are_right_at_every_voxel(mode: Mode, preset: str, as_nnunet: bool, data: st.DataObject) -> None:
    sides = st.integers(1, 14)
    z, y, x = (data.draw(sides) for _ in range(3))
    depth = {"2d": st.just(1), "2.5d": st.sampled_from([1, 3, 5])}.get(mode, st.integers(1, 6))
    patch = (data.draw(depth), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
    values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 3, (z, y, x)).astype(np.float32)
    volume = Volume(values[None], Grid.from_spacing((z, y, x), (1.0, 1.0, 1.0)))
    spec = spec_of(mode, patch, as_nnunet=as_nnunet)
    overlap = data.draw(st.sampled_from([None, 0.0, 0.3, 0.6, 0.9]))
    config = SegmentConfig(preset=preset, overlap=overlap, tta=data.draw(st.booleans()))  # type: ignore[arg-type]
    plan = resolve(ImageFacts.of(volume), spec, config, Machine())
    predictor = Predictor.of(Voxelwise(), spec, torch.device("cpu"), "fp32").mirrored_as(plan)
    result = Segmentation(np.zeros((z, y, x), np.uint8), volume.grid, spec.labels)
    for _ in segment_windows(volume, plan, predictor, result):
        pass
    np.testing.assert_array_equal(np.asarray(result.data), values)
