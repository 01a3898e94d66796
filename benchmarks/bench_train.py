"""Dice over the time of training: ours, a plain MONAI recipe and nnU-Net's own trainer, on the hippocampus.

    python -m venv peer && peer/bin/pip install torch==2.13.0 nnunetv2
    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_train.py --peer peer/bin/python [--folder DIR]

All train on cases 1 to 128 of the sorted names and are judged on cases 129 to 160, with one thread. Minutes are of
processor time in training steps alone: what reads, prepares and judges does not count. A training of ours ends with its
budget, so each of --minutes is a training of its own. The peers are judged along one training of --peer-minutes: a
BasicUNet as in MONAI's tutorials (AdamW, Dice and cross-entropy, crops, affine and noise, bf16 where the processor has
it), and nnUNetTrainer with the plans that it makes for these cases, its augmentation and its fall of the learning rate
over the budget (see train_nnunet.py). Printed is the time that ours takes to a Dice, over that of each peer, or a bound
where the peer has not reached it. The results go to results/train.json row by row; rows that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from short_trainings import processor  # first of all: it makes budgets processor time

import napari_medseg as ms  # isort: skip
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.inference.device import autocast, has_fast_bf16

RESULTS = Path(__file__).parent / "results" / "train.json"
TRAINED, JUDGED = 128, 160
JUDGEMENTS = 4
"""Times that a peer is judged along its training."""
PATCH, BATCH, WARM_UP = (40, 56, 40), 2, 0.02

Scores = list[float]
"""The mean Dice of each label."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 4])
    parser.add_argument("--peer-minutes", type=float, default=4)
    parser.add_argument("--peer", type=Path, help="A Python that has nnunetv2; without it nnU-Net is left out.")
    parser.add_argument("--folder", type=Path, default=Path("build/train"), help="For the data in nnU-Net's layout.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["MEDSEG_DATA"]).absolute() / "hippocampus"
    cases = cases_from_folders([data / "images"], data / "labels")[:JUDGED]
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["processor"] = processor()
    for minutes in args.minutes:
        keep(results, f"napari-medseg {minutes:g}", lambda m=minutes: [[m, *ours(cases, m)]])
    keep(results, f"MONAI {args.peer_minutes:g}", lambda: monai(cases, args.peer_minutes))
    if args.peer:
        keep(results, f"nnU-Net {args.peer_minutes:g}", lambda: nnunet(cases, data, args))
    show(results)


def keep(results: dict[str, Any], name: str, run: Any) -> None:
    """A curve: rows of minutes, and the Dice of both labels. Written at once."""
    if name not in results:
        results[name] = run()
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    for minutes, *dice in results[name]:
        print(f"{name.split()[0]:16}{minutes:8.2f} min  " + "  ".join(f"{d:.4f}" for d in dice), flush=True)


def ours(cases: list[Case], minutes: float) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        model = ms.train(cases[:TRAINED], out=out, minutes=minutes, val=0, device="cpu", report=False)
        return judged(cases, lambda volume: np.asarray(ms.segment(volume, model, device="cpu").data[...]))


def judged(cases: list[Case], labels_of: Any) -> Scores:
    """The mean Dice of both labels over the cases that judge."""
    rows = []
    for case in cases[TRAINED:]:
        volume, reference = case.load()
        rows.append(dice(labels_of(volume), np.asarray(reference.data[...])))
    return [round(float(score), 4) for score in np.mean(rows, axis=0)]


def dice(found: npt.NDArray[Any], reference: npt.NDArray[Any]) -> list[float]:
    pairs = [(found == label, reference == label) for label in (1, 2)]
    return [2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs]


def monai(cases: list[Case], minutes: float) -> list[list[float]]:
    """A plain recipe: MONAI's network, loss, transforms and sliding window."""
    from monai.data.dataset import CacheDataset
    from monai.inferers.utils import sliding_window_inference
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets.basic_unet import BasicUNet
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld, SpatialPadd
    from monai.transforms.intensity.dictionary import (
        NormalizeIntensityd,
        RandGaussianNoised,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )
    from monai.transforms.spatial.dictionary import RandAffined
    from monai.utils.misc import set_determinism

    set_determinism(0)
    normal, both = NormalizeIntensityd("image"), ("image", "label")
    turned = {"rotate_range": (0.5,) * 3, "scale_range": (0.2,) * 3, "mode": ("bilinear", "nearest"), "prob": 0.4}
    crop = RandCropByPosNegLabeld(both, "label", spatial_size=PATCH, num_samples=1)
    change: list[Any] = [SpatialPadd(both, PATCH), crop, RandAffined(both, padding_mode="zeros", **turned)]
    change += [RandGaussianNoised("image", 0.2), RandScaleIntensityd("image", 0.25), RandShiftIntensityd("image", 0.25)]
    pairs = [case.load() for case in cases[:TRAINED]]
    content = [
        {"image": np.asarray(v.data[...], np.float32), "label": np.asarray(s.data[...], np.int64)[None]}
        for v, s in pairs
    ]
    data = CacheDataset(content, Compose([normal, *change]), progress=False)
    net = BasicUNet(spatial_dims=3, in_channels=1, out_channels=3, features=(32, 32, 64, 128, 256, 32))
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-5)
    cpu = torch.device("cpu")
    precision = "bf16" if has_fast_bf16(cpu) else "fp32"

    def labels_of(volume: ms.Volume) -> npt.NDArray[Any]:
        image = normal({"image": np.asarray(volume.data[...], np.float32)})["image"]
        with torch.no_grad(), autocast(cpu, precision):
            found: Any = sliding_window_inference(torch.as_tensor(image)[None], PATCH, 1, net, 0.5, mode="gaussian")
        return np.asarray(found.argmax(1)[0])

    def step(batch: Any) -> None:
        images = torch.stack([torch.as_tensor(one["image"]) for one in batch])
        labels = torch.stack([torch.as_tensor(one["label"]) for one in batch])
        with autocast(cpu, precision):
            logits = net(images)
        loss = loss_of(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 12.0)
        if torch.isfinite(norm):  # in bf16 a gradient of the deepest level is not a number now and then
            optimiser.step()

    draw = np.random.default_rng(0)
    curve: list[list[float]] = []
    used, whole = 0.0, minutes * 60
    while used < whole:
        began = time.process_time()
        rate = 1e-3 * min(1.0, used / whole / WARM_UP + 0.01) * 0.5 * (1 + np.cos(np.pi * used / whole))
        optimiser.param_groups[0]["lr"] = rate
        net.train()
        step([data[int(i)][0] for i in draw.integers(0, TRAINED, BATCH)])
        used += time.process_time() - began
        if used >= (len(curve) + 1) * whole / JUDGEMENTS:
            net.eval()
            curve.append([round(used / 60, 2), *judged(cases, labels_of)])
            print("MONAI", curve[-1], flush=True)
    return curve


