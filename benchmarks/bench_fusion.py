"""Fusion of channels: MS lesions (FLAIR, T1, T2), and a phantom of which each contrast shows half of the edges.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_fusion.py [--cpu-minutes 1] [TASK...]

The phantom is an ellipsoid in noise. Its octants take turns: a contrast shows the object in every other octant, and the
other contrast in the rest. Six are trained on, six judged. Of the lesions, patients 07 and 19 train and 26 is judged.
All rows have the same minutes of processor time from the first step on, seed 0, one thread, no validation. "dice" is
that of all channels; with drop-out also that of images that lack one.
Rows are written to results/fusion.json one by one; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np

import napari_medseg as ms

RESULTS = Path(__file__).parent / "results" / "fusion.json"
Pair = tuple[ms.Volume, ms.Segmentation]
ROWS: dict[str, dict[str, Any]] = {
    "input": {},
    "layer": {"fusion": "layer"},
    "decision": {"fusion": "decision"},
    "input, drop-out": {"modality_dropout": 0.4},
    "layer, drop-out": {"fusion": "layer", "modality_dropout": 0.4},
}
SIDE = 24


def ellipsoid(seed: int) -> Pair:
    """Two contrasts (2, Z, Y, X) and the object."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(SIDE) - SIDE / 2] * 3, indexing="ij")) - draw.uniform(-3, 3, (3, 1, 1, 1))
    turned = np.einsum("ij,jzyx->izyx", np.linalg.qr(draw.normal(size=(3, 3)))[0], places)
    radii = draw.uniform(4, 9, (3, 1, 1, 1))
    inside = ((turned / radii) ** 2).sum(0) < 1
    even = (turned > 0).sum(0) % 2 == 0
    shown = np.stack([inside & even, inside & ~even])
    image = 40.0 * shown + draw.normal(0, 12, shown.shape)
    grid = ms.Grid.from_spacing((SIDE,) * 3, (1.0, 1.0, 1.0))
    return ms.Volume(image.astype(np.float32), grid, ("A", "B")), ms.Segmentation(inside.astype(np.uint8), grid)


def patient(number: str) -> Pair:
    folder = Path(os.environ["MEDSEG_DATA"]) / "ms_lesions_mr" / f"patient{number}"
    volumes = [ms.read(folder / f"{name}.nii.gz") for name in ("FLAIR", "T1", "T2")]
    data = np.concatenate([np.asarray(volume.data[...]) for volume in volumes])
    return ms.Volume(data, volumes[0].grid, ("FLAIR", "T1", "T2")), ms.read_segmentation(folder / "lesions.nii.gz")


TASKS = {
    "phantom": lambda: ([ellipsoid(s) for s in range(6)], [ellipsoid(s) for s in range(100, 106)]),
    "lesions": lambda: ([patient("07"), patient("19")], [patient("26")]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=1.0)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"by default all: {', '.join(TASKS)}")
    args = parser.parse_args()
    for task in args.tasks or TASKS:
        cases, judged = TASKS[task]()
        for name, knobs in ROWS.items():
            rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            key = f"{task}, {name}, {args.cpu_minutes:g} min"
            if key not in rows:
                rows |= {key: measured(cases, judged, args.cpu_minutes, knobs)}
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(key, rows[key], flush=True)


def measured(cases: list[Pair], judged: list[Pair], minutes: float, knobs: dict[str, Any]) -> dict[str, float]:
    """Train and judge once."""
    with tempfile.TemporaryDirectory() as folder:
        model = ms.train(
            cases,
            out=Path(folder) / "m.safetensors",
            minutes=minutes,
            val=0,
            device="cpu",
            precision="fp32",
            report=False,
            arguments={"channels": (8, 16, 32)},
            **knobs,
        )
        row = {"dice": dice(model, judged, ""), "epochs": round(model.spec.training.epochs, 1)}
        if "modality_dropout" in knobs:
            row |= {f"without {c.name}": dice(model, judged, c.name) for c in model.spec.channels}
    return row


def dice(model: ms.Model, judged: list[Pair], missing: str) -> float:
    """The mean Dice over images that lack a channel; "": that have all."""
    found = []
    for volume, reference in judged:
        kept = [c for c, name in enumerate(volume.channels) if name != missing]
        names = tuple(volume.channels[c] for c in kept)
        seen = ms.Volume(np.asarray(volume.data)[kept], volume.grid, names)
        absent = (missing,) if missing else ()
        labels = ms.segment(seen, model, device="cpu", preset="exact", missing=absent)
        found.append(ms.evaluate(prediction=labels, reference=reference).mean["dice"])
    return round(float(np.mean(found)), 4)


if __name__ == "__main__":
    main()
