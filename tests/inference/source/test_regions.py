"""Regions that overlap: as one label map, by their ranks, and each as a layer of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from napari_medseg import read_segmentation
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.foreign import convert_model
from napari_medseg.inference import engine, segment
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.source import regions
from napari_medseg.inference.source.pipeline import largest_kept
from napari_medseg.models.pipeline import Output
from napari_medseg.volume import Grid, Volume

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")


class Levels(nn.Module):
    """Logits of three nested regions of the first channel: above 0.5, above -0.5, above 1.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x[:, :1]
        return torch.cat([first - 0.5, first + 0.5, first - 1.5], 1)


def test_a_label_map_and_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = replace(zoo.BUNDLES["brats_mri"], inferer={**zoo.SLIDING, "roi_size": [8, 8, 8]})
    source = zoo.write_bundle(tmp_path / "b", bundle, zoo.source_network(bundle, small=True), small=True)
    model = convert_model(source, tmp_path / "m.safetensors")
    values = np.random.default_rng(0).normal(0, 1, (4, 9, 10, 11)).astype(np.float32)
    values[:, :2] = 0
    volume = Volume(values, Grid((9, 10, 11), np.eye(4)), tuple(c.name for c in model.spec.channels), name="head")
    predictor = Predictor.of(Levels(), model.spec, torch.device("cpu"), "fp32")
    for module in (engine, regions):
        monkeypatch.setattr(module, "load_predictor", lambda *_: predictor)
    inside = values[0] != 0
    normalised = np.where(inside, (values[0] - values[0][inside].mean()) / values[0][inside].std(), 0)
    whole, core, enhancing = normalised > -0.5, normalised > 0.5, normalised > 1.5
    expected = np.where(enhancing, 4, np.where(core, 1, np.where(whole, 2, 0)))
    found = segment(volume, model, device="cpu")
    assert (np.asarray(found.data) == expected).mean() > 0.999
    with pytest.raises(NotSupportedError, match="labels only"):
        segment(volume, model, probabilities=tmp_path / "p.zarr", device="cpu")
    segment(volume, model, out=tmp_path / "l.zarr", resume=True, device="cpu")
    assert np.array_equal(np.asarray(read_segmentation(tmp_path / "l.zarr").data[...]), np.asarray(found.data))
    layers = regions.segment_regions(volume, model, device="cpu")
    assert list(layers) == ["Tumor core", "Whole tumor", "Enhancing tumor"]
    for layer, mask in zip(layers.values(), (core, whole, enhancing), strict=True):
        assert (np.asarray(layer.data) == mask).mean() > 0.999
        assert layer.grid.same_as(volume.grid)


def test_a_model_without_regions_is_refused(tmp_path: Path) -> None:
    bundle = zoo.BUNDLES["spleen_ct"]
    source = zoo.write_bundle(tmp_path / "b", bundle, zoo.source_network(bundle, small=True), small=True)
    model = convert_model(source, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="no regions that overlap"):
        regions.segment_regions(Volume(np.zeros((1, 4, 4, 4)), Grid((4, 4, 4), np.eye(4)), ("CT",)), model)


def test_the_largest_component_of_a_group_is_kept() -> None:
    labels = np.zeros((1, 3, 8), int)
    labels[0, 0] = [1, 1, 2, 0, 1, 0, 2, 2]
    assert largest_kept(labels.copy(), Output(largest=((1, 2),)))[0, 0].tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    assert largest_kept(labels.copy(), Output(largest=((1,), (2,))))[0, 0].tolist() == [1, 1, 0, 0, 0, 0, 2, 2]