def nnunet(cases: list[Case], data: Path, args: argparse.Namespace) -> list[list[float]]:
    """nnU-Net trains and predicts in a process of its own; its labels are judged here."""
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    told = {**os.environ, **{name: str(folder / name) for name in names}}
    told |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
    peer = [args.peer.absolute(), Path(__file__).with_name("train_nnunet.py"), folder, data]
    numbers = [TRAINED, JUDGED, args.peer_minutes, JUDGEMENTS]
    subprocess.run([str(word) for word in (*peer, *numbers)], env=told, check=True)
    curve = []
    for place in sorted((folder / "found").iterdir(), key=lambda p: float(p.name)):
        found = {
            case.name: np.asarray(ms.read_segmentation(place / f"{case.name}.nii.gz").data) for case in cases[TRAINED:]
        }
        rows = [dice(found[case.name], np.asarray(case.segmentation().data[...])) for case in cases[TRAINED:]]
        curve.append([float(place.name), *(round(float(d), 4) for d in np.mean(rows, axis=0))])
    return curve


def show(results: dict[str, Any]) -> None:
    """When each peer has the Dice of ours."""
    own = sorted(row for name, rows in results.items() if name.startswith("napari-medseg") for row in rows)
    for name, rows in results.items():
        if name == "processor" or name.startswith("napari-medseg"):
            continue
        for minutes, *dice in own:
            first = min((row[0] for row in rows if np.mean(row[1:]) >= np.mean(dice)), default=None)
            ratio = f"less than {minutes / rows[-1][0]:.2f}" if first is None else f"{minutes / first:.2f}"
            print(f"Dice {np.mean(dice):.4f}: ours after {minutes:g} min, {ratio} of the time of {name.split()[0]}")


if __name__ == "__main__":
    main()
