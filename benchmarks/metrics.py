"""All metrics of a pair of label volumes beside MONAI and DeepMind's surface-distance: CPU seconds and added memory.

Each library runs in a fresh process with one thread, on the same 256x256x160 arrays. CPU seconds are those of the whole
process during the call, after the imports. Memory is the peak above what the process held before the call (Linux only).
Every ratio is printed beside its limit. The exit status is 1 if a limit is exceeded.

    pip install surface-distance==0.1       # the only peer that the tests do not install
    python benchmarks/metrics.py            # the limits
    python benchmarks/metrics.py --medpy    # medpy too: takes minutes
    python benchmarks/metrics.py --large    # only a zarr pair of 1024x2048x2048 voxels, 24 labels: peak of the process
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SPACING_ZYX_MM = (2.5, 1.0, 1.0)
LARGE_ZYX, LARGE_CHUNKS = (1024, 2048, 2048), (128, 128, 128)
LARGE_LIMIT_MIB = 2048
FURTHEST = 1e-4
"""The largest difference allowed between a value of ours and of a peer."""

Labels = npt.NDArray[np.uint8]
Result = dict[str, list[float]]


@dataclass(frozen=True)
class Ellipsoid:
    label: int
    centre_zyx: npt.NDArray[np.float64]
    radii_zyx: npt.NDArray[np.float64]

    def draw(self, target: Labels, first_z: int = 0) -> None:
        """Draw it into an array whose first plane is `first_z` of the scene."""
        low = np.maximum(0, np.floor(self.centre_zyx - self.radii_zyx - (first_z, 0, 0)).astype(int))
        high = np.minimum(target.shape, np.ceil(self.centre_zyx + self.radii_zyx - (first_z - 1, -1, -1)).astype(int))
        if (high <= low).any():
            return
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        offset = self.centre_zyx - (first_z, 0, 0)
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(axes, offset, self.radii_zyx, strict=True)) <= 1
        target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = self.label


@dataclass(frozen=True)
class Scene:
    """The reference: ellipsoids at random places. The prediction: the same, moved and scaled a little."""

    shape_zyx: tuple[int, int, int]
    organs: int
    radius: float

    def pairs(self) -> Iterator[tuple[Ellipsoid, Ellipsoid]]:
        """(prediction, reference) of each organ."""
        rng, shape = np.random.default_rng(0), np.array(self.shape_zyx)
        for label in range(1, self.organs + 1):
            radii = self.radius * rng.uniform(0.7, 1.3, 3) * (0.6, 1, 1)
            room = np.minimum(radii, shape / 2.2)
            centre = rng.uniform(room, shape - room)
            moved = Ellipsoid(label, centre + rng.uniform(-3, 3, 3), radii * rng.uniform(0.95, 1.05, 3))
            yield moved, Ellipsoid(label, centre, radii)

    def arrays(self) -> tuple[Labels, Labels]:
        prediction, reference = (np.zeros(self.shape_zyx, np.uint8) for _ in range(2))
        for predicted, true in self.pairs():
            predicted.draw(prediction)
            true.draw(reference)
        return prediction, reference


SCENES = {
    "5 labels": Scene((160, 256, 256), 5, 40.0),
    "24 labels": Scene((160, 256, 256), 24, 22.0),
    "5 large organs": Scene((160, 256, 256), 5, 95.0),
}
LIMITS: dict[str, dict[str, tuple[float, float | None]]] = {
    "5 labels": {},
    "24 labels": {"MONAI": (0.05, 0.1), "surface-distance": (0.5, None)},
    "5 large organs": {"MONAI": (0.15, None), "surface-distance": (0.15, None)},
}
"""{scene: {peer: (CPU, memory)}}: the largest ratios of ours to the peer's; None for no limit."""


