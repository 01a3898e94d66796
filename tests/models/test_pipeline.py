"""What a model file says of another program's steps, outputs and windows: closed, bounded, read back equal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from napari_medseg.errors import InputError
from napari_medseg.models.pipeline import Output, Region, Sliding, Step
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, Stage
from napari_medseg.registry import network


def spec_of(**changed: Any) -> ModelSpec:
    usual: dict[str, Any] = {
        "network": "unet3d",
        "arguments": network("unet3d").arguments(channels=(4, 8), out_channels=3, deep_supervision=False),
        "channels": (Channel(name="CT", modality="CT"),),
        "labels": {1: "whole", 2: "core", 4: "inner"},
        "patch_zyx": (8, 8, 8),
        "normalisation": (Normalisation(kind="none"),),
        "deep_supervision": False,
        "output": Output(regions=tuple(Region(name=n, label=k, rank=k) for n, k in (("w", 1), ("c", 2), ("i", 4)))),
    }
    return ModelSpec(**{**usual, **changed})


def test_everything_is_read_back_equal() -> None:
    spec = spec_of(
        size_zyx=(0, 64, 64),
        orientation="zxy",
        steps=(
            Step(kind="crop", over="filled", margin=2),
            Step(kind="percentiles", low=0.5, high=99.5, to_low=0, to_high=1, clipped=True, channel=0),
            Step(kind="resample", method="area", kept_axes=(0,)),
        ),
        output=Output(
            regions=tuple(Region(name=str(k), label=k, rank=3 - k) for k in (0, 1, 2)),
            brought_back="probabilities",
            largest=((1, 2), (4,)),
        ),
        sliding=Sliding(overlap=0.7, blending="constant", padding="replicate", positions="even"),
        recipe=Recipe(mirror_axes=(0, 2), mirrored=True),
    )
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.has_pipeline
    assert spec.outputs == 3


def test_a_file_without_them_says_nothing_of_them() -> None:
    arguments = network("unet3d").arguments(channels=(4, 8), out_channels=4, deep_supervision=False)
    spec = spec_of(output=Output(), arguments=arguments)
    assert not spec.has_pipeline
    assert not {"steps", "output", "sliding", "size_zyx"} & set(json.loads(spec.to_json()))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "blur"}, "step kind is one of"),
        ({"kind": "affine", "factor": 1.0}, "a step affine needs offset"),
        ({"kind": "clip"}, "a step clip needs low or high"),
        ({"kind": "clip", "low": 1, "method": "area"}, "a step clip takes no method"),
        ({"kind": "clip", "low": float("nan")}, "step value must be a number"),
        ({"kind": "minmax", "to_low": 0, "to_high": 1e300}, "step value must be a number"),
        ({"kind": "resample", "method": "cubic", "kept_axes": (3,)}, "kept_axes must be some of the axes"),
        ({"kind": "percentiles", "low": 5, "high": 1, "to_low": 0, "to_high": 1}, "0 <= low < high <= 100"),
        ({"kind": "zscore", "over": "some"}, "step over is one of"),
        ({"kind": "zscore", "together": 1}, "step together must be true or false"),
        ({"kind": "crop", "over": "positive", "margin": 10**9}, "step margin must be a whole number"),
    ],
)
def test_steps_out_of_bounds_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Step(**fields)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"steps": (Step(kind="resample", method="corners"),)}, "needs a spacing or a size"),
        ({"steps": (Step(kind="zscore"),), "recipe": Recipe(statistics="box")}, "holds mirrors only"),
        ({"size_zyx": (4, 4, 4)}, "a size needs a step that resamples"),
        ({"size_zyx": (4, 4, 4), "spacing_zyx_mm": (1, 1, 1)}, "not to both"),
        ({"steps": (Step(kind="zscore", channel=1),)}, "a channel that is not there"),
        ({"steps": (Step(kind="zscore"),), "normalisation": (Normalisation(kind="zscore"),)}, "among them"),
        ({"output": Output(regions=(Region(name="x", label=1, rank=0),))}, "1 regions need as many out_channels"),
        ({"labels": {1: "whole"}}, "a region has a label that is not among the labels"),
        ({"output": Output(largest=((9,),))}, "need out_channels|not among the labels"),
        ({"first": Stage(model=spec_of(), guide="boxes")}, "needs the guide labels"),
        ({"orientation": "xyx"}, "orientation needs one letter each"),
        ({"steps": (Step(kind="resample", method="area"),) * 2}, "steps hold two that resample"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        spec_of(**changed)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("steps", [{"kind": "clip", "low": 0, "run": "x"}], "a step has an unknown key 'run'"),
        ("steps", [3], "a step must be a JSON object"),
        ("output", {"regions": [{"name": "x"}]}, "regions must be JSON objects with name, label and rank"),
        ("output", {"code": "x"}, "output has an unknown key 'code'"),
        ("sliding", {"overlap": 2}, "sliding overlap must be a number"),
    ],
)
def test_documents_of_another_form_are_refused(key: str, value: Any, told: str) -> None:
    document = {**json.loads(spec_of().to_json()), key: value}
    with pytest.raises(InputError, match=told):
        ModelSpec.from_json(json.dumps(document))
