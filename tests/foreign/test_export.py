"""Our models as MONAI bundles and ONNX graphs: read back equal, and run by MONAI and onnxruntime."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser

import zoo
from napari_medseg import segment, write
from napari_medseg.cli import main
from napari_medseg.config import CleanConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.monai.export import SPEC_KEY, export_model
from napari_medseg.models.file import Channel, Model, ModelSpec, Normalisation, write_model
from napari_medseg.models.pipeline import Output
from napari_medseg.models.recipe import Recipe
from napari_medseg.registry import network
from napari_medseg.volume import Grid, Volume
from network_suite import noise

pytestmark = [
    pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning"),
    pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning"),
]


def ours(folder: Path) -> Model:
    """A model as training writes it."""
    torch.manual_seed(0)
    arguments = network("unet3d").arguments(channels=(4, 8), out_channels=3)
    spec = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "liver", 4: "tumour"},
        patch_zyx=(8, 16, 16),
        spacing_zyx_mm=(2.5, 1, 1),
        orientation="SPL",
        normalisation=(Normalisation(kind="clip_zscore", low=-100, high=200, mean=50, std=80),),
        deep_supervision=True,
        licence="CC0",
    )
    return write_model(folder / "ours.safetensors", spec, network("unet3d").build_from(arguments).state_dict())


def test_a_bundle_is_read_back_equal(tmp_path: Path) -> None:
    model = ours(tmp_path)
    notes = export_model(model, tmp_path / "bundle")
    assert notes == ("MONAI resamples without the filter against aliasing that is used here",)
    back = convert_model(tmp_path / "bundle", tmp_path / "back.safetensors")
    assert (back.spec, back.sha256) == (model.spec, model.sha256)
    with pytest.raises(InputError, match="is not an empty folder"):
        export_model(model, tmp_path / "bundle")


@pytest.mark.parametrize("imported", [False, True], ids=["ours", "a converted bundle"])
def test_monai_runs_the_bundle(imported: bool, tmp_path: Path) -> None:
    model = ours(tmp_path)
    if imported:
        bundle = zoo.BUNDLES["spleen_ct"]
        source = zoo.write_bundle(tmp_path / "source", bundle, zoo.source_network(bundle, small=True), small=True)
        model = convert_model(source, tmp_path / "m.safetensors")
    export_model(model, tmp_path / "bundle")
    parser = ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/inference.json")
    net = parser.get_parsed_content("network_def")
    names = {f"net.{k}" if imported else k: v for k, v in torch.load(tmp_path / "bundle/models/model.pt").items()}
    net.load_state_dict(names)
    x = noise(1, 1, (16, 16, 16))
    with torch.inference_mode():
        assert torch.equal(net.eval()(x), model.load_network()(x))
    values = torch.tensor([[[[-300.0, -50.0, 0.0, 100.0, 400.0]]]])
    steps = parser.get_parsed_content("preprocessing").transforms[2:]
    changed: dict[str, Any] = {"image": values}
    for step in steps:
        if "Intensity" in type(step).__name__:
            changed = step(changed)
    clipped = np.clip(values.numpy(), -57, 164) if imported else np.clip(values.numpy(), -100, 200)
    expected = (clipped + 57) / 221 if imported else (clipped - 50) / 80
    np.testing.assert_allclose(changed["image"].numpy(), expected, atol=1e-6)


def changed(folder: Path, **fields: Any) -> Model:
    """Our model with other fields, which takes images at their own spacing."""
    arguments = network("unet3d").arguments(channels=(4, 8), out_channels=3, deep_supervision=False)
    plain = {"arguments": arguments, "deep_supervision": False, "spacing_zyx_mm": None, "orientation": "RAS"}
    spec = replace(ours(folder).spec, **{**plain, **fields})
    torch.manual_seed(1)
    return write_model(folder / "m.safetensors", spec, network("unet3d").build_from(spec.arguments).state_dict())


@pytest.mark.parametrize("largest", [(), ((4,), (1,))], ids=["labels", "the largest components"])
def test_monais_labels_are_ours(largest: tuple[tuple[int, ...], ...], tmp_path: Path) -> None:
    """The ids of the model, and what is cleaned, as MONAI writes them with the steps of the bundle."""
    model = changed(tmp_path, output=Output(largest=largest), patch_zyx=(16, 16, 16))
    assert export_model(model, tmp_path / "bundle") == ()
    values = noise(1, 1, (16, 16, 16))[0].numpy() * 200
    volume = Volume(values, Grid.from_spacing((16, 16, 16), (1, 1, 1)), ("CT",))
    write(tmp_path / "v.nii.gz", volume)
    parser = ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/inference.json")
    parser["postprocessing"]["transforms"].pop()
    net = parser.get_parsed_content("network_def")
    net.load_state_dict(torch.load(tmp_path / "bundle/models/model.pt"))
    data = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "v.nii.gz")})
    with torch.inference_mode():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], net.eval())[0]
    expected = parser.get_parsed_content("postprocessing")(data)["pred"][0].numpy().transpose(2, 1, 0)
    found = np.asarray(segment(volume, model, preset="exact", device="cpu").data)
    assert set(np.unique(found)) == {0, 1, 4}
    assert (found == expected).mean() > 0.999


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "mirrors": (
        {"recipe": Recipe(mirror_axes=(0, 2), mirrored=True)},
        "the mean over images mirrored along z, x is left out",
    ),
    "cleaning": ({"cleaning": (CleanConfig(largest=True),)}, "the cleaning of the labels is left out"),
    "as stored": (
        {"orientation": None},
        "images are taken as stored, in the order zyx; MONAI takes them in the order xyz",
    ),
}


@pytest.mark.parametrize(("fields", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_monai_does_otherwise_is_told(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    assert export_model(changed(tmp_path, **fields), tmp_path / "bundle") == (told,)


@pytest.mark.parametrize("mode", ["2.5d", "triplanar"])
def test_windows_that_monai_has_not_are_refused(mode: str, tmp_path: Path) -> None:
    slices = 3 if mode == "2.5d" else 1
    arguments = network("unet3d").arguments(
        channels=(4, 8), in_channels=slices, out_channels=3, deep_supervision=False, spatial_dims=2
    )
    patch = (slices, 16, 16) if mode == "2.5d" else (16, 16, 16)
    model = changed(tmp_path, mode=mode, arguments=arguments, patch_zyx=patch)
    with pytest.raises(NotSupportedError, match=f"MONAI has no inferer for a model of mode {mode}"):
        export_model(model, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_onnx_computes_the_same(tmp_path: Path) -> None:
    model = ours(tmp_path)
    assert main(["convert", str(model.path), "-o", str(tmp_path / "ours.onnx")]) == 0
    graph = onnx.load(tmp_path / "ours.onnx")
    (document,) = [entry.value for entry in graph.metadata_props if entry.key == SPEC_KEY]
    assert ModelSpec.from_json(document) == model.spec
    session = onnxruntime.InferenceSession(str(tmp_path / "ours.onnx"))
    x = noise(1, 1, (8, 16, 16))
    (found,) = session.run(None, {"image": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, model.load_network()(x).numpy(), rtol=1e-3, atol=1e-3)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ours(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(NotSupportedError, match=r"install napari-medseg\[onnx\]"):
        export_model(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="exported as a folder"):
        export_model(model, tmp_path / "m.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


def test_a_spec_of_a_bundle_is_checked(tmp_path: Path) -> None:
    export_model(ours(tmp_path), tmp_path / "bundle")
    path = tmp_path / "bundle/configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata[SPEC_KEY]["network"] = "evil"
    path.write_text(json.dumps(metadata))
    with pytest.raises(OSError, match="its ModelSpec is refused: unknown network 'evil'"):
        convert_model(tmp_path / "bundle", tmp_path / "back.safetensors")
