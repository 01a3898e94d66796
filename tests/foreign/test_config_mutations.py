"""Mutations of configs, plans and ModelSpecs: understood or refused, never a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_mutations import fuzz, fuzz_specs, fuzz_texts
from napari_medseg.errors import ModelFileError
from napari_medseg.foreign.monai.networks import network_of
from napari_medseg.models.pipeline import Output, Sliding, Step
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.registry import network

MANY = 100_000


def spec_text() -> str:
    return ModelSpec(
        network="unet3d",
        arguments=network("unet3d").arguments(channels=(4, 8), deep_supervision=False),
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "liver"},
        patch_zyx=(8, 8, 8),
        spacing_zyx_mm=(1, 1, 1),
        normalisation=(Normalisation(kind="none"),),
        steps=(Step(kind="clip", low=0, high=1), Step(kind="resample", method="corners", kept_axes=(0,))),
        output=Output(brought_back="labels", largest=((1,),)),
        sliding=Sliding(overlap=0.5),
        deep_supervision=False,
    ).to_json()


@pytest.mark.parametrize("count", [600, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_config_crashes(count: int) -> None:
    done = fuzz(count)
    assert sum(done.values()) == count
    assert min(done.values()) > count // 50


@pytest.mark.parametrize("count", [60, pytest.param(5_000, marks=pytest.mark.slow)])
def test_no_text_crashes(count: int, tmp_path: Path) -> None:
    assert 0 < fuzz_texts(count, tmp_path) < count


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_spec_crashes(count: int) -> None:
    assert 0 < fuzz_specs(count, spec_text()) < count


def test_a_number_of_axes_that_no_image_has_is_refused_before_it_is_used() -> None:
    definition = {"_target_": "monai.networks.nets.DynUNet", "strides": [1, 2], "spatial_dims": 10**12}
    with pytest.raises(ModelFileError, match="spatial_dims must be 2 or 3"):
        network_of(Path("inference.json"), definition)
