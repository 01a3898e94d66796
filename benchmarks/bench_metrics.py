"""All metrics of a pair of label volumes: CPU seconds and added peak memory, beside MONAI and medpy in the same run.

Each library runs in a fresh process with one thread, on the same 256x256x160 arrays; CPU seconds are those of the call
with libraries already imported, memory is the peak above what the process held before the call (Linux only). The
results are compared too: the largest difference from ours is printed.

    python benchmarks/bench_metrics.py                          # ours and MONAI
    python benchmarks/bench_metrics.py --libraries ours medpy   # medpy takes minutes
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPE = (160, 256, 256)
SPACING_ZYX_MM = (2.5, 1.0, 1.0)
SCENES = {"5 labels": (5, 40.0), "24 labels": (24, 22.0), "5 large organs": (5, 75.0)}

Labels = npt.NDArray[np.uint8]
Result = dict[str, list[float]]


def pair(organs: int, radius: float, seed: int = 0) -> tuple[Labels, Labels]:
    """Ellipsoids at random places as reference, and the same ones moved and scaled a little as prediction."""
    rng = np.random.default_rng(seed)
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for label in range(1, organs + 1):
        radii = radius * rng.uniform(0.7, 1.3, 3) * (0.6, 1, 1)
        centre = [rng.uniform(r, n - r) for r, n in zip(np.minimum(radii, np.array(SHAPE) / 2.2), SHAPE, strict=True)]
        for target, c, r in (
            (reference, centre, radii),
            (prediction, centre + rng.uniform(-3, 3, 3), radii * rng.uniform(0.95, 1.05, 3)),
        ):
            target[sum(((g - ci) / ri) ** 2 for g, ci, ri in zip(grid, c, r, strict=True)) <= 1] = label
    return prediction, reference


def ours(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    from napari_medseg import Grid, Segmentation, evaluate

    grid = Grid.from_spacing(SHAPE, SPACING_ZYX_MM)

    def run() -> Result:
        scores = evaluate(prediction=Segmentation(prediction, grid), reference=Segmentation(reference, grid))
        return {c: [getattr(row, c) for row in scores.rows] for c in ("dice", "asd_mm", "msd_mm", "hd95_mm", "nsd")}

    return run


def monai(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    torch.set_num_threads(1)
    classes = int(reference.max()) + 1

    def one_hot(labels: Labels) -> torch.Tensor:
        return torch.from_numpy(np.stack([labels == k for k in range(classes)])[None])

    def run() -> Result:
        y_pred, y = one_hot(prediction), one_hot(reference)
        spacing = SPACING_ZYX_MM
        values = {
            "dice": compute_dice(y_pred, y, include_background=False),
            "asd_mm": compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing),
            "msd_mm": compute_hausdorff_distance(y_pred, y, spacing=spacing),
            "hd95_mm": compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing),
            "nsd": compute_surface_dice(y_pred, y, [1.0] * (classes - 1), spacing=spacing),
        }
        return {name: value[0].tolist() for name, value in values.items()}

    return run


def medpy(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    from medpy.metric import binary

    labels = range(1, int(reference.max()) + 1)

    def run() -> Result:
        result: Result = {"dice": [], "asd_mm": [], "msd_mm": []}
        for k in labels:
            b, a = prediction == k, reference == k
            result["dice"].append(binary.dc(b, a))
            result["asd_mm"].append(binary.assd(b, a, SPACING_ZYX_MM))
            result["msd_mm"].append(binary.hd(b, a, SPACING_ZYX_MM))
            binary.hd95(b, a, SPACING_ZYX_MM)  # pools the directions: another definition, nothing to compare
            binary.jc(b, a)
            binary.ravd(b, a)
        return result

    return run


LIBRARIES = {"ours": ours, "monai": monai, "medpy": medpy}


def resident_mib(field: str) -> float:
    """VmRSS (held now) or VmHWM (peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(library: str, scene: str) -> dict[str, Any]:
    """Run one library on one scene in this process."""
    run = LIBRARIES[library](*pair(*SCENES[scene]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, start = resident_mib("VmRSS"), time.process_time()
    result = run()
    seconds = time.process_time() - start
    return {"seconds": seconds, "mib": resident_mib("VmHWM") - before, "result": result}


def in_fresh_process(library: str, scene: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", library, scene]
    single = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=single, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def furthest(a: Result, b: Result) -> float:
    """The largest difference between two results in the metrics that both have."""
    return max(float(np.abs(np.subtract(a[name], b[name])).max()) for name in a.keys() & b.keys())


def compare(libraries: list[str], scene: str) -> None:
    """Print a line per library for the scene, with its ratios to the first one."""
    _, reference = pair(*SCENES[scene])
    print(f"{scene}: {np.count_nonzero(reference) / reference.size:.0%} foreground")
    first: dict[str, Any] | None = None
    for library in libraries:
        one = in_fresh_process(library, scene)
        first = first or one
        print(
            f"  {library:6} {one['seconds']:7.2f} s ({one['seconds'] / first['seconds']:5.1f}x)"
            f" {one['mib']:7.0f} MiB ({one['mib'] / first['mib']:5.1f}x)"
            f"  furthest {furthest(first['result'], one['result']):.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=["ours", "monai"], help="the first is 1x")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "SCENE"), help="one measurement as JSON, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    for scene in options.scenes:
        compare(options.libraries, scene)


if __name__ == "__main__":
    main()
