"""A converted nnU-Net model beside nnunetv2's own predictor: the Dice between their labels, and the time of both.

    python -m venv peer && peer/bin/pip install torch==2.13.0 nnunetv2
    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_nnunet.py --peer peer/bin/python [--folder DIR]

nnunetv2 has a Python of its own, since it asks for other versions. It trains on 24 cases of the hippocampus (see
nnunet_own.py: 2d, 3d_fullres, two folds, a cascade, regions), and predicts 20 images of unequal spacing and orientation
that it has not seen. `convert` then brings each results folder in, and `segment` labels the same images with the
defaults. Printed is the mean and the lowest Dice over labels and images, of our labels against nnunetv2's, and of both
against the manual labels where an image is as it was drawn. The results go to benchmarks/results/nnunet.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import napari_medseg as ms

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "nnunet.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="A Python that has nnunetv2.")
    parser.add_argument("--folder", type=Path, default=Path("build/nnunet"), help="What was made there is used again.")
    args = parser.parse_args()
    data = Path(os.environ["MEDSEG_DATA"]).absolute() / "hippocampus"
    args.folder.mkdir(parents=True, exist_ok=True)
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    told = {**os.environ, **{name: str(args.folder.absolute() / name) for name in names}}
    told |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
    peer = [args.peer.absolute(), Path(__file__).with_name("nnunet_own.py"), args.folder, data]
    subprocess.run(peer, env=told, check=True)
    rows = [compared(path, args.folder) for path in sorted((args.folder / "own").glob("*.json"))]
    print(f"{'configuration':16}{'Dice to nnunetv2':>18}{'lowest':>9}{'equal voxels':>14}{'s a case':>10}")
    for row in rows:
        print(f"{row['name']:16}{row['dice']:18.5f}{row['lowest']:9.5f}{row['equal']:14.6f}{row['cpu_s_a_case']:10.2f}")
    described = {"processor": platform.processor() or platform.machine(), "rows": rows}
    RESULTS.write_text(json.dumps(described, indent=1) + "\n")


def compared(described: Path, folder: Path) -> dict[str, Any]:
    """Convert one results folder, segment all judged images, and compare with nnunetv2's labels."""
    said = json.loads(described.read_text())
    model = converted(described.stem, Path(said["results"]), said["folds"], folder / "ours")
    found: list[float] = []
    equal, cpu_s = [], 0.0
    images = sorted((folder / "judged").glob("*.nii.gz"))
    for path in images:
        began = time.process_time()
        ours = np.asarray(ms.segment(ms.read(path), model, device="cpu").data[...])
        cpu_s += time.process_time() - began
        own = np.asarray(ms.read_segmentation(folder / "own" / described.stem / path.name.replace("_0000", "")).data)
        found += [dice(ours == label, own == label) for label in np.unique(own) if label]
        equal.append(float((ours == own).mean()))
    return {
        "name": described.stem,
        "dice": statistics.mean(found),
        "lowest": min(found),
        "equal": statistics.mean(equal),
        "cpu_s_a_case": cpu_s / len(images),
    }


def converted(name: str, results: Path, folds: list[str], place: Path) -> Path:
    """Our model of some folds of a results folder; nnU-Net's folder is not changed."""
    chosen = place / name / results.name
    shutil.rmtree(place / name, ignore_errors=True)
    chosen.mkdir(parents=True)
    for file in results.glob("*.json"):
        shutil.copy(file, chosen)
    for fold in folds:
        shutil.copytree(results / f"fold_{fold}", chosen / f"fold_{fold}")
    low = results.with_name(results.name.replace("3d_cascade_fullres", "3d_lowres"))
    if low != results:
        shutil.copytree(low, chosen.with_name(low.name))
    out = place / name / "model.safetensors"
    subprocess.run(["napari-medseg", "convert", chosen, "-o", out], check=True)
    return out if out.exists() else out.with_suffix(".json")


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


if __name__ == "__main__":
    main()
