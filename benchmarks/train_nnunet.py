"""The peer of bench_train.py, which starts it: nnunetv2 trains for some minutes of processor time, and predicts.

    train_nnunet.py FOLDER DATA TRAINED JUDGED MINUTES JUDGEMENTS

FOLDER gets nnU-Net's three folders, and found/MINUTES with its labels of the cases that judge, several times along the
training. Plans, patch, batch, augmentation, loss, optimiser and the fall of the learning rate are nnU-Net's own; only
its length, 250,000 iterations, is the budget. Windows overlap by half, as by default; mirror images are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

if not hasattr(torch.ops.torchvision, "nms"):  # timm imports torchvision, which finds none in a torch for CPUs
    for _operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_operator}", "(Tensor x) -> Tensor")
import numpy as np
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

FOLDER, DATA = (Path(argument).absolute() for argument in sys.argv[1:3])
TRAINED, JUDGED, JUDGEMENTS = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[6])
MINUTES = float(sys.argv[5])
NAME = "Dataset103_Hippocampus"


def main() -> None:
    torch.set_num_threads(1)
    images = sorted((DATA / "images").glob("*.nii.gz"))[:JUDGED]
    prepare(images[:TRAINED])
    place = FOLDER / "nnUNet_preprocessed" / NAME
    plans = json.loads((place / "nnUNetPlans.json").read_text())
    described = json.loads((place / "dataset.json").read_text())
    torch.manual_seed(0)
    np.random.seed(0)
    trainer: Any = nnUNetTrainer(
        {**plans, "continue_training": False}, "3d_fullres", "all", described, torch.device("cpu")
    )
    trainer.initialize()
    os.environ.update(nnUNet_n_proc_DA="0")  # augmentation in this process, whose time counts; its planner refuses 0
    trainer.on_train_start()
    used, judged, whole = 0.0, 0, MINUTES * 60
    while used < whole:
        began = time.process_time()
        for group in trainer.optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - used / whole) ** 0.9
        trainer.network.train()
        trainer.train_step(next(trainer.dataloader_train))
        used += time.process_time() - began
        if used >= (judged + 1) * whole / JUDGEMENTS:
            judged += 1
            predict(trainer, images[TRAINED:], FOLDER / "found" / f"{used / 60:.2f}")
    print("nnU-Net: parameters", sum(p.numel() for p in trainer.network.parameters()), flush=True)


def prepare(images: list[Path]) -> None:
    raw = FOLDER / "nnUNet_raw" / NAME
    done = FOLDER / "nnUNet_preprocessed" / NAME / "done"
    shutil.rmtree(FOLDER / "found", ignore_errors=True)
    if done.exists():
        return
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for path in images:
        stem = path.name.removesuffix(".nii.gz")
        shutil.copyfile(path, raw / "imagesTr" / f"{stem}_0000.nii.gz")
        shutil.copyfile(DATA / "labels" / path.name, raw / "labelsTr" / path.name)
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    described = {"channel_names": {"0": "MRI"}, "numTraining": len(images), "file_ending": ".nii.gz", "labels": labels}
    (raw / "dataset.json").write_text(json.dumps(described))
    extract_fingerprints([103], num_processes=1)
    plan_experiments([103])
    preprocess([103], configurations=("3d_fullres",), num_processes=(1,))
    done.touch()


def predict(trainer: Any, images: list[Path], out: Path) -> None:
    """Labels by nnU-Net's predictor with the weights as they are."""
    out.mkdir(parents=True)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        None,
    )
    names = [str(out / path.name.removesuffix(".nii.gz")) for path in images]
    predictor.predict_from_files_sequential([[str(path)] for path in images], names)
    trainer.set_deep_supervision_enabled(True)


if __name__ == "__main__":
    main()
