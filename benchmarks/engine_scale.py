"""How the engine grows with the image and the classes; and an image of 50 GB.

    OMP_NUM_THREADS=1 python benchmarks/engine_scale.py [--only NAME] [--largest 1024] [--folder DIR]

The images are OME-Zarr in 128^3 chunks. Of a sparse one most chunks are absent and read as air; five lie on the disk,
full of noise. The model is a `unet3d` of 4 and 8 features, random weights and windows of 64^3, which labels air as
background. Each run has a process of its own with one thread. Time is the processor's, memory the peak of the process
above what it held with the model loaded. A figure that benchmarks/results/scaling.json has is kept. bench_engine.py
takes its rows for workers and for a memory budget from here. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import zarr

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.runs.files import segmenting_case
from napari_medseg.inference.scale.crew import Processes, crew_of
from napari_medseg.models.file import write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

RESULTS = Path(__file__).resolve().parent / "results" / "scaling.json"
CHUNK, AIR, WINDOW = 128, -1000, 64
DENSE_CHUNKS = ((0, 0, 0), (1, 1, 1), (1, 2, 3), (4, 4, 4), (6, 5, 2))
"""Numbers of the chunks of a sparse image that lie on the disk; those beyond a small image are left out."""
LARGE = (2816, 2944, 3072)
"""25.5e9 voxels: 51 GB of int16."""
GIB = 1 << 30
BUDGET_GIB = 0.5
WORKERS_SHAPE = (1536, 64, 64)
"""One column of windows: what runs twice at the borders of blocks is little."""
Shape = tuple[int, int, int]
Figures = dict[str, Any]


def write_image(path: Path, shape: Shape, *, is_dense: bool) -> None:
    """An int16 OME-Zarr of noise; of a sparse one only some chunks."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    chunks = tuple(min(CHUNK, n) for n in shape)
    array = group.create_array("0", shape=shape, chunks=chunks, dtype="int16", fill_value=AIR)
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
    everywhere = [tuple(map(int, at)) for at in np.ndindex(*counts)]
    draw = np.random.default_rng(0)
    for at in everywhere if is_dense else [c for c in DENSE_CHUNKS if c in set(everywhere)]:
        box = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(at, chunks, shape, strict=True))
        array[box] = draw.integers(-900, 400, [b.stop - b.start for b in box], dtype="int16")


def write_small_model(path: Path, classes: int, features: tuple[int, ...] = (4, 8)) -> None:
    """A model of random weights that labels air as background."""
    import torch

    torch.manual_seed(0)
    chosen = ms.networks()["unet3d"]
    arguments = chosen.arguments(in_channels=1, out_channels=classes, channels=features, deep_supervision=False)
    spec = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="image", modality="other"),),
        labels={k: f"class {k}" for k in range(1, classes)},
        patch_zyx=(WINDOW,) * 3,
        normalisation=(Normalisation(kind="clip_zscore", low=AIR, high=400, mean=AIR, std=500),),  # air is 0
        deep_supervision=False,
    )
    network = chosen.build_from(arguments)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Conv3d)][-1]
    assert head.bias is not None, "a unet3d has one there"
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.05] + [0.0] * (classes - 1)))
    write_model(path, spec, network.state_dict())


def segment_here(image: str, model: str, out: str, preset: Any) -> Figures:
    """Segment an image of the disk in this process; its time, without the start of Python, and its memory."""
    import torch

    torch.set_num_threads(1)
    chosen = ms.load_model(model)
    network = chosen.load_network()
    with torch.no_grad():
        network(torch.zeros(1, 1, WINDOW, WINDOW, WINDOW))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _status_mib("VmRSS")
    began, clock = time.process_time(), time.monotonic()
    ms.segment(ms.read(image), chosen, out=out, device="cpu", precision="fp32", preset=preset)
    return {
        "cpu_s": time.process_time() - began,
        "wall_s": time.monotonic() - clock,
        "before_mib": before,
        "peak_mib": _status_mib("VmHWM"),
    }


def workers_here(image: str, model: str, out: str, count: int, small: str) -> Figures:
    """Segment by some workers, whose torch is loaded before; the clock's seconds, and the processor's of all."""
    chosen = ms.load_model(model)
    config = SegmentConfig(device="cpu", precision="fp32", preset="exact")
    # A worker gets its share of the processors as threads: with as many of them as workers that is one.
    with patch("os.cpu_count", return_value=count), crew_of(count, None) as crew:
        assert isinstance(crew, Processes), "leave dask.distributed out: its start would be timed"
        for path, target in ((small, f"{out}.warm.zarr"), (image, out)):
            began, used = time.monotonic(), workers_cpu_s()
            work = segmenting_case(Case(name="image", images=(Path(path),)), chosen, config, Wanted(Path(target)), crew)
            for _ in work:
                pass
        found = {n: s - used.get(n, 0) for n, s in workers_cpu_s().items()}
        return {"wall_s": time.monotonic() - began, "cpu_s": sorted(found.values()), "load": os.getloadavg()[0]}