def ours(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    import scipy.ndimage
    import scipy.spatial  # noqa: F401  # both would else be loaded during the call

    from napari_medseg import Grid, Segmentation, evaluate

    grid = Grid.from_spacing(reference.shape, SPACING_ZYX_MM)

    def run() -> Result:
        scores = evaluate(prediction=Segmentation(prediction, grid), reference=Segmentation(reference, grid))
        return {column: [getattr(row, column) for row in scores.rows] for column in scores.mean}

    return run


def monai(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    import torch
    from monai import metrics

    torch.set_num_threads(1)
    classes = int(reference.max()) + 1

    def one_hot(labels: Labels) -> torch.Tensor:
        return torch.from_numpy(np.stack([labels == k for k in range(classes)])[None])

    def run() -> Result:
        b, a = one_hot(prediction), one_hot(reference)
        in_mm = {"spacing": SPACING_ZYX_MM}
        values = {
            "dice": metrics.compute_dice(b, a, include_background=False),
            "iou": metrics.compute_iou(b, a, include_background=False),
            "asd_mm": metrics.compute_average_surface_distance(b, a, symmetric=True, **in_mm),
            "msd_mm": metrics.compute_hausdorff_distance(b, a, **in_mm),
            "hd95_mm": metrics.compute_hausdorff_distance(b, a, percentile=95, **in_mm),
            "nsd": metrics.compute_surface_dice(b, a, [1.0] * (classes - 1), **in_mm),
        }
        return {name: value[0].tolist() for name, value in values.items()}

    return run


def surface_distance(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    np.Inf = np.inf  # type: ignore[attr-defined]  # numpy 2 dropped the name that version 0.1 uses
    import surface_distance as sd

    def run() -> Result:
        # It weights distances by the areas of surface elements, which is another definition: only Dice is compared.
        result: Result = {"dice": []}
        for k in range(1, int(reference.max()) + 1):
            a, b = reference == k, prediction == k
            distances = sd.compute_surface_distances(a, b, SPACING_ZYX_MM)
            sd.compute_average_surface_distance(distances)
            sd.compute_robust_hausdorff(distances, 100)
            sd.compute_robust_hausdorff(distances, 95)
            sd.compute_surface_dice_at_tolerance(distances, 1.0)
            result["dice"].append(sd.compute_dice_coefficient(a, b))
        return result

    return run


def medpy(prediction: Labels, reference: Labels) -> Callable[[], Result]:
    from medpy.metric import binary

    def run() -> Result:
        result: Result = {"dice": [], "iou": [], "asd_mm": [], "msd_mm": [], "hd95_pooled_mm": []}
        for k in range(1, int(reference.max()) + 1):
            b, a = prediction == k, reference == k
            result["dice"].append(binary.dc(b, a))
            result["iou"].append(binary.jc(b, a))
            result["asd_mm"].append(binary.assd(b, a, SPACING_ZYX_MM))
            result["msd_mm"].append(binary.hd(b, a, SPACING_ZYX_MM))
            result["hd95_pooled_mm"].append(binary.hd95(b, a, SPACING_ZYX_MM))
        return result

    return run


LIBRARIES = {"ours": ours, "MONAI": monai, "surface-distance": surface_distance, "medpy": medpy}


def mib(field: str) -> float:
    """VmRSS (held now) or VmHWM (peak) of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(library: str, scene: str) -> dict[str, Any]:
    """Run one library on one scene in this process."""
    run = LIBRARIES[library](*SCENES[scene].arrays())
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, start = mib("VmRSS"), time.process_time()
    result = run()
    seconds = time.process_time() - start
    return {"seconds": seconds, "mib": mib("VmHWM") - before, "result": result}


def make_large(folder: str) -> dict[str, Any]:
    """Write the large pair, a row of chunks at a time."""
    import zarr

    scene = Scene(LARGE_ZYX, 24, 250.0)
    for i, name in enumerate(("prediction", "reference")):
        array = zarr.create_array(Path(folder) / name, shape=LARGE_ZYX, chunks=LARGE_CHUNKS, dtype=np.uint8)
        for first in range(0, LARGE_ZYX[0], LARGE_CHUNKS[0]):
            planes = np.zeros((LARGE_CHUNKS[0], *LARGE_ZYX[1:]), np.uint8)
            for organ in scene.pairs():
                organ[i].draw(planes, first)
            array[first : first + len(planes)] = planes
    return {}


def measure_large(folder: str) -> dict[str, Any]:
    """Evaluate the large pair in this process; the peak includes interpreter and libraries."""
    import zarr

    from napari_medseg import Grid, Segmentation, evaluate

    grid = Grid.from_spacing(LARGE_ZYX, SPACING_ZYX_MM)
    b, a = (Segmentation(zarr.open_array(Path(folder) / name, mode="r"), grid) for name in ("prediction", "reference"))
    start = time.process_time()
    scores = evaluate(prediction=b, reference=a)
    return {
        "seconds": time.process_time() - start,
        "mib": mib("VmHWM"),
        "labels": len(scores.rows),
        "foreground": 1 - scores.background.reference / scores.voxels,
        "dice": scores.mean["dice"],
        "asd_mm": scores.mean["asd_mm"],
    }


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "measure": measure,
    "make_large": make_large,
    "measure_large": measure_large,
}


def in_fresh_process(step: str, *arguments: str) -> dict[str, Any]:
    """Run a step in a fresh process, and return what it returns."""
    single = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, env=single, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def furthest(a: Result, b: Result) -> float:
    """The largest difference between two results, over the metrics of both."""
    return max(float(np.abs(np.subtract(a[name], b[name])).max()) for name in a.keys() & b.keys())


def within(ratio: float, limit: float | None) -> str:
    """The ratio as text, and whether it is within its limit."""
    if limit is None:
        return f"{ratio:.2g}"
    return f"{ratio:.2g} ({'within' if ratio <= limit else 'ABOVE'} {limit:g})"


def compare(scene: str, peers: list[str]) -> bool:
    """Print a line per library, with the ratios of ours to it. Returns whether all are within their limits."""
    _, reference = SCENES[scene].arrays()
    mine = in_fresh_process("measure", "ours", scene)
    print(f"{scene}, {np.count_nonzero(reference) / reference.size:.0%} foreground")
    print(f"  {'ours':16} {mine['seconds']:6.2f} s {mine['mib']:6.0f} MiB", flush=True)
    ok = True
    for peer in peers:
        other = in_fresh_process("measure", peer, scene)
        time_limit, memory_limit = LIMITS[scene].get(peer, (None, None))
        cpu, memory = mine["seconds"] / other["seconds"], mine["mib"] / other["mib"]
        far = furthest(mine["result"], other["result"])
        ok &= cpu <= (time_limit or cpu) and memory <= (memory_limit or memory) and far <= FURTHEST
        print(
            f"  {peer:16} {other['seconds']:6.2f} s {other['mib']:6.0f} MiB   CPU ratio {within(cpu, time_limit)}, "
            f"memory ratio {within(memory, memory_limit)}, furthest value {within(far, FURTHEST)}",
            flush=True,
        )
    return ok


def large() -> bool:
    """Print what the large pair takes. Returns whether it is within its limit."""
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process("make_large", folder)
        one = in_fresh_process("measure_large", folder)
    print(f"{'x'.join(map(str, LARGE_ZYX))} voxels as zarr, {one['labels']} labels, {one['foreground']:.0%} foreground")
    print(
        f"  {one['seconds']:.0f} CPU s, peak of the process {one['mib']:.0f} MiB (limit {LARGE_LIMIT_MIB}); "
        f"mean Dice {one['dice']:.4f}, ASD {one['asd_mm']:.3f} mm"
    )
    return bool(one["mib"] <= LARGE_LIMIT_MIB)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--medpy", action="store_true", help="compare with medpy as well")
    parser.add_argument("--large", action="store_true", help="only the pair that is larger than memory")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step[0]](*options.step[1:])))
        return 0
    if options.large:
        return int(not large())
    peers = ["MONAI", "surface-distance", *(["medpy"] if options.medpy else [])]
    kept = [compare(scene, peers) for scene in options.scenes]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
