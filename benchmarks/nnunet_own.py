"""The peer of bench_nnunet.py, which starts it: nnunetv2 trains, and predicts by its own predictor.

FOLDER gets nnU-Net's three folders, the results folder of each configuration, and "own/NAME" with nnunetv2's own label
maps of the images in "judged". DATA holds the hippocampus pairs. What is there already is not made again. The plans are
nnU-Net's own, with 8 to 32 features, smaller patches and a batch of 2 or 8, so that a processor trains them in minutes,
and with a low resolution and a cascade, for which nnU-Net itself finds these images too small. A training has few
iterations, and no augmentation, which would take most of the time; it predicts as if it had mirrored.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

if not hasattr(torch.ops.torchvision, "nms"):  # timm imports torchvision, which finds none in a torch for CPUs
    for _operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_operator}", "(Tensor x) -> Tensor")
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import nnUNetTrainer_10epochs
from scipy import ndimage

FOLDER, DATA = (Path(argument).absolute() for argument in sys.argv[1:3])
PLACES = {name: FOLDER / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
TRAINED, JUDGED, ITERATIONS = 24, 20, 60
PLAIN, REGIONS = "Dataset101_Hippocampus", "Dataset102_Regions"
LABELS = {
    PLAIN: {"labels": {"background": 0, "Anterior": 1, "Posterior": 2}},
    REGIONS: {"labels": {"background": 0, "whole": [1, 2], "Posterior": 2}, "regions_class_order": [1, 2]},
}
SPACINGS = ((1.0, 1.0, 1.0), (0.8, 1.2, 1.0), (1.5, 0.9, 0.9), (4.0, 1.0, 1.0))
"""Of the judged images, by turns, for their three stored axes; the last is resampled slice by slice."""
RUNS: Sequence[tuple[str, str, str, tuple[int | str, ...]]] = (
    ("2d", PLAIN, "2d", (0,)),
    ("3d_fullres", PLAIN, "3d_fullres", (0,)),
    ("two folds", PLAIN, "3d_fullres", (0, 1)),
    ("cascade", PLAIN, "3d_cascade_fullres", ("all",)),
    ("regions", REGIONS, "3d_fullres", (0,)),
)


class Quick(nnUNetTrainer_10epochs):  # type: ignore[misc]  # nnunetv2 has no types
    """nnU-Net's own training of ten epochs, without augmentation."""

    @staticmethod
    def get_training_transforms(  # nnU-Net's arguments
        patch_size: Any,
        rotation: Any,
        scales: Any,
        mirror_axes: Any,
        flat: Any,
        use_mask_for_norm: Any = None,
        **kept: Any,
    ) -> Any:
        return nnUNetTrainer_10epochs.get_validation_transforms(scales, **kept)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802  # nnU-Net's name
        rotation, flat, _, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return rotation, flat, self.configuration_manager.patch_size, mirror_axes


Quick.__name__ = nnUNetTrainer_10epochs.__name__  # the name of the results folder and in the checkpoint


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pairs = sorted((DATA / "images").glob("*.nii.gz")), sorted((DATA / "labels").glob("*.nii.gz"))
    cases = list(zip(*pairs, strict=True))
    write_judged(cases[-JUDGED:])
    for name in LABELS:
        prepare(name, cases[:TRAINED])
    for name, dataset, configuration, folds in RUNS:
        if configuration == "3d_cascade_fullres":
            train(dataset, "3d_lowres", "all", predict_next=True)
        for fold in folds:
            train(dataset, configuration, fold)
        predict(name, dataset, configuration, folds)


def write_judged(cases: Sequence[tuple[Path, Path]]) -> None:
    """The judged images at several spacings, with their axes in several orders and directions."""
    place = FOLDER / "judged"
    place.mkdir(parents=True, exist_ok=True)
    for number, (path, _) in enumerate(cases):
        image: Any = nibabel.load(path)
        spacing = SPACINGS[number % len(SPACINGS)]
        old = np.asarray(image.header.get_zooms()[:3], float)
        data = ndimage.zoom(
            np.asarray(image.dataobj, np.float32), old / spacing, order=1, grid_mode=True, mode="nearest"
        )
        affine = image.affine @ np.diag([*(np.asarray(image.shape) / data.shape), 1.0])
        turned: Any = nibabel.Nifti1Image(data, affine)
        if number % 3:  # the axes in another order, one of them backwards
            axes = [[1, -1], [0, 1], [2, 1]] if number % 3 == 1 else [[0, 1], [2, 1], [1, -1]]
            turned = turned.as_reoriented(np.asarray(axes))
        nibabel.save(turned, place / f"{path.name.removesuffix('.nii.gz')}_0000.nii.gz")


