"""The table of networks: what each costs on a patch of 96^3, and what it learns of the hippocampus in equal CPU time.

    python benchmarks/bench_networks.py --hippocampus DIR [--networks NAME...] [--cpu-minutes 1] [--again]

Every figure is measured in its own process, on one thread, and kept in benchmarks/results/networks.json. Networks in
that file are left out unless --again is given. docs/benchmark-networks.md is written from the file.

Parameters, multiply-adds and the memory of training follow from the shapes of the network. Time and memory of inference
are those of one forward pass of the default preset in fp32 on 96^3 voxels; 2D networks see them as 96 slices. Dice
comes from a training with a budget of CPU time, so that other work on the machine does not matter. The first 40 cases
in name order are for training (seed 0, no validation); the last 20 are segmented and measured.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if "--cpu-clock" in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are CPU time then

from napari_medseg import registry

RESULTS = Path(__file__).parent / "results" / "networks.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmark-networks.md"
SIDE = 96
TRAIN, TEST = 40, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hippocampus", type=Path, help="folder with images/ and labels/; without it no Dice")
    parser.add_argument("--networks", nargs="+", default=list(registry.networks()))
    parser.add_argument("--cpu-minutes", type=float, default=1.0)
    parser.add_argument("--again", action="store_true", help="measure what is in the results already")
    parser.add_argument("--run", choices=("cost", "dice"), help=argparse.SUPPRESS)
    parser.add_argument("--cpu-clock", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        name = args.networks[0]
        found = cost(name) if args.run == "cost" else dice(name, args.hippocampus, args.cpu_minutes)
        print(json.dumps(found))
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.networks:
        if registry.network(name).takes == "image":
            measure(name, results.setdefault(name, {}), args)
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"wrote {PAGE}")


def measure(name: str, row: dict[str, Any], args: argparse.Namespace) -> None:
    """Measure what the row of a network lacks."""
    if args.again or "cpu_seconds" not in row:
        row.update(child("cost", name, args))
    if args.hippocampus and (args.again or "dice" not in row):
        row.update(child("dice", name, args))
    print(name, row, flush=True)


def child(run: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One measurement in its own process, on one thread."""
    command = [sys.executable, __file__, "--run", run, "--networks", name, "--cpu-minutes", str(args.cpu_minutes)]
    command += ["--hippocampus", str(args.hippocampus), "--cpu-clock"] if run == "dice" else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cost(name: str) -> dict[str, Any]:
    """Size, multiply-adds and memory from the shapes; time and memory of one forward pass."""
    import torch

    from napari_medseg.architectures import costs_of
    from napari_medseg.architectures.modes import in_mode

    torch.set_num_threads(1)
    spec = registry.network(name)
    flat = spec.dims[-1] == 2
    of_patch = costs_of(spec, (SIDE,) * spec.dims[-1])
    network = in_mode(spec.build().eval(), "2d" if flat else "3d")
    x = torch.randn(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network(x[..., :32, :32, :32])
        before, started = peak_mib(), time.process_time()
        network(x)
        seconds = time.process_time() - started
    slices = SIDE if flat else 1
    return {
        "parameters": of_patch.parameters,
        "gmacs": of_patch.macs * slices / 1e9,
        "training_gib": of_patch.training_bytes / 2**30,
        "cpu_seconds": seconds,
        "inference_mib": peak_mib() - before,
    } | gpu(network, x)


def gpu(network: Any, x: Any) -> dict[str, float]:
    """Milliseconds on a GPU, the median of ten runs; empty without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    network, x, times = network.cuda(), x.cuda(), []
    with torch.inference_mode():
        for _ in range(12):
            torch.cuda.synchronize()
            started = time.perf_counter()
            network(x)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return {"gpu_ms": 1000 * sorted(times[2:])[5]}


def dice(name: str, folder: Path, minutes: float) -> dict[str, Any]:
    """Mean Dice of both labels over the test cases, after `minutes` of CPU time of training."""
    import torch

    import napari_medseg as ms
    from napari_medseg.cases import cases_from_folders
    from napari_medseg.events import TrainProgress

    torch.set_num_threads(1)
    cases = cases_from_folders([folder / "images"], folder / "labels")
    steps = 0
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "m.safetensors"
        for event in ms.iter_train(cases[:TRAIN], network=name, out=out, minutes=minutes, val=0, seed=0, device="cpu"):
            steps = event.step if isinstance(event, TrainProgress) else steps
        scores = []
        for case in cases[-TEST:]:
            image, labels = case.load()
            scores.append(ms.evaluate(prediction=ms.segment(image, out, device="cpu"), reference=labels).mean["dice"])
    return {"dice": sum(scores) / len(scores), "steps": steps, "cpu_minutes": minutes}


def peak_mib() -> float:
    """Peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def page(results: dict[str, Any]) -> str:
    """The page of the documentation."""
    on_gpu = any("gpu_ms" in row for row in results.values())
    head = ["Network", "Year", "Dims", "Parameters", "as published", "GMACs", "CPU s"]
    head += ["GPU ms"] * on_gpu + ["Inference MiB", "Training GiB", "Dice", "Steps"]
    minutes = next((row["cpu_minutes"] for row in results.values() if "cpu_minutes" in row), 0)
    lines = ["# Networks side by side", "", INTRODUCTION.format(side=SIDE, train=TRAIN, test=TEST, minutes=minutes)]
    for family in registry.FAMILIES:
        rows = [line(n, results[n], on_gpu) for n in sorted(results) if registry.network(n).family == family]
        if rows:
            lines += ["", f"## {family[0].upper()}{family[1:]}", "", table_row(head)]
            lines += [table_row(["---", *["---:"] * (len(head) - 1)]), *map(table_row, rows)]
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "monai"))
    return "\n".join(
        [*lines, "", f"Made by `benchmarks/bench_networks.py` with {versions} on {platform.machine()}.", ""]
    )


INTRODUCTION = """\
All networks have their default preset, one channel and two classes, and see a patch of {side}x{side}x{side} voxels;
2D networks see it as {side} slices. *As published* is the number of parameters of the paper preset. Time and memory of
inference are those of one forward pass in fp32 on one thread. Memory of training is what the backward pass keeps of one
such patch (one slice for 2D networks), with the weights, the gradients and the moments of Adam.

*Dice* is the mean of both labels of the hippocampus (Medical Segmentation Decathlon, task 4) after {minutes:g} minutes
of CPU time. The first {train} cases in name order are for training, the last {test} for the test; the seed is 0. A
budget this short favours small networks. It says how fast a network learns on a laptop, not how good it becomes."""


def line(name: str, row: dict[str, Any], on_gpu: bool) -> list[str]:
    spec = registry.network(name)
    return [
        f"`{name}`",
        str(spec.year),
        ", ".join(f"{d}D" for d in spec.dims),
        f"{row['parameters']:,}",
        f"{spec.parameters_paper:,}" if spec.parameters_paper else "",
        f"{row['gmacs']:.1f}",
        f"{row['cpu_seconds']:.1f}",
        *([f"{row['gpu_ms']:.1f}" if "gpu_ms" in row else ""] * on_gpu),
        f"{row['inference_mib']:.0f}",
        f"{row['training_gib']:.2f}",
        f"{row['dice']:.3f}" if "dice" in row else "",
        str(row.get("steps", "")),
    ]


def table_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
