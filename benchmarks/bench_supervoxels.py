"""A graph U-Net on supervoxels: what it reaches, beside the most that its supervoxels allow.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_supervoxels.py [--cpu-minutes 2]

Phantoms: 8 CT phantoms (seeds 0 to 7) to train, the last of which chooses the checkpoint, and 4 (seeds 100 to 103) to
judge. Hippocampus: the first 160 cases to train, of which the last 8 choose the checkpoint, and the last 40 of 200 to
judge. Seed 0, default settings, one thread; the budget is in minutes of processor time from the first step on. "At
most" is the Dice of the true labels after each supervoxel took the commonest one. Rows are written one by one to
benchmarks/results/supervoxels.json; a row that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np
import torch

import napari_medseg as ms
from napari_medseg.architectures.interactive.graph_unet import majority, supervoxels
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.sample import phantom

RESULTS = Path(__file__).parent / "results" / "supervoxels.json"
Pair = tuple[ms.Volume, ms.Segmentation]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=2.0)
    parser.add_argument("--at-most", action="store_true", help="Only what supervoxels allow; nothing is trained.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows = [(f"{kind}, at most", kind) for kind in ("hippocampus", "phantom")]
    rows += [] if args.at_most else [(kind, kind) for kind in ("phantom", "hippocampus")]
    for row, kind in rows:
        if row not in found:
            found[row] = allowed(kind) if row != kind else measured(kind, args.cpu_minutes)
            print(row, json.dumps(found[row]), flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def allowed(kind: str) -> dict[str, Any]:
    """What the supervoxels of the judged cases allow."""
    judged = judged_of(kind)
    scores = [dice(at_most(volume, reference), reference) for volume, reference in judged]
    names = {k: judged[0][1].label_name(k) for k in scores[0]}
    return {"judged": len(scores), "dice": means(scores, names)}


def measured(kind: str, minutes: float) -> dict[str, Any]:
    cases, val = training_of(kind)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "graph.safetensors"
        options: dict[str, Any] = {"minutes": minutes, "val": val, "device": "cpu", "report": False}
        model = ms.train(cases, scheme="supervoxels", out=out, **options)
        scores, seconds = [], 0.0
        for volume, reference in judged_of(kind):
            began = time.process_time()
            labels = ms.segment(volume, model, device="cpu")
            seconds += time.process_time() - began
            scores.append(dice(labels, reference))
    return {
        "cpu_minutes": minutes,
        "processor": platform.processor() or platform.machine(),
        "parameters": sum(p.numel() for p in model.load_network().parameters()),
        "epochs": round(model.spec.training.epochs, 2),
        "judged": len(scores),
        "dice": means(scores, model.spec.labels),
        "seconds_a_volume": round(seconds / len(scores), 2),
    }


def means(scores: Sequence[Mapping[int, float]], names: Mapping[int, str]) -> dict[str, float]:
    return {names[k]: round(float(np.mean([row[k] for row in scores])), 3) for k in scores[0]}


def training_of(kind: str) -> tuple[Sequence[Pair | Case], float]:
    """The cases to train on, and the share of them that chooses the checkpoint."""
    if kind == "phantom":
        return [phantom("ct", seed=seed) for seed in range(8)], 0.125
    return hippocampus()[:160], 0.05


def judged_of(kind: str) -> list[Pair]:
    if kind == "phantom":
        return [phantom("ct", seed=100 + seed) for seed in range(4)]
    return [case.load() for case in hippocampus()[-40:]]


def hippocampus() -> list[Case]:
    folder = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    return cases_from_folders([folder / "images"], folder / "labels")


def at_most(volume: ms.Volume, reference: ms.Segmentation) -> ms.Segmentation:
    """The reference, each supervoxel of the image with its commonest label."""
    image = np.asarray(volume.data[...]).astype(np.float32)
    parts = supervoxels(torch.from_numpy((image - image.mean()) / image.std()))
    labels = torch.from_numpy(np.asarray(reference.data[...]).astype(np.int64))
    common = majority(parts, labels, int(labels.max()) + 1).numpy().astype(np.uint8)
    return ms.Segmentation(common, volume.grid, reference.labels)


def dice(labels: ms.Segmentation, reference: ms.Segmentation) -> dict[int, float]:
    data = np.asarray(reference.data[...]).astype(np.int64)
    return dice_per_label(np.asarray(labels.data[...]), data, tuple(np.unique(data[data > 0]).tolist()))


if __name__ == "__main__":
    main()
