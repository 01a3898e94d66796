from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from napari_medseg.errors import MedsegError, MedsegWarning
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.monai.networks import network_of
from napari_medseg.foreign.monai.transforms import preprocessing_of
from napari_medseg.inference import segment
from napari_medseg.models.pipeline import Step
from napari_medseg.registry import network
from napari_medseg.volume import Grid, Volume

UNET: Mapping[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 2,
    "norm": "batch",
}
RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -57,
    "a_max": 164,
    "b_min": 0,
    "b_max": 1,
    "clip": True,
}
INFERENCE: Mapping[str, Any] = {
    "imports": ["$import glob"],
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "pixdim": [1.5, 1.5, 2.0],
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
            RANGE,
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
}
METADATA: Mapping[str, Any] = {
    "description": "A spleen in CT",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1, "channel_def": {"0": "image"}}},
        "outputs": {"pred": {"channel_def": {"0": "background", "1": "spleen"}}},
    },
}


def monai_unet() -> nn.Module:
    torch.manual_seed(3)
    unet: nn.Module = nets.UNet(**{k: v for k, v in UNET.items() if k != "_target_"})
    return unet.eval()


def write_bundle(folder: Path, net: nn.Module, inference: Mapping[str, Any] = INFERENCE) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/inference.json").write_text(json.dumps(inference))
    (folder / "configs/metadata.json").write_text(json.dumps(METADATA))
    torch.save(net.state_dict(), folder / "models/model.pt")
    return folder


def changed(change: Callable[[Any], object]) -> Any:
    inference = copy.deepcopy(dict(INFERENCE))
    change(inference)
    return inference


def test_it_segments_as_the_source_network_does(tmp_path: Path) -> None:
    net = monai_unet()
    model = convert_model(write_bundle(tmp_path / "bundle", net), tmp_path / "m.safetensors")
    assert model.spec.labels == {1: "spleen"}
    assert (model.spec.orientation, model.spec.spacing_zyx_mm) == ("RAS", (1.5, 1.5, 2.0))
    assert model.spec.patch_zyx == (16, 16, 16)
    stored = np.random.default_rng(0).integers(-200, 300, (16, 16, 16)).astype(np.int16)  # (S, A, R), at its spacing
    affine = np.diag([2.0, -1.5, -1.5, 1.0])
    as_monai = torch.from_numpy(stored.transpose(2, 1, 0).astype(np.float32))
    scaled = ((as_monai + 57) / 221).clip(0, 1)[None, None]
    with torch.inference_mode():
        expected = net(scaled).argmax(1)[0].numpy().transpose(2, 1, 0)
    found = np.asarray(segment(Volume(stored[None], Grid((16, 16, 16), affine), ("CT",)), model, device="cpu").data)
    assert (found == expected).mean() > 0.9999, "equal but for ties within rounding"
    assert 0 < expected.mean() < 1


def test_a_zipped_bundle_is_the_same(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", monai_unet())
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"spleen/{path.relative_to(folder)}")
    zipped = convert_model(tmp_path / "bundle.zip", tmp_path / "z.safetensors")
    plain = convert_model(folder, tmp_path / "f.safetensors")
    assert zipped.sha256 == plain.sha256


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "expression in the network": (
        lambda c: c["network_def"].update(out_channels="$__import__('os').getpid()"),
        "network_def holds the expression",
    ),
    "referred expression": (
        lambda c: c["network_def"].update(out_channels="@device"),
        "network_def holds the expression",
    ),
    "circle": (lambda c: c["network_def"].update(out_channels="@network_def#out_channels"), "references lead too far"),
    "laughs": (
        lambda c: c.update(a=["@b"] * 400, b=["@d"] * 400, d=[1] * 400, network_def={**UNET, "channels": "@a"}),
        "references lead too far",
    ),
    "transforms": (lambda c: c["preprocessing"].update(transforms=3), "needs a list of transforms"),
    "huge number": (
        lambda c: c["preprocessing"]["transforms"].append({"_target_": "Spacingd", "pixdim": [10**400] * 3}),
        "arguments of Spacingd cannot be taken",
    ),
    "other network": (
        lambda c: c["network_def"].update(_target_="scripts.mine.Net"),
        "target 'scripts.mine.Net' is not",
    ),
    "code as network": (lambda c: c["network_def"].update(_target_="os.system"), "target 'os.system' is not allowed"),
    "allocation": (lambda c: c["network_def"].update(channels=[10**9] * 3), "channels must lie in"),
    "unknown argument": (lambda c: c["network_def"].update(extra=1), "unknown argument 'extra' of UNet"),
    "other transform": (
        lambda c: c["preprocessing"]["transforms"].append({"_target_": "GaussianSmoothd", "sigma": 1}),
        "target 'GaussianSmoothd' cannot be taken",
    ),
    "no network": (lambda c: c.pop("network_def"), "it has no network_def"),
}


