"""nnU-Net's plain U-Net in plain torch, with the tensor names of its checkpoints, and a results folder made with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Size = tuple[int, int, int]
FEATURES = (4, 8, 8)
KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2))

ARCH_KWARGS: Mapping[str, Any] = {
    "n_stages": 3,
    "features_per_stage": list(FEATURES),
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [list(k) for k in KERNELS],
    "strides": [list(s) for s in STRIDES],
    "n_conv_per_stage": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


class Unit(nn.Module):
    """Convolution, norm, leaky ReLU; each under two names, as in nnU-Net's files."""

    def __init__(self, before: int, after: int, kernel: Size, stride: Size = (1, 1, 1)) -> None:
        super().__init__()
        same = kernel[0] // 2, kernel[1] // 2, kernel[2] // 2
        self.conv = nn.Conv3d(before, after, kernel, stride, padding=same)
        self.norm = nn.InstanceNorm3d(after, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, nn.LeakyReLU(0.01))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.all_modules(x)
        return y


class Stage(nn.Module):
    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self.convs = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convs(x)
        return y


class Encoder(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *FEATURES)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Stage([Unit(a, b, k, s), Unit(b, b, k)]))
                for a, b, k, s in zip(widths, FEATURES, KERNELS, STRIDES, strict=False)
            )
        )


class Decoder(nn.Module):
    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        levels = [(FEATURES[k + 1], FEATURES[k], KERNELS[k], STRIDES[k + 1]) for k in (1, 0)]
        self.stages = nn.ModuleList(Stage([Unit(2 * fine, fine, k), Unit(fine, fine, k)]) for _, fine, k, _ in levels)
        self.transpconvs = nn.ModuleList(nn.ConvTranspose3d(deep, fine, s, s) for deep, fine, _, s in levels)
        self.seg_layers = nn.ModuleList(nn.Conv3d(fine, classes, 1) for _, fine, _, _ in levels)


class PlainConvUNet(nn.Module):
    """(N, C, *size) -> logits (N, classes, *size) for sizes that the strides divide."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        self.decoder = Decoder(self.encoder, classes)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage in self.encoder.stages:
            x = stage(x)
            skips.append(x)
        for up, stage, skip in zip(self.decoder.transpconvs, self.decoder.stages, (skips[1], skips[0]), strict=True):
            x = stage(torch.cat((up(x), skip), 1))
        y: Tensor = self.decoder.seg_layers[-1](x)
        return y


PLANS: Mapping[str, Any] = {
    "dataset_name": "Dataset001_Balls",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "original_median_spacing_after_transp": [2.5, 1.0, 1.0],
    "foreground_intensity_properties_per_channel": {
        "0": {"max": 300.0, "mean": 80.0, "median": 82.0, "min": -100.0, "percentile_00_5": -20.0,
              "percentile_99_5": 180.0, "std": 40.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "patch_size": [8, 16, 16],
            "spacing": [2.5, 1.0, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {"network_class_name": PLAIN, "arch_kwargs": ARCH_KWARGS},
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
}  # fmt: skip
DATASET: Mapping[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def write_folder(
    folder: Path,
    network: nn.Module,
    *,
    plans: Mapping[str, Any] = PLANS,
    dataset: Mapping[str, Any] = DATASET,
    configuration: str = "3d_fullres",
    trainer: str = "nnUNetTrainer",
) -> Path:
    """A results folder as nnU-Net leaves it: the checkpoint holds numpy numbers beside the weights."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.6)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float64(0.6),
        "current_epoch": 1000,
        "init_args": {"configuration": configuration, "fold": 0, "dataset_json": dict(dataset)},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    return folder
