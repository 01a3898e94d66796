"""What refiners regain: on hippocampi, and on a phantom that was segmented at half its resolution.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_refine.py --folder models [--only hippocampus|phantom]
        [--scheme boundary-patch|point-rend]

Hippocampus: a model of 3 minutes of processor time on the first 160 cases, then refiners of the same 160 from its
errors; the last 40 are judged once. Phantom: 12 cases of two lobed bodies; one model at half the resolution and one at
the whole, then refiners from the errors of the first; 6 further cases are judged. Seed 0, one thread, default settings.
Models that are in the folder already are not trained again, and a training that was killed goes on. Rows go to
`benchmarks/results/refine.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np
import torch
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders

RESULTS = Path(__file__).parent / "results" / "refine.json"
MINUTES = {
    "hippocampus": {"boundary-patch": 6, "point-rend": 4},
    "phantom": {"boundary-patch": 1, "point-rend": 1.5},
}
"""Processor minutes of each refiner."""
JUDGED = 40
Pair = tuple[ms.Volume, ms.Segmentation]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Where the models lie, or are put.")
    parser.add_argument("--only", choices=("hippocampus", "phantom"))
    parser.add_argument("--scheme", choices=tuple(MINUTES["phantom"]), help="One of the refiners; without it, both.")
    parser.add_argument("--models-only", action="store_true", help="Train the models whose errors refiners learn.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(exist_ok=True)
    schemes = () if args.models_only else (args.scheme,) if args.scheme else tuple(MINUTES["phantom"])
    if args.only != "phantom":
        hippocampus(args.folder, schemes)
    if args.only != "hippocampus":
        phantom(args.folder, schemes)


def hippocampus(folder: Path, schemes: Sequence[str]) -> None:
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    cases = cases_from_folders([data / "images"], data / "labels")
    first, judged = cases[:160], [case.load() for case in cases[160:]]
    base = trained(folder / "hippocampus.safetensors", first, minutes=3, val=0)
    if not schemes:
        return
    plain = timed(lambda volume: ms.segment(volume, base, device="cpu"), judged)
    record("hippocampus", "3-minute model", plain, judged)
    for scheme in schemes:
        refined(folder, "hippocampus", scheme, first, base, plain, judged)


def phantom(folder: Path, schemes: Sequence[str]) -> None:
    training = [body(seed) for seed in range(12)]
    judged = [body(seed) for seed in range(100, 106)]
    half = trained(folder / "phantom.half.safetensors", training, minutes=1, val=0, spacing_zyx_mm=(2.0, 2.0, 2.0))
    if not schemes:
        return
    plain = timed(lambda volume: ms.segment(volume, half, device="cpu"), judged)
    record("phantom", "at half the resolution", plain, judged)
    for scheme in schemes:
        refined(folder, "phantom", scheme, training, half, plain, judged)
    whole = trained(folder / "phantom.whole.safetensors", training, minutes=2, val=0, patch_zyx=(48, 48, 48))
    record("phantom", "at the whole", timed(lambda volume: ms.segment(volume, whole, device="cpu"), judged), judged)


def body(seed: int) -> Pair:
    """Two bodies with lobes of a few mm, in noise; 56^3 voxels of 1 mm."""
    rng, shape = np.random.default_rng(seed), (56, 56, 56)
    z, y, x = np.indices(shape).astype(float)
    lobes = sum(ndimage.gaussian_filter(rng.standard_normal(shape), s) * s**1.5 * 4 for s in (2.0, 4.0))
    labels = np.zeros(shape, np.uint8)
    for label, centre in ((1, (28, 20, 22)), (2, (28, 36, 34))):
        near = sum((axis - c) ** 2 for axis, c in zip((z, y, x), centre, strict=True)) ** 0.5
        labels[(near + 2.5 * lobes < 12) & (labels == 0)] = label
    levels = np.array([0.0, 1.0, 1.6])[labels]
    image = ndimage.gaussian_filter(levels, 0.5) + 0.25 * rng.standard_normal(shape)
    grid = ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    return (
        ms.Volume(image[None].astype(np.float32), grid, ("image",), name=f"body {seed}"),
        ms.Segmentation(labels, grid, {1: "one", 2: "other"}, name=f"body {seed}"),
    )


def trained(out: Path, cases: Sequence[Case | Pair], **options: Any) -> ms.Model:
    if not out.exists():
        began = time.process_time()
        ms.train(list(cases), out=out, device="cpu", seed=0, report=False, resume=True, **options)
        print(f"{out.name}: {(time.process_time() - began) / 60:.1f} processor minutes in all", flush=True)
    return ms.load_model(out)


def timed(
    segment: Callable[[ms.Volume], ms.Segmentation], judged: Sequence[Pair]
) -> tuple[list[ms.Segmentation], float]:
    """The segmentations, and the processor seconds of one."""
    began = time.process_time()
    found = [segment(volume) for volume, _ in judged]
    return found, (time.process_time() - began) / len(judged)


def refined(
    folder: Path,
    data: str,
    scheme: str,
    cases: Sequence[Case | Pair],
    base: ms.Model,
    plain: tuple[list[ms.Segmentation], float],
    judged: Sequence[Pair],
) -> None:
    """Train a refiner of a model on cases, and judge what it makes of the labels `plain` of that model."""
    minutes = MINUTES[data][scheme]
    refiner = trained(folder / f"{data}.{scheme}.safetensors", cases, minutes=minutes, val=0, scheme=scheme, init=base)
    of_volume = {volume.name: found for (volume, _), found in zip(judged, plain[0], strict=True)}
    better = timed(lambda volume: ms.refine(volume, of_volume[volume.name], refiner), judged)
    record(data, f"{scheme}, {minutes:g} minute{'s' * (minutes != 1)}", better, judged)


def record(data: str, method: str, made: tuple[list[ms.Segmentation], float], judged: Sequence[Pair]) -> None:
    """Judge, print, and keep as a row."""
    scores = [
        ms.evaluate(prediction=found, reference=reference).mean
        for found, (_, reference) in zip(made[0], judged, strict=True)
    ]
    row = {
        "data": data,
        "method": method,
        "dice": float(np.mean([s["dice"] for s in scores])),
        "nsd_1mm": float(np.mean([s["nsd"] for s in scores])),
        "hd95_mm": float(np.mean([s["hd95_mm"] for s in scores])),
        "cpu_seconds_a_case": made[1],
        "cases": len(judged),
        "processor": processor(),
    }
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    place = next((n for n, old in enumerate(rows) if (old["data"], old["method"]) == (data, method)), len(rows))
    rows[place : place + 1] = [row]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(
        f"{data}, {method}: Dice {row['dice']:.4f}, NSD at 1 mm {row['nsd_1mm']:.4f}, "
        f"HD95 {row['hd95_mm']:.2f} mm, {made[1]:.2f} CPU s a case",
        flush=True,
    )


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


if __name__ == "__main__":
    main()
