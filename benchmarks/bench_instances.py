"""Objects that touch, told apart: Mask R-CNN's way and a distance map, beside the connected parts of plain labels.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_instances.py [--only SET] [--minutes 4] [--models DIR]

Three sets. phantom: volumes with 40 lesions each, of which nearly all touch another one; 12 train, 3 are judged.
nuclei: the Data Science Bowl 2018; the last 20 images in name order are judged, the others train. lesions: multiple
sclerosis, FLAIR, T1 and T2 at 2 mm; the first two patients in name order train, the last is judged; what touches is one
lesion there. Seed 0, one thread, minutes of processor time from the first step on, no case kept for validation, the
networks of SETTINGS. Scores are those of all objects of a set together, at an IoU above one half. Each row is written
when it is done, and a second run does the rows that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.datasets import open_dataset
from napari_medseg.events import TrainProgress
from napari_medseg.metrics import match_instances
from napari_medseg.metrics.pairwise.instances import InstanceRow, pooled
from napari_medseg.transforms.depths import objects_of

RESULTS = Path(__file__).parent / "results" / "instances.json"
WAYS: Mapping[str, tuple[str, str]] = {
    "mask-rcnn": ("mask-rcnn", "auto"),
    "distance-map": ("distance-map", "auto"),
    "components": ("supervised", "components"),
    "shape": ("supervised", "distance"),
}
"""{way: (scheme that trains, instances of the segmentation)}; the last two judge the same model."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mask-rcnn": {"learning_rate": 0.003, "arguments": {"features": (8, 16, 32)}},
    "distance-map": {"learning_rate": 0.003, "arguments": {"channels": (8, 16, 32)}},
    "supervised": {"learning_rate": 0.003, "arguments": {"channels": (8, 16, 32)}},
}
"""{scheme: knobs that differ from the defaults}: networks that learn something in a few minutes of one thread."""
PATCH = {"phantom": (32, 32, 32), "nuclei": (1, 128, 128), "lesions": (32, 32, 32)}
SHAPE = (48, 72, 72)
JUDGED = 20
Judged = list[tuple[ms.Volume, ms.Segmentation]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("phantom", "nuclei", "lesions"), action="append")
    parser.add_argument("--way", choices=tuple(WAYS), action="append")
    parser.add_argument("--minutes", type=float, default=4.0, help="Of processor time for a training.")
    parser.add_argument("--models", type=Path, default=Path("build/bench-instances"), help="Where models are kept.")
    args = parser.parse_args()
    args.models.mkdir(parents=True, exist_ok=True)
    for name in args.only or ("phantom", "nuclei", "lesions"):
        for way in args.way or WAYS:
            key = f"{name}, {way}"
            if key not in rows():
                keep(key, row_of(name, way, args.minutes, args.models))


def row_of(name: str, way: str, minutes: float, models: Path) -> dict[str, Any]:
    """Train where no model is kept, judge, and return the row."""
    scheme, instances = WAYS[way]
    out = models / f"{name}-{scheme}.safetensors"
    train, judged = SETS[name]()
    if not out.exists():
        objects = "components" if name == "lesions" or scheme == "supervised" else "ids"
        if scheme == "supervised":
            train = [plain(case) for case in train]
        knobs = {**SETTINGS[scheme], "patch_zyx": PATCH[name], "minutes": minutes, "val": 0.0, "mirror": "all"}
        events = ms.iter_train(train, scheme=scheme, objects=objects, out=out, device="cpu", report=False, **knobs)
        for event in events:
            if isinstance(event, TrainProgress) and event.step % 25 == 0:
                losses = {part: round(value, 3) for part, value in event.losses.items()}
                print(f"{name}, {way}: step {event.step}, {event.seconds_left:.0f} s left, {losses}", flush=True)
    model, found, seconds = ms.load_model(out), list[InstanceRow](), 0.0
    for volume, reference in judged:
        began = time.process_time()
        prediction = ms.segment(volume, model, device="cpu", instances=instances)
        seconds += time.process_time() - began
        found += match_instances(prediction=prediction, reference=reference, instances="ids").rows
    row = pooled(found)[0]
    record = model.spec.training
    return {
        "set": name,
        "way": way,
        "processor_minutes": round(record.minutes, 2),
        "epochs": round(record.epochs, 1),
        "objects": row.instances_reference,
        "found": row.found,
        "missed": row.missed,
        "extra": row.extra,
        "f1": round(row.f1, 3),
        "sq": round(row.sq, 3) if row.found else None,
        "pq": round(row.pq, 3),
        "seconds_a_case": round(seconds / len(judged), 2),
    }