@pytest.mark.parametrize(("change", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_taken_is_named(tmp_path: Path, change: Callable[[Any], object], told: str) -> None:
    folder = write_bundle(tmp_path / "bundle", nn.Conv3d(1, 1, 1), changed(change))
    with pytest.raises(MedsegError, match=told):
        convert_model(folder, tmp_path / "m.safetensors")


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", nn.Conv3d(1, 1, 1))
    with pytest.raises(MedsegError, match="does not fit network monai_unet: tensor 'weight' is not one of its"):
        convert_model(folder, tmp_path / "m.safetensors")


def test_missing_orientation_is_told(tmp_path: Path) -> None:
    inference = changed(lambda c: c["preprocessing"]["transforms"].pop(2))
    with pytest.warns(MedsegWarning, match="axis order of their file"):
        model = convert_model(write_bundle(tmp_path / "bundle", monai_unet(), inference), tmp_path / "m.safetensors")
    assert model.spec.orientation == "xyz"


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "UNet": (
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]},
        "monai_unet",
    ),
    "BasicUNet": (
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 4, "features": [8, 8, 8, 8, 8, 8]},
        "basicunet",
    ),
    "VNet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2}, "vnet"),
    "SegResNet": ({"spatial_dims": 3, "in_channels": 4, "out_channels": 3, "dropout_prob": 0.2}, "segresnet"),
    "DynUNet": (
        {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "upsample_kernel_size": [[1, 2, 2], [2, 2, 2]],
            "filters": [4, 8, 8],
            "norm_name": ["instance", {"affine": True}],
        },
        "dynunet",
    ),
    "SwinUNETR": (
        {"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2, "num_heads": [1, 2, 2, 4]},
        "swinunetr",
    ),
    "UNETR": (
        {
            "in_channels": 1,
            "out_channels": 2,
            "img_size": 32,
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 24,
            "num_heads": 2,
            "norm_name": "batch",
            "spatial_dims": 2,
        },
        "unetr",
    ),
    "FlexibleUNet": (
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "backbone": "resnet10",
            "decoder_channels": [16, 8, 8, 8, 8],
            "pre_conv": None,
        },
        "flexibleunet",
    ),
    "AttentionUnet": (
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16], "strides": [2, 2]},
        "monai_attention_unet",
    ),
}


@pytest.mark.parametrize(
    ("kind", "arguments", "ours"), [(k, a, o) for k, (a, o) in DEFINITIONS.items()], ids=DEFINITIONS
)
def test_logits_equal_those_of_monais_network(kind: str, arguments: dict[str, Any], ours: str) -> None:
    from napari_medseg.foreign.imported import fitted, renamer

    torch.manual_seed(4)
    peer = getattr(nets, kind)(**arguments).eval()
    name, taken = network_of(Path("b"), {"_target_": f"monai.networks.nets.{kind}", **arguments})
    assert name == ours
    net = network(name).build_from(taken)
    net.load_state_dict(fitted(Path("b"), peer.state_dict(), renamer(name), name, taken))
    size = (64, 64) if kind in ("SwinUNETR", "FlexibleUNet") else (16, 32, 32)[-arguments["spatial_dims"] :]
    x = torch.randn(1, arguments["in_channels"], *size)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(x), peer(x), rtol=1e-5, atol=1e-5)


def test_a_range_is_one_step_and_a_clip() -> None:
    scale, clip = preprocessing_of(Path("b"), [{**RANGE, "b_min": -1, "b_max": 1}]).steps
    assert scale.factor is not None
    assert scale.offset is not None
    assert np.array([-57, 164]) * scale.factor + scale.offset == pytest.approx([-1, 1])
    assert clip == Step(kind="clip", low=-1.0, high=1.0)
    (fixed,) = preprocessing_of(Path("b"), [{"_target_": "NormalizeIntensityd", "subtrahend": 5, "divisor": 2}]).steps
    assert fixed == Step(kind="affine", factor=0.5, offset=-2.5)