def prepare(name: str, cases: Sequence[tuple[Path, Path]]) -> None:
    """nnU-Net's raw data set, its plans, made smaller, and the preprocessed cases."""
    raw, number = PLACES["nnUNet_raw"] / name, int(name[7:10])
    plans_file = PLACES["nnUNet_preprocessed"] / name / "nnUNetPlans.json"
    if (plans_file.parent / "done").exists():
        return
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for image, label in cases:
        stem = image.name.removesuffix(".nii.gz")
        shutil.copyfile(image, raw / "imagesTr" / f"{stem}_0000.nii.gz")
        shutil.copyfile(label, raw / "labelsTr" / f"{stem}.nii.gz")
    described = {"channel_names": {"0": "MRI"}, "numTraining": len(cases), "file_ending": ".nii.gz", **LABELS[name]}
    (raw / "dataset.json").write_text(json.dumps(described))
    extract_fingerprints([number], num_processes=1)
    plan_experiments([number])
    plans = json.loads(plans_file.read_text())
    table = plans["configurations"]
    for made in (table["2d"], table["3d_fullres"]):
        made["batch_size"] = 2 if made is table["3d_fullres"] else 8
        made["patch_size"] = [32, 40, 32] if made is table["3d_fullres"] else [40, 32]
        network = made["architecture"]["arch_kwargs"]
        network["features_per_stage"] = [8 * 2 ** min(k, 2) for k in range(network["n_stages"])]
    low = {"data_identifier": "nnUNetPlans_3d_lowres", "spacing": [1.5, 1.5, 1.5], "next_stage": "3d_cascade_fullres"}
    table["3d_lowres"] = {"inherits_from": "3d_fullres", "previous_stage": None, **low}
    table["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans_file.write_text(json.dumps(plans, indent=1))
    names = ("2d", "3d_fullres", "3d_lowres") if name == PLAIN else ("3d_fullres",)
    preprocess([number], configurations=names, num_processes=(1,) * len(names))
    (plans_file.parent / "done").touch()


def train(dataset: str, configuration: str, fold: int | str, *, predict_next: bool = False) -> None:
    folder = PLACES["nnUNet_preprocessed"] / dataset
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    described = json.loads((folder / "dataset.json").read_text())
    torch.manual_seed(0)
    np.random.seed(0)
    trainer: Any = Quick({**plans, "continue_training": False}, configuration, fold, described, torch.device("cpu"))
    if (Path(trainer.output_folder) / "checkpoint_final.pth").exists() and not predict_next:
        return
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = ITERATIONS, 2
    if not (Path(trainer.output_folder) / "checkpoint_final.pth").exists():
        trainer.run_training()
    else:
        trainer.initialize()
        trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    if predict_next and not (Path(trainer.output_folder_base) / "predicted_next_stage").exists():
        trainer.perform_actual_validation(False)


def results_of(dataset: str, configuration: str) -> Path:
    return PLACES["nnUNet_results"] / dataset / f"nnUNetTrainer_10epochs__nnUNetPlans__{configuration}"


def predict(name: str, dataset: str, configuration: str, folds: Sequence[int | str]) -> None:
    """nnunetv2's own label maps, with mirroring and half-overlapping windows, as its command makes them."""
    out = FOLDER / "own" / name
    out.mkdir(parents=True, exist_ok=True)
    results = results_of(dataset, configuration)
    (FOLDER / "own" / f"{name}.json").write_text(json.dumps({"results": str(results), "folds": list(map(str, folds))}))
    files = [[str(path)] for path in sorted((FOLDER / "judged").glob("*.nii.gz"))]
    before = None
    if configuration == "3d_cascade_fullres":
        before = FOLDER / "own" / "lowres"
        before.mkdir(exist_ok=True)
        _predictor(results_of(dataset, "3d_lowres"), folds).predict_from_files_sequential(files, str(before))
    _predictor(results, folds).predict_from_files_sequential(
        files, str(out), folder_with_segs_from_prev_stage=None if before is None else str(before)
    )


def _predictor(results: Path, folds: Sequence[int | str]) -> Any:
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(results), tuple(folds))
    return predictor


if __name__ == "__main__":
    main()