def plain(case: Any) -> Any:
    """A case with one label where there is an object: what a network of labels learns."""
    if isinstance(case, Case):
        return case
    volume, ids = case
    return volume, ms.Segmentation((np.asarray(ids.data) > 0).astype(np.uint8), ids.grid, {1: "object"})


def phantoms() -> tuple[list[Any], Judged]:
    """Lesions that touch."""
    return [phantom(seed) for seed in range(1, 13)], [phantom(seed) for seed in (101, 102, 103)]


def nuclei() -> tuple[list[Any], Judged]:
    """Nuclei of the Data Science Bowl 2018."""
    cases = open_dataset(Path(os.environ["MEDSEG_DATA"]) / "dsb2018").cases
    judged = [(case.volume(), case.labels.objects(case.peek().grid)) for case in cases[-JUDGED:]]  # type: ignore[union-attr]
    return list(cases[:-JUDGED]), judged


def lesions() -> tuple[list[Any], Judged]:
    """Lesions of multiple sclerosis."""
    folders = sorted(p for p in (Path(os.environ["MEDSEG_DATA"]) / "ms_lesions_mr").iterdir() if p.is_dir())
    cases = [
        Case(
            name=folder.name,
            images=tuple(folder / f"{name}.nii.gz" for name in ("FLAIR", "T1", "T2")),
            channels=("FLAIR", "T1", "T2"),
            labels=folder / "lesions.nii.gz",
        )
        for folder in folders
    ]
    volume, labels = cases[-1].load()
    ids = objects_of(np.asarray(labels.data[...]), connected=True)
    return list(cases[:-1]), [(volume, replace(labels, data=ids, labels={}))]


SETS = {"phantom": phantoms, "nuclei": nuclei, "lesions": lesions}


def phantom(seed: int, count: int = 40) -> tuple[ms.Volume, ms.Segmentation]:
    """Ellipsoids of one intensity, three of four placed so that they touch an earlier one, blurred and with noise."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1).astype(np.float32)
    ids, nearest = np.zeros(SHAPE, np.int32), np.full(SHAPE, np.inf, np.float32)
    for number, (centre, radii) in enumerate(_placed(draw, count), start=1):
        away = (((places - centre) / radii) ** 2).sum(axis=-1)
        closer = (away < 1) & (away < nearest)
        ids[closer], nearest[closer] = number, away[closer]
    image = ndimage.gaussian_filter((ids > 0).astype(np.float32), 0.7) + 0.25 * draw.normal(size=SHAPE)
    grid = ms.Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))
    return ms.Volume(image[None].astype(np.float32), grid, ("image",)), ms.Segmentation(ids, grid)


def _placed(draw: np.random.Generator, count: int) -> Iterator[tuple[Any, Any]]:
    """Centres and radii (z, y, x) of ellipsoids that do not overlap much."""
    made: list[tuple[Any, Any]] = []
    while len(made) < count:
        radii = draw.uniform(3.5, 7.5, 3)
        if not made or draw.random() < 0.25:
            centre = draw.uniform(8, np.array(SHAPE) - 8)
        else:
            beside, wide = made[draw.integers(len(made))]
            way = draw.normal(size=3)
            way /= np.linalg.norm(way)
            centre = beside + way * 0.95 * (_reach(wide, way) + _reach(radii, way))
        inside = (centre >= 6).all() and (centre < np.array(SHAPE) - 6).all()
        if inside and all(_gap(centre - c, radii, r) >= 0.93 for c, r in made):
            made.append((centre, radii))
            yield centre, radii


def _reach(radii: Any, way: Any) -> float:
    return float(1 / np.sqrt(((way / radii) ** 2).sum()))


def _gap(apart: Any, a: Any, b: Any) -> float:
    """How far two ellipsoids are apart, over how far they are where they touch."""
    length = float(np.linalg.norm(apart))
    return length / (_reach(a, apart / length) + _reach(b, apart / length))


def rows() -> dict[str, Any]:
    """The rows that are there."""
    return json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}


def keep(key: str, row: dict[str, Any]) -> None:
    """Write a row beside the others."""
    cpus = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    RESULTS.write_text(json.dumps({"processor": processor, "seed": 0, "rows": {**rows(), key: row}}, indent=1) + "\n")
    print(key, row, flush=True)


if __name__ == "__main__":
    main()
