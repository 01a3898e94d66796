"""How the engine grows: with the image, the classes and the workers; and an image of 50 GB.

    OMP_NUM_THREADS=1 python benchmarks/engine_scale.py [--only sizes|classes|workers|large] [--largest 1024]

An image is an OME-Zarr in 128^3 chunks, most of which are absent: they read as air. Where chunks are, phantoms of the
sample's kind lie; the sample's model segments them. For the classes the network has random weights, and the image is
dense. Each run has a process of its own with one thread, and reads from and writes to the disk. Memory is the peak of
the process, libraries included. A figure that benchmarks/results/scaling.json has is kept, but for those of --again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import napari_medseg as ms
from napari_medseg.sample import phantom

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
SAMPLE = ROOT / "sample_data" / "phantom_ct.safetensors"
CHUNK = 128
AIR = -1000
SPACING_MM = (5.0, 3.25, 3.25)
"""That of the sample's model."""
Shape = tuple[int, int, int]
Figures = dict[str, Any]


def write_sparse(path: Path, shape: Shape, places: Sequence[Shape], seed: int = 100) -> None:
    """An int16 OME-Zarr of air, with a phantom at each place: its first voxel; no other chunk is on the disk."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    chunks = tuple(min(CHUNK, n) for n in shape)
    array = group.create_array("0", shape=shape, chunks=chunks, dtype="int16", fill_value=AIR)
    scale = [{"type": "scale", "scale": list(SPACING_MM)}]
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    volume, _ = phantom("ct", seed=seed)
    data = np.asarray(volume.data)[0]
    for place in places:
        box = tuple(slice(p, min(p + n, m)) for p, n, m in zip(place, data.shape, shape, strict=True))
        array[box] = data[tuple(slice(0, b.stop - b.start) for b in box)]


def run(command: str, **wishes: Any) -> Figures:
    """The figures of a run in a process of its own."""
    call = [sys.executable, "-W", "ignore", __file__, "--run", json.dumps({"command": command, **wishes})]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def segment_here(image: str, out: str, model: str = str(SAMPLE), preset: Any = "fast") -> Figures:
    """Segment an image of the disk in this process; its time, without the start of Python, and its memory."""
    import torch

    torch.set_num_threads(1)
    chosen = ms.load_model(model)
    chosen.load_network()
    began, clock = time.process_time(), time.monotonic()
    before = _status_mib("VmRSS")
    labels = ms.segment(ms.read(image), chosen, out=out, device="cpu", precision="fp32", preset=preset)
    return {
        "cpu_s": time.process_time() - began,
        "wall_s": time.monotonic() - clock,
        "before_mib": before,
        "peak_mib": _status_mib("VmHWM"),
        "shape": list(labels.grid.shape),
    }


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def disk_mib(path: Path) -> float:
    """What a store takes on the disk."""
    return sum(file.lstat().st_blocks for file in path.rglob("*")) * 512 / 2**20


COMMANDS = {"segment": segment_here}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        wishes = json.loads(args.run)
        print(json.dumps(COMMANDS[wishes.pop("command")](**wishes)))
        return


if __name__ == "__main__":
    main()
