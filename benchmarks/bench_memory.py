"""The volumetric memory network and DeepIGeoS: short trainings on one thread, and what they are worth.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_memory.py train-memory memory.safetensors
    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_memory.py memory memory.safetensors
    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_memory.py deepigeos FOLDER

Seeds are fixed. The memory network learns by the scheme "memory" from phantoms of seeds below 160. It is measured on
phantoms of seeds from 10,000 on, and on hippocampus volumes from the 181st of 200 on, of which it has seen none. The
user gives the largest slice along z, and then the slice that the network's quality head proposes; slices given in any
round do not count.
DeepIGeoS: P-Net learns from the 21st to the 40th hippocampus volume, R-Net by the scheme "clicks" from the 21st to the
80th, and both are measured on those from the 181st on; clicks are simulated as published.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from short_trainings import processor  # first of all: it makes budgets processor time

import napari_medseg as ms  # isort: skip
from napari_medseg.events import Event, TrainProgress
from napari_medseg.interactive.guided.clips import phantoms, shapes
from napari_medseg.interactive.guided.memory import MemoryView, memory_network
from napari_medseg.interactive.guided.rounds import Round
from napari_medseg.interactive.guided.simulated import Corrected, Correction
from napari_medseg.models import load_model

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
LABELS = {1: "anterior", 2: "posterior"}
Mask = npt.NDArray[np.bool_]


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def hippocampus(names: slice) -> Iterator[tuple[ms.Volume, ms.Segmentation]]:
    folder = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    for path in sorted((folder / "images").iterdir())[names]:
        yield ms.read(path), ms.read_segmentation(folder / "labels" / path.name)


def watched(events: Iterable[Event], every: int = 50) -> None:
    started = time.process_time()
    for event in events:
        if isinstance(event, TrainProgress) and (event.done % every == 0 or event.done == event.total):
            seconds = time.process_time() - started
            print(f"step {event.done} of {event.total}: loss {event.loss:.3f}, CPU {seconds:.0f} s", flush=True)


def objects(kind: str, count: int) -> Iterator[tuple[ms.Volume, Mask]]:
    """Unseen volumes, an object of each."""
    if kind == "hippocampus":
        for volume, labels in hippocampus(slice(180, 180 + count)):
            yield volume, np.asarray(labels.data[...]) > 0
        return
    for seed in range(10_000, 10_000 + count):
        volume, labels = shapes(seed)
        data = np.asarray(labels.data[...])
        yield volume, data == int(np.bincount(data.ravel())[1:].argmax()) + 1


def measure_memory(path: Path, count: int) -> dict[str, Any]:
    network, size = memory_network(path)
    rows: dict[str, Any] = {}
    for kind in ("phantoms", "hippocampus"):
        scores, within, pooled = [], [], []
        for volume, mask in objects(kind, count):
            found = rounds_of(network, size, volume, mask)
            never_given = [k for k in range(len(mask)) if k not in found[-1][1].masks]
            scores.append([dice(labels[never_given], mask[never_given]) for labels, _ in found])
            labels, first = found[0]
            judged = [
                (float(first.quality[k]), dice(labels[k], mask[k]))
                for k in range(len(mask))
                if k not in first.masks and (labels[k].any() or mask[k].any())
            ]
            pooled += judged
            within.append(float(stats.spearmanr(*zip(*judged, strict=True)).statistic) if len(judged) > 2 else np.nan)
        table = np.array(scores)
        rows[kind] = {
            "volumes": len(table),
            "dice_after_round": np.round(table.mean(axis=0), 3).tolist(),
            "volumes_that_lose_over_0.01_in_rounds_2_and_3": int((np.diff(table[:, :3]) < -0.01).any(axis=1).sum()),
            "spearman_quality_of_round_1": {
                "all slices": round(float(stats.spearmanr(*zip(*pooled, strict=True)).statistic), 3),
                "mean of volumes": round(float(np.nanmean(within)), 3),
            },
        }
        print(kind, json.dumps(rows[kind]), flush=True)
    rows["five slices"] = beside_the_others(path, count)
    record = load_model(path).spec.training
    trained = {"epochs": round(record.epochs, 1), "minutes": round(record.minutes, 1), "cases": record.cases}
    return {"processor": processor(), **trained, "seed": record.seed, **rows}


def rounds_of(network: Any, size: int, volume: ms.Volume, mask: Mask) -> list[tuple[Mask, Round]]:
    """(the mask, the round) after each slice that a user gave; the square is that of the first one."""
    first = int(mask.sum(axis=(1, 2)).argmax())
    masks = {first: mask[first]}
    view = MemoryView.of(network, size, volume, 0, masks)
    found: list[tuple[Mask, Round]] = []
    for _ in range(ROUNDS):
        done = view.propagate(masks, found[-1][1] if found else None)
        box, probability = view.probability(done)
        labels = np.zeros(mask.shape, dtype=bool)
        labels[box] = probability > 0.5
        for index, given in masks.items():
            labels[index] = given
        found.append((labels, done))
        if done.weakest is None:
            break
        masks = {**masks, done.weakest: mask[done.weakest]}
    return found


def beside_the_others(path: Path, count: int) -> dict[str, float]:
    """The mean Dice of both labels on the slices that are not annotated, from five slices along z."""
    means: dict[str, list[float]] = {"interpolation": [], "geodesic": [], "memory": []}
    for volume, labels in hippocampus(slice(180, 180 + count)):
        data = np.asarray(labels.data[...])
        held = np.flatnonzero((data > 0).any(axis=(1, 2)))
        indices = np.unique(np.rint(np.linspace(held[0], held[-1], 5)).astype(int))
        some = np.zeros_like(data)
        some[indices] = data[indices]
        others = np.setdiff1d(np.arange(len(data)), indices)
        for method, values in means.items():
            model = path if method == "memory" else None
            chosen: dict[str, Any] = {"method": method, "model": model, "slices": {0: indices.tolist()}}
            filled = np.asarray(ms.propagate(volume, ms.Segmentation(some, volume.grid), **chosen).data[...])[others]
            values.append(float(np.mean([dice(filled == k, data[others] == k) for k in LABELS])))
    row = {method: round(float(np.mean(values)), 3) for method, values in means.items()}
    print("five slices, hippocampus", row, flush=True)
    return row


def measure_deepigeos(folder: Path, pnet_epochs: int, rnet_epochs: int, count: int, *, trained: bool) -> dict[str, Any]:
    first, second = folder / "pnet.safetensors", folder / "rnet.safetensors"
    if not trained:
        cases = list(hippocampus(slice(20, 80)))  # bench_interact.py clicks on some of the first
        options: dict[str, Any] = {"val": 0, "device": "cpu", "report": False, "arguments": {"width": 8}}
        watched(ms.iter_train(cases[:20], network="deepigeos_pnet", out=first, epochs=pnet_epochs, **options))
        watched(ms.iter_train(cases, scheme="clicks", out=second, epochs=rnet_epochs, **options))
    network, rng, scores = load_model(second).load_network(), np.random.default_rng(0), []
    clicks = []
    for volume, truth in hippocampus(slice(180, 180 + count)):
        case = Correction.of(volume, truth, ms.segment(volume, first, device="cpu"), list(LABELS))
        state = Corrected.of(case, len(LABELS) + 1)
        row = [both(state.labels, case)]
        for _ in range(3):
            state = state.after_a_round(network, case, rng)
            row.append(both(state.labels, case))
        scores.append(row)
        clicks.append(int(state.clicks.sum()))
    found = {
        "pnet_epochs": load_model(first).spec.training.epochs,
        "rnet_epochs": load_model(second).spec.training.epochs,
        "seed": 0,
        "volumes": len(scores),
        "dice_of_pnet_and_after_rounds": np.round(np.mean(scores, axis=0), 3).tolist(),
        "clicks_after_three_rounds": float(np.mean(clicks)),
        "least_gain_of_a_volume": round(min(row[3] - row[0] for row in scores), 3),
    }
    print("deepigeos", json.dumps(found), flush=True)
    return found


def both(labels: npt.NDArray[np.int64], case: Correction) -> float:
    return float(np.mean([dice(labels == k, case.truth == k) for k in range(1, len(LABELS) + 1)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train-memory", "memory", "deepigeos"])
    parser.add_argument("path", type=Path, help="The model file, or the folder of both.")
    parser.add_argument("--epochs", type=int, default=75, help="Of the memory network (default: 75).")
    parser.add_argument("--cpu-minutes", type=float, help="Of the memory network, instead of epochs.")
    parser.add_argument("--init", type=Path, help="A memory network to train further, on shapes (seeds below 240).")
    parser.add_argument("--volumes", type=int, default=20, help="Of each kind to measure on, at most 20 (default: 20).")
    parser.add_argument("--resume", action="store_true", help="Go on with a training that was stopped.")
    parser.add_argument("--pnet-epochs", type=int, default=64, help="(default: 64)")
    parser.add_argument("--rnet-epochs", type=int, default=12, help="(default: 12)")
    parser.add_argument("--trained", action="store_true", help="Measure the P-Net and R-Net of the folder.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "train-memory":
        budget = {"epochs": args.epochs} if args.cpu_minutes is None else {"minutes": args.cpu_minutes}
        options: dict[str, Any] = {**budget, "batch_size": 4, "val": 0, "device": "cpu", "report": False}
        rate = 0.002 if args.init is None else 0.001
        options |= {"learning_rate": rate, "augment": False}  # clips are varied enough
        cases = phantoms(160, 0) if args.init is None else map(shapes, range(240))
        options |= {"init": args.init, "resume": args.resume}
        watched(ms.iter_train(cases, scheme="memory", out=args.path, **options))
        return
    if args.what == "memory":
        found = measure_memory(args.path, args.volumes)
    else:
        found = measure_deepigeos(args.path, args.pnet_epochs, args.rnet_epochs, args.volumes, trained=args.trained)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.what}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