def workers_cpu_s() -> dict[int, float]:
    """{process: CPU seconds} of the processes that this one started."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            with suppress(OSError):
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                found[child] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


COMMANDS: dict[str, Callable[..., Figures]] = {"segment": segment_here, "workers": workers_here}


def run(command: str, budget_gib: float | None = None, **wishes: Any) -> Figures:
    """The figures of a run in a process of its own. budget_gib: the memory that an image may take there."""
    call = [sys.executable, "-W", "ignore", __file__, "--run", json.dumps({"command": command, **wishes})]
    told = {} if budget_gib is None else {"MEDSEG_MEMORY_GIB": str(budget_gib)}
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **told})
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def disk_mib(path: Path) -> float:
    """What a store takes on the disk."""
    return sum(file.lstat().st_blocks for file in path.rglob("*")) * 512 / 2**20


def segmented(
    folder: Path, shape: Shape, preset: str, *, is_dense: bool, classes: int = 3, budget_gib: float | None = None
) -> Figures:
    """The figures of one image; what was written is removed."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        image, model, out = (Path(place) / name for name in ("image.zarr", "model.safetensors", "labels.zarr"))
        write_image(image, shape, is_dense=is_dense)
        write_small_model(model, classes)
        wishes = {"image": str(image), "model": str(model), "out": str(out), "preset": preset}
        found = run("segment", budget_gib=budget_gib, **wishes)
        described = {"shape": shape, "classes": classes, "preset": preset, "dense": is_dense}
        checked = {"labelled_chunks": labelled_chunks(out, shape)} if not is_dense else {}
        return {**found, **described, **checked, "image_mib": disk_mib(image), "labels_mib": disk_mib(out)}


def labelled_chunks(out: Path, shape: Shape) -> list[float]:
    """The share of labelled voxels in each chunk of the image that is on the disk, and in a neighbour that is not."""
    labels = ms.read_segmentation(out).data
    counts = [-(-n // CHUNK) for n in shape]
    inside = [at for at in DENSE_CHUNKS if all(i < n for i, n in zip(at, counts, strict=True))]
    absent = [(0, 0, 3)] if counts[2] > 3 else []
    boxes = [tuple(slice(i * CHUNK, (i + 1) * CHUNK) for i in at) for at in [*inside, *absent]]
    return [float((np.asarray(labels[box]) > 0).mean()) for box in boxes]


def with_workers(folder: Path, shape: Shape = WORKERS_SHAPE) -> Figures:
    """One worker and two, one after the other, on the same image."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        image, small, model = (Path(place) / name for name in ("image.zarr", "small.zarr", "model.safetensors"))
        write_image(image, shape, is_dense=True)
        write_image(small, (2 * WINDOW,) * 3, is_dense=False)
        write_small_model(model, 3, (16, 32))
        outs = [Path(place) / f"{count}.zarr" for count in (1, 2)]
        wishes = {"image": str(image), "model": str(model), "small": str(small)}
        one, two = (run("workers", **wishes, out=str(out), count=n) for n, out in enumerate(outs, start=1))
        labels = [np.asarray(ms.read_segmentation(out).data) for out in outs]
    return {
        "one": one,
        "two": two,
        "faster": one["wall_s"] / two["wall_s"],
        "faster_by_cpu": one["cpu_s"][-1] / two["cpu_s"][-1],
        "identical": bool(np.array_equal(*labels)) and len(np.unique(labels[0])) > 1,
    }


def budget(folder: Path) -> Figures:
    """The memory that a run adds on an image of ten times the budget, over the budget."""
    side = 1408
    found = segmented(folder, (side,) * 3, "fast", is_dense=False, budget_gib=BUDGET_GIB)
    added = found["peak_mib"] - found["before_mib"]
    return {"reached": added / (BUDGET_GIB * 1024), "image_gib": 2 * side**3 / GIB, "budget_gib": BUDGET_GIB, **found}


def tasks(folder: Path, largest: int) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """{name: what is measured}."""
    for side in (n for n in (64, 128, 192, 256) if n <= largest):
        yield f"dense {side}", lambda n=side: segmented(folder, (n,) * 3, "balanced", is_dense=True)
    for side in (n for n in (128, 256, 512, 768, 1024) if n <= largest):
        yield f"sparse {side}", lambda n=side: segmented(folder, (n,) * 3, "balanced", is_dense=False)
    for classes in (2, 6, 12, 25, 50, 100):
        for preset in ("exact", "fast"):
            yield (
                f"classes {classes} {preset}",
                lambda k=classes, p=preset: segmented(folder, (CHUNK,) * 3, p, is_dense=True, classes=k),
            )
    yield "large 1 GB", lambda: segmented(folder, (768, 768, 896), "fast", is_dense=False, budget_gib=3)
    yield "large", lambda: segmented(folder, LARGE, "fast", is_dense=False, budget_gib=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="the beginning of the name of a figure, such as 'dense'")
    parser.add_argument("--largest", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path("build/scale"))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        wishes = json.loads(args.run)
        print(json.dumps(COMMANDS[wishes.pop("command")](**wishes)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    table = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, call in tasks(args.folder, args.largest):
        if name in table or not any(name.startswith(wanted) for wanted in args.only or [name]):
            continue
        table[name] = call()
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")
        print(name, json.dumps(table[name]), flush=True)


if __name__ == "__main__":
    main()
