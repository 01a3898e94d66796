"""Configs with the keys and values of public MONAI bundles, written anew, and weights made by MONAI's own classes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks import nets
from torch import nn

from napari_medseg.registry import network as network_named

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
LABELS_OF_BRATS = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
Table = dict[str, Any]


def step(name: str, keys: Any = "image", **arguments: Any) -> Table:
    """A transform of a config."""
    return {"_target_": name, "keys": keys, **arguments}


def window(size: int, low: float, high: float) -> list[Table]:
    """Bring a window of intensities to [0, 1], after a spacing of `size` tenths of a millimetre."""
    return [
        step("LoadImaged"),
        step("EnsureChannelFirstd"),
        step("Orientationd", axcodes="RAS"),
        step("Spacingd", pixdim=[size / 10] * 3, mode="bilinear"),
        step("ScaleIntensityRanged", a_min=low, a_max=high, b_min=0, b_max=1, clip=True),
        step("EnsureTyped"),
    ]


def invert(**arguments: Any) -> Table:
    """Back to the grid of the image."""
    usual = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    return step("Invertd", "pred", **{**usual, **arguments})


SOFTMAX = [step("Activationsd", "pred", softmax=True), invert(), step("AsDiscreted", "pred", argmax=True)]
SLIDING = {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "sw_batch_size": 4, "overlap": 0.5}
LOADER = {
    "_target_": "CheckpointLoader",
    "load_path": "$@bundle_root + '/models/model.pt'",
    "load_dict": {"model": "@network"},
}


@dataclass(frozen=True)
class Published:
    """A bundle: what its config says, and how its weights are made."""

    network: Table
    preprocessing: Any
    names: list[str]
    """Of the output channels."""
    small: Table = field(default_factory=dict)
    """Arguments that keep a test fast."""
    postprocessing: Any = field(default_factory=lambda: copy.deepcopy(SOFTMAX))
    inferer: Table = field(default_factory=lambda: dict(SLIDING))
    more: Table = field(default_factory=dict)
    """Further keys of the config."""
    channels: int = 1
    weights: str = "models/model.pt"
    suffix: str = ".json"
    modality: str = "CT"
    metadata: str = "channel_def"


_DYNUNET: Table = {
    "_target_": "DynUNet",
    "spatial_dims": 3,
    "in_channels": "$len(@label_names) + @number_intensity_ch",
    "out_channels": "$len(@label_names)",
    "kernel_size": [3, 3, 3, 3, 3, 3],
    "strides": [1, 2, 2, 2, 2, [2, 2, 1]],
    "upsample_kernel_size": [2, 2, 2, 2, [2, 2, 1]],
    "norm_name": "instance",
    "deep_supervision": False,
    "res_block": True,
}
_UNET: Table = {"_target_": "UNet", "channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2], "num_res_units": 2}
_SEGRESNET: Table = {"_target_": "SegResNet", "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "dropout_prob": 0.2}
_SMALL_UNET = {"channels": [4, 8, 8, 8, 8]}
_KEYS = ["artery", "vein", "excret"]
_DINTS: Table = {
    "network": {
        "_target_": "monai.networks.nets.DiNTS",
        "dints_space": "@dints_space",
        "in_channels": "@input_channels",
        "num_classes": "@output_classes",
        "use_downsample": True,
        "node_a": "$torch.from_numpy(@arch_ckpt['node_a'])",
    },
    "more": {
        "input_channels": 1,
        "arch_ckpt_path": "$@bundle_root + '/models/search_code.pt'",
        "arch_ckpt": "$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
        "dints_space": {
            "_target_": "monai.networks.nets.TopologyInstance",
            "channel_mul": 1,
            "num_blocks": 12,
            "num_depths": 4,
            "use_downsample": True,
            "arch_code": ["$@arch_ckpt['arch_code_a']", "$@arch_ckpt['arch_code_c']"],
            "device": "$torch.device('cuda')",
        },
    },
}


def _dints(classes: int, low: float, high: float, names: list[str]) -> Published:
    more = {**_DINTS["more"], "output_classes": classes}
    return Published(
        _DINTS["network"],
        window(10, low, high),
        names,
        small={"channel_mul": 0.125},
        inferer={**SLIDING, "overlap": 0.625},
        more=more,
        suffix=".yaml",
    )


BUNDLES: Mapping[str, Published] = {
    "spleen_ct": Published(
        {**_UNET, "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "norm": "batch"},
        [
            *window(15, -57, 164)[:3],
            step("Spacingd", pixdim=[1.5, 1.5, 2.0], mode="bilinear"),
            *window(15, -57, 164)[4:],
        ],
        ["background", "spleen"],
        small=_SMALL_UNET,
    ),
    "wholeBody_ct": Published(
        {**_SEGRESNET, "spatial_dims": 3, "in_channels": 1, "out_channels": 105, "init_filters": 32},
        [
            step("LoadImaged", "@image_key"),
            step("EnsureTyped", "@image_key"),
            step("EnsureChannelFirstd", "@image_key"),
            step("Orientationd", "@image_key", axcodes="RAS"),
            step("Spacingd", "@image_key", pixdim="@pixdim", mode="bilinear"),
            step("NormalizeIntensityd", "@image_key", nonzero=True),
            step("ScaleIntensityd", "@image_key", minv=-1.0, maxv=1.0),
        ],
        ["background", *(f"structure {k}" for k in range(1, 105))],
        small={"init_filters": 8},
        postprocessing=[
            step("Activationsd", "pred", softmax=True),
            step("AsDiscreted", "pred", argmax=True),
            invert(nearest_interp=True),
        ],
        inferer={
            "_target_": "SlidingWindowInferer",
            "roi_size": [96, 96, 96],
            "sw_batch_size": "@displayable_configs#sw_batch_size",
            "overlap": "@displayable_configs#sw_overlap",
            "padding_mode": "replicate",
            "mode": "gaussian",
            "device": DEVICE,
        },
        more={
            "displayable_configs": {"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
            "pixdim": "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
            "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
            "checkpointloader": {**LOADER, "load_path": "$@bundle_root + '/models/' + @modelname"},
        },
    ),
    "swin_unetr_btcv": Published(
        {
            "_target_": "SwinUNETR",
            "spatial_dims": 3,
            "img_size": 96,
            "in_channels": 1,
            "out_channels": 14,
            "feature_size": 48,
            "use_checkpoint": False,
        },
        window(15, -175, 250),
        ["background", *(f"organ {k}" for k in range(1, 14))],
        small={"feature_size": 12},
    ),
    "brats_mri": Published(
        {**_SEGRESNET, "init_filters": 16, "in_channels": 4, "out_channels": 3},
        [step("LoadImaged"), step("NormalizeIntensityd", nonzero=True, channel_wise=True)],
        ["Tumor core", "Whole tumor", "Enhancing tumor"],
        small={"init_filters": 8},
        postprocessing=[
            step("Activationsd", "pred", sigmoid=True),
            invert(meta_keys="pred_meta_dict"),
            step("AsDiscreted", "pred", threshold=0.5),
            step("Lambdad", "pred", func=LABELS_OF_BRATS),
        ],
        inferer={**SLIDING, "roi_size": [240, 240, 160], "sw_batch_size": 1},
        channels=4,
        modality="MR",
    ),
    "prostate_mri_anatomy": Published(
        {
            **_UNET,
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "channels": [16, 32, 64, 128, 256, 512],
            "strides": [2, 2, 2, 2, 2],
            "num_res_units": 4,
            "norm": "batch",
            "act": "prelu",
            "dropout": 0.15,
        },
        [
            *window(5, 0, 1)[:4],
            step("ScaleIntensityd", minv=0, maxv=1),
            step("NormalizeIntensityd"),
            step("EnsureTyped"),
        ],
        ["background", "central gland", "peripheral zone"],
        small={"channels": [4, 4, 8, 8, 8, 8]},
        postprocessing=[
            step("AsDiscreted", "pred", argmax=True),
            step("KeepLargestConnectedComponentd", "pred", applied_labels=[1, 2]),
            invert(meta_key_postfix="meta_dict"),
        ],
        modality="MR",
    ),
    "ventricular_short_axis_3label": Published(
        {**_UNET, "spatial_dims": 2, "in_channels": 1, "out_channels": 4},
        [
            step("LoadImaged", image_only=False),
            step("EnsureChannelFirstd"),
            step("ScaleIntensityd"),
            step("EnsureTyped", device="@device"),
        ],
        ["background", "left pool", "left myocardium", "right pool"],
        small=_SMALL_UNET,
        inferer={"_target_": "SliceInferer", "roi_size": [256, 256], "spatial_dim": 2},
        modality="MR",
    ),
    "multi_organ": _dints(8, -500, 500, ["background", *(f"organ {k}" for k in range(1, 8))]),
    "pediatric_abdominal_ct": Published(
        {
            **_DYNUNET,
            "_target_": "monai.networks.nets.DynUNet",
            "spatial_dims": "@spatial_dims",
            "in_channels": "@input_channels",
            "out_channels": "@output_channels",
        },
        [
            *window(15, -250, 400)[:3],
            step("Spacingd", ["@image_key"], pixdim=[1.5, 1.5, 3.0], mode=["bilinear"]),
            step("ScaleIntensityRanged", "@image_key", a_min=-250, a_max=400, b_min=0, b_max=1, clip=True),
            step("CropForegroundd", ["@image_key"], source_key="@image_key", mode=["minimum"]),
            step("EnsureTyped"),
            step("CastToTyped", "@image_key", dtype="$torch.float32"),
        ],
        ["background", "liver", "spleen", "pancreas"],
        small={"filters": [4, 4, 8, 8, 8, 8]},
        inferer={**SLIDING, "overlap": 0.75},
        more={
            "input_channels": 1,
            "output_channels": 4,
            "spatial_size": [96, 96, 96],
            "spatial_dims": "$len(@spatial_size)",
            "handlers": [{**LOADER, "load_path": "$@bundle_root + '/models/dynunet_FT.pt'"}],
        },
        weights="models/dynunet_FT.pt",
        suffix=".yaml",
        metadata="label_def",
    ),
    "pancreas_ct_dints": _dints(3, -87, 199, ["background", "pancreas", "tumour"]),
    "endoscopic_tool": Published(
        {
            "_target_": "FlexibleUNet",
            "in_channels": 3,
            "out_channels": 2,
            "backbone": "efficientnet-b2",
            "spatial_dims": 2,
            "pretrained": False,
            "is_pad": False,
            "pre_conv": None,
        },
        [
            step("LoadImaged"),
            step("EnsureChannelFirstd", channel_dim=-1),
            step("Resized", ["image"], spatial_size=[736, 480], mode=["bilinear"]),
            step("ScaleIntensityd", ["image"]),
        ],
        ["background", "tool"],
        small={"backbone": "efficientnet-b0", "decoder_channels": [16, 8, 8, 8, 8]},
        postprocessing=[
            invert(meta_key_postfix="meta_dict"),
            step("AsDiscreted", ["pred"], argmax=True, to_onehot=2),
            step("Lambdad", ["pred"], func="$lambda x : x[1:]"),
        ],
        inferer={"_target_": "SimpleInferer"},
        channels=3,
        modality="RGB",
    ),
    "renalStructures_CECT": Published(
        {
            **_SEGRESNET,
            "in_channels": 3,
            "out_channels": 6,
            "init_filters": 32,
            "upsample_mode": "deconv",
            "norm_name": "group",
        },
        [
            step("LoadImaged", _KEYS),
            step("EnsureChannelFirstd", _KEYS),
            step("Orientationd", _KEYS, axcodes="LPS"),
            step("Spacingd", _KEYS, pixdim=[0.8, 0.8, 0.8], mode="bilinear"),
            {"_target_": "scripts.my_transforms.ConcatImages", "keys_merge": _KEYS, "keys_out": "image"},
            step("ScaleIntensityRanged", a_min=-1000, a_max=1000, b_min=0.0, b_max=1.0, clip=True),
            step("EnsureTyped"),
        ],
        ["background", "artery", "vein", "ureter", "neoplasm", "parenchyma"],
        small={"init_filters": 8},
        postprocessing=[
            invert(transform="$@preprocessing", device="@device", orig_keys="artery"),
            step("Activationsd", "pred", softmax=False, sigmoid=True),
            invert(),
            step("AsDiscreted", "pred", argmax=False, threshold=0.5),
        ],
        inferer={**SLIDING, "overlap": 0.25},
        channels=3,
    ),
    "renalStructures_UNEST": Published(
        {"_target_": "scripts.networks.unest.UNesT", "in_channels": 1, "out_channels": 4},
        [step("LoadImaged"), step("AddChanneld"), *window(10, -175, 250)[2:]],
        ["background", "cortex", "medulla", "pelvis"],
        small={"feature_size": 1, "num_heads": [1, 1, 1]},
    ),
    "wholeBrainSeg_Large_UNEST": Published(
        {
            "_target_": "scripts.networks.unest_base_patch_4.UNesT",
            "in_channels": 1,
            "out_channels": 133,
            "patch_size": 4,
            "depths": [2, 2, 8],
            "embed_dim": [128, 256, 512],
            "num_heads": [4, 8, 16],
        },
        [
            step("LoadImaged"),
            step("EnsureChannelFirstd"),
            step("NormalizeIntensityd", nonzero="True", channel_wise="True"),
            step("EnsureTyped"),
        ],
        ["background", *(f"region {k}" for k in range(1, 133))],
        small={"feature_size": 1, "num_heads": [1, 1, 1]},
        inferer={**SLIDING, "overlap": 0.7},
        modality="MR",
    ),
    "spleen_deepedit": Published(
        _DYNUNET,
        "$@preprocessing_transforms + @deepedit_transforms + @extra_transforms",
        ["background", "spleen"],
        small={"filters": [4, 4, 8, 8, 8, 8]},
        inferer={"_target_": "SimpleInferer"},
        more={
            "label_names": {"spleen": 1, "background": 0},
            "spatial_size": [128, 128, 128],
            "number_intensity_ch": 1,
            "preprocessing_transforms": [
                step("LoadImaged", "@image_key", reader="ITKReader"),
                step("EnsureChannelFirstd", "@image_key"),
                step("Orientationd", "@image_key", axcodes="RAS"),
                step("ScaleIntensityRanged", "@image_key", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
            ],
            "deepedit_transforms": [
                {
                    "_target_": "scripts.transforms.OrientationGuidanceMultipleLabelDeepEditd",
                    "ref_image": "@image_key",
                    "label_names": "@label_names",
                },
                {"_target_": "AddGuidanceFromPointsDeepEditd", "ref_image": "@image_key", "guidance": "guidance"},
                step("Resized", "@image_key", spatial_size="@spatial_size", mode="area"),
                {"_target_": "ResizeGuidanceMultipleLabelDeepEditd", "guidance": "guidance", "ref_image": "@image_key"},
                step(
                    "AddGuidanceSignalDeepEditd",
                    "@image_key",
                    guidance="guidance",
                    number_intensity_ch="@number_intensity_ch",
                ),
            ],
            "extra_transforms": [step("EnsureTyped", "@image_key")],
        },
    ),
}
"""{name in Project-MONAI/model-zoo, without its last word: what its config says}."""


def config_of(bundle: Published, *, small: bool) -> Table:
    """The inference config of a bundle. small: with a network that is fast to build."""
    network = dict(bundle.network)
    more = copy.deepcopy(bundle.more)
    if small and "dints_space" in more:
        more["dints_space"].update(bundle.small)
    elif small:
        network.update(bundle.small)
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": "/workspace/somewhere",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$list(sorted(glob.glob(@output_dir + '/*.nii.gz')))",
        "device": DEVICE,
        "handlers": [LOADER, {"_target_": "StatsHandler", "iteration_log": False}],
        **more,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": bundle.preprocessing},
        "inferer": bundle.inferer,
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [*bundle.postprocessing, step("SaveImaged", "pred", output_dir="@output_dir")],
        },
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "amp": True},
        "run": ["$@evaluator.run()"],
    }


def metadata_of(bundle: Published) -> Table:
    """The metadata of a bundle."""
    return {
        "description": "Segments what it was trained on",
        "copyright": "Copyright (c) the consortium",
        "references": ["A. Author, 2022"],
        "network_data_format": {
            "inputs": {"image": {"modality": bundle.modality, "channel_def": {"0": "image"}}},
            "outputs": {"pred": {bundle.metadata: {str(k): name for k, name in enumerate(bundle.names)}}},
        },
    }


def codes(seed: int = 0, blocks: int = 12, depths: int = 4) -> Table:
    """What a search found, as MONAI stores it: every depth is kept, the rest is drawn."""
    draw = np.random.default_rng(seed)
    ways = 3 * depths - 2
    paths = draw.integers(0, 2, (blocks, ways))
    paths[:, ::3] = 1
    return {
        "arch_code_a": paths,
        "arch_code_c": draw.integers(0, 5, (blocks, ways)),
        "node_a": np.ones((blocks + 1, depths), int),
        "arch_code_a_max": 1,
    }


def source_network(bundle: Published, *, small: bool, seed: int = 0) -> nn.Module:
    """The network of a bundle, of MONAI's own class (UNesT's: of ours, since it lies in the bundle as code)."""
    torch.manual_seed(seed)
    config = config_of(bundle, small=small)
    arguments = {k: v for k, v in config["network_def"].items() if k not in ("_target_", "img_size")}
    values = {
        "$len(@label_names) + @number_intensity_ch": 3,
        "$len(@label_names)": 2,
        "@input_channels": 1,
        "@output_channels": 4,
        "@spatial_dims": 3,
    }
    arguments = {k: values.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}
    kind = config["network_def"]["_target_"].rsplit(".", 1)[-1]
    if kind == "UNesT":
        kept = {k: v for k, v in arguments.items() if k not in ("patch_size", "embed_dim")}
        return network_named("unest").build(**kept).eval()
    if kind == "DiNTS":
        found, space = codes(), {k: v for k, v in config["dints_space"].items() if not k.startswith(("_", "device"))}
        space["arch_code"] = [found["arch_code_a"], found["arch_code_c"]]
        net: nn.Module = nets.DiNTS(
            nets.TopologyInstance(**space), 1, config["output_classes"], node_a=torch.from_numpy(found["node_a"])
        )
        return net.eval()
    made: nn.Module = getattr(nets, kind)(**arguments)
    return made.eval()


def write_bundle(folder: Path, bundle: Published, net: nn.Module, *, small: bool) -> Path:
    """The bundle as a folder; its config is JSON, or YAML as JSON is too."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / f"configs/inference{bundle.suffix}").write_text(_text(config_of(bundle, small=small), bundle.suffix))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata_of(bundle)))
    torch.save(net.state_dict(), folder / bundle.weights)
    if "dints_space" in bundle.more:
        torch.save(codes(), folder / "models/search_code.pt")
    return folder


def _text(config: Table, suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(config)
    import yaml

    class NoAliases(yaml.SafeDumper):  # type: ignore[misc]  # yaml comes without types
        def ignore_aliases(self, data: object) -> bool:
            return True

    return str(yaml.dump(config, Dumper=NoAliases))
