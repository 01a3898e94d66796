"""The peer of engine_nnunet.py, which starts it: a model of nnU-Net, and nnunetv2's own prediction with it.

    python nnunet_chest.py FOLDER make       writes FOLDER/model: a results folder whose weights are random
    python nnunet_chest.py FOLDER predict    segments FOLDER/chest_0000.nii.gz into FOLDER/nnunet

The model has 25 outputs, a spacing of 1.5 mm, windows of 96^3 and a U-Net of 4 stages with 16 to 128 features. It does
not mirror. "ready" is printed once the model is loaded, and at the end a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

if not hasattr(torch.ops.torchvision, "nms"):  # timm imports torchvision, which finds none in a torch for CPUs
    for _operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_operator}", "(Tensor x) -> Tensor")
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

CLASSES, FEATURES, WINDOW, SPACING_MM = 25, (16, 32, 64, 128), 96, 1.5
_RESAMPLING = "resample_data_or_seg_to_shape"
_ARGUMENTS: dict[str, Any] = {
    "n_stages": len(FEATURES),
    "features_per_stage": list(FEATURES),
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * len(FEATURES),
    "strides": [[1, 1, 1], *[[2, 2, 2]] * (len(FEATURES) - 1)],
    "n_conv_per_stage": [2] * len(FEATURES),
    "n_conv_per_stage_decoder": [2] * (len(FEATURES) - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_INTENSITIES = {
    "max": 3071.0, "mean": 50.0, "median": 60.0, "min": -1024.0,
    "percentile_00_5": -1000.0, "percentile_99_5": 400.0, "std": 250.0,
}  # fmt: skip


def plans() -> dict[str, Any]:
    """nnU-Net's plans of one configuration, with its own resampling."""
    resampling = {
        f"resampling_fn_{what}{end}": value
        for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
        for end, value in (
            ("", _RESAMPLING),
            ("_kwargs", {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}),
        )
    }
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [WINDOW] * 3,
        "median_image_size_in_voxels": [183.0, 267.0, 267.0],
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": _ARGUMENTS,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset103_Chest",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": [183, 267, 267],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": full},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": _INTENSITIES},
    }


def make(folder: Path) -> None:
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"class {k}": k for k in range(1, CLASSES)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    torch.manual_seed(0)
    network = PlainConvUNet(
        1,
        num_classes=CLASSES,
        **{
            **_ARGUMENTS,
            "conv_op": torch.nn.Conv3d,
            "norm_op": torch.nn.InstanceNorm3d,
            "nonlin": torch.nn.LeakyReLU,
            "deep_supervision": False,
        },
    )
    network.apply(PlainConvUNet.initialize)
    place = folder / "model"
    (place / "fold_0").mkdir(parents=True)
    (place / "plans.json").write_text(json.dumps(plans()))
    (place / "dataset.json").write_text(json.dumps(described))
    content = {
        "network_weights": network.state_dict(),
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "dataset_json": described},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(content, place / "fold_0" / "checkpoint_final.pth")


def predict(folder: Path) -> None:
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False
    )
    predictor.initialize_from_trained_model_folder(str(folder / "model"), (0,))
    print("ready", flush=True)
    before, began = os.times(), time.monotonic()
    (folder / "nnunet").mkdir(exist_ok=True)
    predictor.predict_from_files_sequential([[str(folder / "chest_0000.nii.gz")]], str(folder / "nnunet"))
    after = os.times()
    used = sum(after[:4]) - sum(before[:4])  # of this process, and of those that it waited for
    print(json.dumps({"cpu_s": used, "wall_s": time.monotonic() - began}))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    {"make": make, "predict": predict}[sys.argv[2]](Path(sys.argv[1]).absolute())
