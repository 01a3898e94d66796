"""Cascades against their own first stages: coarse-to-fine, detect-then-segment, and the 2D/3D hybrid H-DenseUNet.

    python benchmarks/bench_cascades.py --hippocampus DIR [--cpu-minutes 4] [--only NAME]

Each training has its own process, one thread, and a budget of CPU time. Phantoms of the seeds 0 to 11 are for training,
those of 100 to 105 for the test. The cascades learn the right kidney alone, 0.5 % of the voxels; the hybrid learns all
six organs. For the hippocampus the first 60 cases in name order are for training, the last 30 for the test. The only
validation is the one that the comparison of the hybrid needs: its 2D part is measured on the test cases when its stage
ends. Prints the mean Dice of the first stage or the 2D part alone, and of the whole. Seed 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "--cpu-clock" in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are CPU time then

import numpy as np

TRAIN, TEST = range(12), range(100, 106)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hippocampus", type=Path, help="folder with images/ and labels/")
    parser.add_argument("--cpu-minutes", type=float, default=4.0)
    parser.add_argument("--only", choices=list(RUNS))
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--cpu-clock", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(RUNS[args.run](args)))
        return
    print(f"{'':<24}{'first alone':>12}{'whole':>8}   after {args.cpu_minutes:g} minutes of CPU time")
    for name in [args.only] if args.only else RUNS:
        if "hippocampus" not in name or args.hippocampus:
            found = child(name, args)
            print(f"{name:<24}{found['first']:>12.4f}{found['whole']:>8.4f}   {found['about']}", flush=True)


def child(name: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", name, "--cpu-clock", "--cpu-minutes", str(args.cpu_minutes)]
    command += ["--hippocampus", str(args.hippocampus)] if args.hippocampus else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def kidney(seed: int) -> tuple[Any, Any]:
    """A phantom CT with the right kidney as its only label."""
    from napari_medseg import Segmentation
    from napari_medseg.sample import phantom

    volume, labels = phantom("ct", seed=seed, shape_zyx=(80, 128, 176), spacing_zyx_mm=(3.0, 2.03, 2.07))
    one = np.asarray(labels.data) == 3
    return volume, Segmentation(one.astype(np.uint8), labels.grid, {1: "right kidney"})


def organs(seed: int) -> tuple[Any, Any]:
    from napari_medseg.sample import phantom

    return phantom("ct", seed=seed)


def cascade(kind: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """Train a cascade of two unet3d on phantoms; compare its first stage with the whole on unseen phantoms."""

    def run(args: argparse.Namespace) -> dict[str, Any]:
        import torch

        import napari_medseg as ms

        torch.set_num_threads(1)
        train = [kidney(seed) for seed in TRAIN]
        tests = [kidney(seed) for seed in TEST]
        fraction = float(np.mean([np.asarray(labels.data).mean() for _, labels in tests]))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "m.safetensors"
            ms.train(train, out=out, cascade=kind, minutes=args.cpu_minutes, val=0, seed=0, device="cpu")
            first = out.with_suffix(".training") / "first.safetensors"
            scores = {n: mean_dice(tests, model) for n, model in (("first", first), ("whole", out))}
        return {**scores, "about": f"object {100 * fraction:.2f} % of the volume"}

    return run


def mean_dice(cases: list[tuple[Any, Any]], model: Path) -> float:
    import napari_medseg as ms

    means = []
    for image, labels in cases:
        found = ms.segment(image, model, device="cpu")
        means.append(ms.evaluate(prediction=found, reference=labels).mean["dice"])
    return float(np.mean(means))


def hybrid(cases_of: Callable[[argparse.Namespace], tuple[list[Any], list[Any]]]) -> Any:
    """Train H-DenseUNet; compare its 2D part, at the end of its stage, with the whole on the test cases."""

    def run(args: argparse.Namespace) -> dict[str, Any]:
        import torch

        import napari_medseg as ms

        torch.set_num_threads(1)
        train, tests = cases_of(args)
        with tempfile.TemporaryDirectory() as folder:
            model = ms.train(
                [*train, *tests],
                network="hdenseunet",
                out=Path(folder) / "m.safetensors",
                minutes=args.cpu_minutes,
                val=len(tests) / (len(train) + len(tests)),
                validations=0,
                precision="fp32",
                seed=0,
                device="cpu",
            )
            found = model.spec.training.validation
            whole = mean_dice([c.load() if hasattr(c, "load") else c for c in tests], model.path)
        return {"first": found["dice mean of stage planar"], "whole": whole, "about": f"{len(tests)} test cases"}

    return run


def hippocampus(args: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    from napari_medseg.cases import cases_from_folders

    cases = cases_from_folders([args.hippocampus / "images"], args.hippocampus / "labels")
    return list(cases[:60]), list(cases[-30:])


def phantoms(args: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    return [organs(seed) for seed in TRAIN], [organs(seed) for seed in TEST]


RUNS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "coarse-to-fine": cascade("coarse-to-fine"),
    "detect": cascade("detect"),
    "hybrid phantom": hybrid(phantoms),
    "hybrid hippocampus": hybrid(hippocampus),
}

if __name__ == "__main__":
    main()
