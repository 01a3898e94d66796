"""The configs of public bundles convert, with weights that MONAI's own classes made; what stays outside is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from napari_medseg.errors import MedsegError
from napari_medseg.foreign import convert_model
from napari_medseg.models.file import Model, load_model
from napari_medseg.models.pipeline import Region, Sliding, Step
from network_suite import noise

pytestmark = [
    pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning"),
    pytest.mark.filterwarnings("ignore:.*arch_code.*:UserWarning"),
]
FAST = (
    "spleen_ct",
    "wholeBody_ct",
    "brats_mri",
    "ventricular_short_axis_3label",
    "pediatric_abdominal_ct",
    "pancreas_ct_dints",
)
"""Of each kind of config one; the others are slow."""


def converted(name: str, tmp_path: Path) -> tuple[Model, torch.nn.Module]:
    bundle = zoo.BUNDLES[name]
    source = zoo.source_network(bundle, small=True)
    return convert_model(
        zoo.write_bundle(tmp_path / name, bundle, source, small=True), tmp_path / "m.safetensors"
    ), source


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in zoo.BUNDLES])
def test_it_converts_and_computes_the_same(name: str, tmp_path: Path) -> None:
    bundle = zoo.BUNDLES[name]
    model, source = converted(name, tmp_path)
    assert load_model(model.path).spec == model.spec, "as it is read back"
    names = [n for n in bundle.names if n != "background"]
    assert list(model.spec.labels.values()) == names or name == "brats_mri"
    channels = model.spec.arguments["in_channels"]
    assert isinstance(channels, int)
    dims = 3 if model.spec.mode == "3d" else 2
    # At 32 voxels some networks have one voxel at the bottom, which ours makes two.
    deep = dims == 2 or model.spec.network in ("dints", "swinunetr") or name == "prostate_mri_anatomy"
    edge = 96 if "UNEST" in name else 64 if deep else 32
    x = noise(1, channels, (edge,) * dims)
    clicks = torch.zeros(1, 2, *x.shape[2:]) if name == "spleen_deepedit" else torch.zeros(1, 0, *x.shape[2:])
    with torch.inference_mode():
        torch.testing.assert_close(model.load_network()(x), source(torch.cat([x, clicks], 1)), rtol=1e-4, atol=1e-4)


def test_regions_of_the_brain_are_stated(tmp_path: Path) -> None:
    model, _ = converted("brats_mri", tmp_path)
    assert model.spec.output.regions == (
        Region(name="Tumor core", label=1, rank=2),
        Region(name="Whole tumor", label=2, rank=1),
        Region(name="Enhancing tumor", label=4, rank=3),
    )
    assert dict(model.spec.labels) == {1: "Tumor core", 2: "Whole tumor", 4: "Enhancing tumor"}
    assert model.spec.orientation == "xyz"
    assert [step.document() for step in model.spec.steps] == [{"kind": "zscore", "over": "nonzero"}]


def test_expressions_choose_spacing_and_weights(tmp_path: Path) -> None:
    model, _ = converted("wholeBody_ct", tmp_path)
    assert model.spec.spacing_zyx_mm == (1.5, 1.5, 1.5)
    assert model.spec.sliding == Sliding(overlap=0.25, padding="replicate")
    assert model.spec.output.brought_back == "labels"
    assert model.spec.steps == (
        Step(kind="resample", method="corners"),
        Step(kind="zscore", over="nonzero", together=True),
        Step(kind="minmax", to_low=-1.0, to_high=1.0, together=True),
    )


OUTSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "prompts": ({"_target_": "monai.networks.nets.VISTA3D"}, "VISTA3D is a network that waits for prompts"),
    "generation": ({"_target_": "monai.networks.nets.AutoencoderKL"}, "a network that generates images"),
    "detection": ({"_target_": "monai.networks.nets.RetinaNet"}, "a network that detects boxes"),
}


@pytest.mark.parametrize(("network", "told"), OUTSIDE.values(), ids=OUTSIDE)
def test_what_stays_outside_is_named(network: dict[str, Any], told: str, tmp_path: Path) -> None:
    bundle = zoo.Published(network, zoo.window(10, 0, 1), ["background", "x"])
    folder = zoo.write_bundle(tmp_path / "b", bundle, torch.nn.Conv3d(1, 1, 1), small=False)
    with pytest.raises(MedsegError, match=told):
        convert_model(folder, tmp_path / "m.safetensors")


HOSTILE = {
    "tag": ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "nothing as a number": ("a: [!!int ]", "a value is of no known kind"),
    "anchor": ("a: &x [1]\nb: [*x, *x]", "anchors and aliases are not allowed"),
    "twice": ("a: 1\na: 2", "is there twice"),
    "deep": ("[" * 5000, "nested too deeply|expected"),
    "number": ("a: .inf", "a number is not finite"),
    "date": ("a: 2001-01-01", "is no plain value"),
    "not closed": ("a: [1, 2", "expected"),
    "large": ("a: " + "x" * 2**19, "of this size"),
}


@pytest.mark.parametrize(("text", "told"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    folder = zoo.write_bundle(tmp_path / "b", zoo.BUNDLES["multi_organ"], torch.nn.Conv3d(1, 1, 1), small=True)
    (folder / "configs/inference.yaml").write_text(text)
    with pytest.raises(MedsegError, match=told) as caught:
        convert_model(folder, tmp_path / "m.safetensors")
    assert "inference.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
