"""The arguments of networks, read off the names and shapes of their tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_medseg.cli import main
from napari_medseg.errors import ModelFileError
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.asked import Asked
from napari_medseg.foreign.shapes import read_off, shapes_of
from napari_medseg.models.file import load_model
from napari_medseg.registry import network
from network_suite import noise

SMALL: Mapping[str, Mapping[str, Any]] = {
    "segresnet": {"init_filters": 8, "blocks_down": (1, 2), "blocks_up": (1,), "upsample": "deconv"},
    "monai_unet": {"channels": (8, 16, 24), "strides": (2, 2), "num_res_units": 1, "norm": "batch"},
    "basicunet": {"features": (4, 8, 8, 16, 16, 4), "norm": "batch"},
    "vnet": {},
    "highresnet": {"features": (8, 16, 24, 40)},
}
SLOW: Mapping[str, Mapping[str, Any]] = {
    "dynunet": {"filters": (4, 8, 12, 16), "kernel_sizes": (3,) * 4, "strides": (1, 2, 2, 2), "res_block": True},
    "unest": {"feature_size": 2, "depths": (1, 2, 1)},
    "unetr": {"hidden_size": 96, "mlp_dim": 128, "num_heads": 6, "feature_size": 8, "positions": 4},
    "unet3d": {"channels": (4, 8, 8)},
    "monai_attention_unet": {"channels": (8, 16, 32), "strides": (2, 2)},
    "segresnetds": {"init_filters": 8, "blocks_down": (1, 2, 2)},
    "nnunet": {
        "features": (4, 8, 8),
        "kernel_sizes": (1, 3, 3, 3, 3, 3, 3, 3, 3),
        "strides": (1, 1, 1, 1, 2, 2, 2, 2, 2),
        "blocks": (2, 2, 2),
        "decoder_blocks": (2, 2),
    },
    "swinunetr": {"feature_size": 12},
    "flexibleunet": {"spatial_dims": 2, "backbone": "resnet18", "decoder_channels": (64, 32, 16, 8, 8)},
    "mednext": {"init_filters": 8, "blocks": (1, 1, 1), "expansion": (2, 2, 2)},
    "unetpp": {},
    "attention_unet": {},
}


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_shapes_tell_the_arguments(name: str) -> None:
    spec = network(name)
    given = spec.arguments(**{"in_channels": 2, "out_channels": 4, **SMALL.get(name, {}), **SLOW.get(name, {})})
    shapes = shapes_of(spec, given)
    assert shapes is not None
    found = spec.arguments(**read_off(spec, shapes, lambda own: own, {}))  # type: ignore[arg-type]
    assert found == given


@pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.model.net.", "network."])
def test_prefixes_in_any_nesting(prefix: str, tmp_path: Path) -> None:
    source = network("segresnet").build(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)).eval()
    state = {prefix + name.removeprefix("net."): tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "w.ckpt")
    model = convert_model(tmp_path / "w.ckpt", tmp_path / "m.safetensors", network="segresnet")
    x = noise(1, 1, (16, 16, 16))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), source(x))


def test_what_no_shape_tells_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = network("monai_unet").build(channels=(4, 8), strides=(4,), num_res_units=0).eval()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    (tmp_path / "a.json").write_text('{"strides": [4], "num_res_units": 0}')
    argv = ["convert", str(tmp_path / "w.pt"), "--network", "monai_unet", "-o", str(tmp_path / "m.safetensors")]
    said = ["--arguments", str(tmp_path / "a.json"), "--spacing", "2", "1", "1", "--intensities", "zscore"]
    assert main([*argv, *said, "--modality", "MR"]) == 0
    assert "warning" not in capsys.readouterr().err.lower()
    model = load_model(tmp_path / "m.safetensors")
    assert model.spec.arguments["strides"] == (4,)
    assert list(model.spec.spacing_zyx_mm or ()) == [2, 1, 1]
    assert model.spec.normalisation[0].kind == "zscore"
    assert model.spec.channels[0].modality == "MR"
    x = noise(1, 1, (16, 16, 16))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), source(x))
    (tmp_path / "a.json").write_text(json.dumps({"strides": "$__import__('os')"}))
    assert main([*argv, *said]) == 2
    assert "expressions are not allowed" in capsys.readouterr().err


def test_the_first_tensor_that_differs_is_named_with_both_shapes(tmp_path: Path) -> None:
    state = network("segresnet").build(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)).state_dict()
    state["net.convInit.conv.weight"] = torch.zeros(8, 1, 5, 5, 5)
    torch.save(state, tmp_path / "w.pt")
    told = r"tensor 'net.convInit.conv.weight': expected shape \[8, 1, 3, 3, 3\], found \[8, 1, 5, 5, 5\]"
    with pytest.raises(ModelFileError, match=told):
        convert_model(tmp_path / "w.pt", tmp_path / "m.safetensors", network="segresnet")


@pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")
def test_one_output_is_a_region(tmp_path: Path) -> None:
    torch.save(network("unet3d").build(channels=(4, 8), out_channels=1).state_dict(), tmp_path / "w.pt")
    asked = Asked(network="unet3d", labels={3: "lesion"})
    spec = convert_model(tmp_path / "w.pt", tmp_path / "m.safetensors", asked=asked).spec
    (region,) = spec.output.regions
    assert (region.name, region.label, dict(spec.labels)) == ("lesion", 3, {3: "lesion"})
