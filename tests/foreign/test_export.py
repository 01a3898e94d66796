"""Our models as MONAI bundles and ONNX graphs: read back equal, and run by MONAI and onnxruntime."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser

import zoo
from napari_medseg.cli import main
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.monai.export import SPEC_KEY, export_model
from napari_medseg.models.file import Channel, Model, ModelSpec, Normalisation, write_model
from napari_medseg.registry import network
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
