"""The inference engine beside its peers: every row that it must reach, with its target, what was reached, and Dice.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 python benchmarks/bench_engine.py [--hippocampus MODEL] [--only ROW]
    ... --only nnU-Net --peer PYTHON [--folder DIR]
    ... --backend openvino [--hippocampus MODEL]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 python benchmarks/bench_engine.py

The last command makes a processor with AVX-512 work as one without. Each row has its own process and one thread; time
is the processor's. The results go to benchmarks/results/engine.json, with a description of the machine; a row that was
not run keeps its earlier result. The sample's model segments phantoms of seeds from 100 on, which it has not seen; a
model of the hippocampus, where one is given, the volumes from the 161st on. The peer is MONAI's
sliding_window_inference with the same network, gaussian weights and overlap 0.5, in the same process. The peer of one
row is nnunetv2, which needs a Python of its own, as for bench_nnunet.py. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import engine_nnunet
import numpy as np
import numpy.typing as npt
import torch
from engine_scale import budget, with_workers
from monai.inferers import sliding_window_inference

import napari_medseg as ms
from napari_medseg.config import InferencePreset, Precision, SegmentConfig
from napari_medseg.inference.blend import RollingLogits
from napari_medseg.inference.device import Machine, has_fast_bf16
from napari_medseg.inference.engine import segment_windows
from napari_medseg.inference.graphs.running import with_openvino
from napari_medseg.inference.plan import ImageFacts, InferencePlan, axis_order, resolve
from napari_medseg.inference.planes import BoxReader
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import write_model
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.sample import phantom
from napari_medseg.transforms.intensity import standardise
from napari_medseg.volume import Segmentation, Volume, label_dtype

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "engine.json"
SAMPLE = ROOT / "sample_data" / "phantom_ct.safetensors"
CPU = torch.device("cpu")
Labels = npt.NDArray[np.int64]
Case = tuple[Volume, Segmentation]
Row = dict[str, Any]


def cpu_seconds(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """The shortest CPU time of some runs, and the last result."""
    found, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        found.append(time.process_time() - start)
    return min(found), result


def cases_of(args: argparse.Namespace) -> tuple[ms.Model, list[Case]]:
    """The trained model, and images that it has not seen."""
    if not args.hippocampus:
        return ms.load_model(SAMPLE), [phantom("ct", seed=seed) for seed in range(100, 100 + args.cases)]
    folder = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    paths = sorted((folder / "images").iterdir())[160 : 160 + args.cases]
    return ms.load_model(args.hippocampus), [
        (ms.read(path), ms.read_segmentation(folder / "labels" / path.name)) for path in paths
    ]


def plan_of(volume: Volume, spec: ModelSpec, **knobs: Any) -> InferencePlan:
    return resolve(ImageFacts.of(volume), spec, replace(SegmentConfig(), **knobs), Machine("cpu"))


def predictor_of(model: ms.Model, network: torch.nn.Module, plan: InferencePlan) -> Predictor:
    """The model's network as the plan runs it."""
    predictor = Predictor.of(network, plan.spec, CPU, plan.precision).mirrored_as(plan)
    return predictor if plan.backend == "torch" else with_openvino(predictor, model, plan)


def ours(volume: Volume, spec: ModelSpec, predictor: Predictor, **knobs: Any) -> Labels:
    """The labels of the engine, for a plan of these knobs."""
    plan = plan_of(volume, spec, **knobs)
    result = Segmentation(np.zeros(volume.grid.shape, label_dtype(max(spec.label_ids))), volume.grid, spec.labels)
    for _ in segment_windows(volume, plan, predictor, result):
        pass
    return np.asarray(result.data[...]).astype(np.int64)


def monais(volume: Volume, spec: ModelSpec, network: torch.nn.Module) -> tuple[Labels, npt.NDArray[np.float32]]:
    """MONAI's labels in the stored order, and by how much the largest logit is ahead there."""
    order = axis_order(volume.grid, spec)
    data = order.apply(np.asarray(volume.data[...])).astype(np.float32)
    for c, rule in enumerate(spec.normalisation):
        if rule.kind == "clip_zscore":
            data[c] = standardise(data[c].clip(rule.low, rule.high), rule.mean or 0, rule.std or 1)
        else:
            data[c] = standardise(data[c], float(data[c].mean(dtype=float)), float(data[c].std(dtype=float)))
    with torch.no_grad():
        logits = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(data))[None], spec.patch_zyx, 1, network, overlap=0.5, mode="gaussian"
        )[0]
    classes = logits.argmax(0)
    first, second = logits.topk(2, dim=0).values
    back = order.inverse.apply
    ids = np.array(spec.label_ids)
    return ids[back(classes.numpy())], back((first - second).numpy()).astype(np.float32)


def dice(found: Labels, truth: Segmentation, spec: ModelSpec) -> float:
    reference = np.asarray(truth.data[...])
    pairs = [(found == k, reference == k) for k in spec.labels]
    return float(np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs]))


def against_monai(args: argparse.Namespace, preset: InferencePreset, precision: Precision = "fp32") -> Row:
    """Time ratio and Dice of a preset beside MONAI's, over the cases."""
    model, cases = cases_of(args)
    spec, network = model.spec, model.load_network()
    if any(tuple(plan_of(v, spec).grid.shape) != tuple(plan_of(v, spec).image_grid.shape) for v, _ in cases):
        spec = replace(spec, spacing_zyx_mm=None)  # MONAI's side does not resample
    warm, knobs = cases[0][0], {"preset": preset, "precision": precision, "backend": args.backend}
    predictor = predictor_of(model, network, plan_of(warm, spec, **knobs))
    ours(warm, spec, predictor, **knobs)
    sums = {"ours_s": 0.0, "monai_s": 0.0, "dice": 0.0, "monai_dice": 0.0}
    differing, margin = 0, 0.0
    for volume, truth in cases:
        there, (labels, ahead) = cpu_seconds(lambda v=volume: monais(v, spec, network))
        here, found = cpu_seconds(lambda v=volume: ours(v, spec, predictor, **knobs))
        differs = found != labels
        differing, margin = differing + int(differs.sum()), max(margin, float(ahead[differs].max(initial=0)))
        for name, value in zip(sums, (here, there, dice(found, truth, spec), dice(labels, truth, spec)), strict=True):
            sums[name] += value
    n = len(cases)
    row: Row = {
        "reached": sums["ours_s"] / sums["monai_s"],
        "dice_lost": (sums["monai_dice"] - sums["dice"]) / n,
        "monai_dice": sums["monai_dice"] / n,
        "cases": n,
        "windows": [len(plan_of(warm, spec, preset=p).windows) for p in (preset, "exact")],
    }
    if preset == "exact" and precision == "fp32":
        row |= {"differing_voxels": differing, "largest_lead_there": margin}
    return row


def bf16(args: argparse.Namespace) -> Row:
    if not has_fast_bf16(CPU):
        return {"skipped": "this processor does not multiply bf16"}
    return against_monai(args, "exact", "bf16")


def adaptive(args: argparse.Namespace) -> Row:
    """Mirrors spread over overlapping windows, beside all mirrors of each at overlap 0.5; both by our engine."""
    model, cases = cases_of(args)
    spec = replace(model.spec, recipe=Recipe(mirror_axes=(0, 1, 2)))
    network, times, scores = model.load_network(), {"exact": 0.0, "balanced": 0.0}, {"exact": 0.0, "balanced": 0.0}
    for volume, truth in cases[:2]:
        for preset in times:
            knobs = {"preset": preset, "tta": True, "backend": args.backend}
            predictor = predictor_of(model, network, plan_of(volume, spec, **knobs))
            seconds, found = cpu_seconds(lambda v=volume, p=predictor, k=knobs: ours(v, spec, p, **k))
            times[preset] += seconds
            scores[preset] += dice(found, truth, spec) / len(cases[:2])
    return {
        "reached": times["balanced"] / times["exact"],
        "dice_lost": scores["exact"] - scores["balanced"],
        "cases": len(cases[:2]),
    }


def random_model(folder: Path, classes: int, features: tuple[int, ...], window: int) -> ms.Model:
    chosen = ms.networks()["unet3d"]
    arguments = chosen.arguments(in_channels=1, out_channels=classes, channels=features)
    torch.manual_seed(0)
    spec = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="image", modality="other"),),
        labels={k: f"class {k}" for k in range(1, classes)},
        patch_zyx=(window,) * 3,
        normalisation=(Normalisation(kind="none"),),
        deep_supervision=True,
    )
    return write_model(folder / "model.safetensors", spec, chosen.build_from(arguments).state_dict())


def noise(shape: tuple[int, int, int]) -> Volume:
    data = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Volume(data, ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0)))


def resident(key: str) -> float:
    """MiB of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def added(run: Callable[[], Any]) -> float:
    """The MiB that a run adds at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def memory_alone(args: argparse.Namespace) -> Row:
    """One run in this process: its added memory."""
    side, classes, depth, preset = args.memory
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), int(classes), (4, 8), 64)
        network, volume = model.load_network(), noise((int(depth), int(side), int(side)))
        with torch.no_grad():
            network(torch.zeros(1, 1, 64, 64, 64))
        if preset == "monai":
            return {"mib": added(lambda: monais(volume, model.spec, network))}
        out = Path(folder) / "labels.zarr"
        return {"mib": added(lambda: ms.segment(volume, model, out=out, device="cpu", precision="fp32", preset=preset))}


def memory(args: argparse.Namespace, classes: int, most: float) -> Row:
    """Added memory beside MONAI's on 160x256x256, and when Z doubles."""

    def mib(preset: str, depth: int) -> float:
        return float(child("memory", ["--memory", "256", str(classes), str(depth), preset])["mib"])

    peer, found = mib("monai", 160), {preset: mib(preset, 160) for preset in ("exact", "fast")}
    twice = mib("exact", 320) / found["exact"]
    return {
        "reached": found["fast"] / peer,
        "beside": [
            {"what": f"the same at {classes} classes, exact", "at_most": most, "reached": found["exact"] / peer},
            {"what": f"added memory at {classes} classes when Z doubles", "at_most": 1.05, "reached": twice},
        ],
        "monai_mib": peer,
    }


def halo(args: argparse.Namespace) -> Row:
    """Reading windows of overlap 0.5 of a zarr beside reading the same boxes' steps once."""
    with tempfile.TemporaryDirectory() as folder:
        shape = (128, 192, 192)
        ms.write(Path(folder) / "image.zarr", noise(shape))
        volume = ms.read(Path(folder) / "image.zarr")

        def walk(size: int) -> None:
            with closing(BoxReader(volume, axis_order(volume.grid, ms.load_model(SAMPLE).spec))) as reader:
                for z in range(0, shape[0] - size + 1, 32):
                    reader.read((slice(z, z + size), slice(0, shape[1]), slice(0, shape[2])))

        once, _ = cpu_seconds(lambda: walk(32), 3)
        twice, _ = cpu_seconds(lambda: walk(64), 3)
    return {"reached": twice / once}


def stitching(args: argparse.Namespace) -> Row:
    """Adding the logits of 24 classes and finishing their planes, beside the fp32 network's time."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), 24, (16, 32, 64, 128), 64)
        plan = plan_of(noise((96, 96, 96)), model.spec)
        predictor = Predictor.of(model.load_network(), plan.spec, CPU, "fp32")
        window = torch.randn(1, 1, 64, 64, 64)
        network, _ = cpu_seconds(lambda: predictor(window), 3)
        logits = torch.zeros(24, 64, 64, 64)  # they are multiplied in place: others would fade away

        def stitch() -> None:
            sums = RollingLogits(24, plan.windows, plan.to_image, CPU)
            for z, following, corners in plan.windows.rows():
                for corner in corners:
                    list(sums.take((z, *corner), logits))
                list(sums.finish(following))

        seconds, _ = cpu_seconds(stitch, 3)
    return {"reached": seconds / len(plan.windows) / network}


def one_window(args: argparse.Namespace) -> Row:
    """A window of 96^3 through our predictor, and through the network as MONAI calls it."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), 3, (16, 32, 64, 128), 96)
        network, window = model.load_network(), torch.randn(1, 1, 96, 96, 96)
        plan = plan_of(noise((96, 96, 96)), model.spec, backend=args.backend)
        predictor = predictor_of(model, network, plan)
        with torch.no_grad():
            there, _ = cpu_seconds(lambda: network(window), 3)
        here, _ = cpu_seconds(lambda: predictor(window), 3)
    return {"reached": here / there}


def cancel(args: argparse.Namespace) -> Row:
    """The windows that run after a cancel."""
    ran = []
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), 3, (4, 8), 32)
        network = model.load_network()
        network.register_forward_hook(lambda *_: ran.append(1))
        volume = noise((64, 64, 64))
        plan = plan_of(volume, model.spec)
        result = Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid, model.spec.labels)
        events: Iterator[Any] = segment_windows(volume, plan, Predictor.of(network, plan.spec, CPU, "fp32"), result)
        for event in events:
            if getattr(event, "message", "") == "windows":
                break
        before = len(ran)
        events.close()  # type: ignore[attr-defined]
    return {"reached": len(ran) - before}


def workers(args: argparse.Namespace) -> Row:
    """Two workers beside one, in pairs; the median of the ratios."""
    pairs = [with_workers(args.folder) for _ in range(3)]
    assert all(pair["identical"] for pair in pairs), "the labels must not depend on the workers"
    return {
        "reached": 1 / median(pair["faster"] for pair in pairs),
        "beside": [
            {
                "what": "the same, by the processor time of the busier worker",
                "at_most": 1 / 1.8,
                "reached": 1 / median(pair["faster_by_cpu"] for pair in pairs),
            }
        ],
        "pairs": pairs,
    }


AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def by_processor(with_avx512: float, without: float) -> float:
    return with_avx512 if AVX512 else without


ROWS: dict[str, tuple[str, float, Callable[[argparse.Namespace], Row]]] = {
    "exact": ("exact fp32, time / MONAI", by_processor(0.5, 0.7), lambda a: against_monai(a, "exact")),
    "balanced": ("balanced fp32, time / MONAI", by_processor(0.25, 0.35), lambda a: against_monai(a, "balanced")),
    "fast": ("fast fp32, time / MONAI", by_processor(0.12, 0.16), lambda a: against_monai(a, "fast")),
    "bf16": ("exact bf16, time / MONAI in fp32", 0.3, bf16),
    "adaptive": ("adaptive mirrors / 8 mirrors at overlap 0.5, time", 0.25, adaptive),
    "memory 24": ("added memory at 24 classes, fast / MONAI", 0.25, lambda a: memory(a, 24, 0.25)),
    "memory 100": ("added memory at 100 classes, fast / MONAI", 0.2, lambda a: memory(a, 100, 0.2)),
    "nnU-Net": ("end to end, balanced / nnU-Net v2, time", 0.3, lambda a: engine_nnunet.measure(a.folder, a.peer)),
    "zarr": ("added memory / budget, a zarr of ten times the budget", 1.1, lambda a: budget(a.folder)),
    "workers": ("2 workers / 1 worker, by the clock", 1 / 1.8, workers),
    "halo": ("reads with halo / without, time", 1.5, halo),
    "stitching": ("stitching / fp32 network at 24 classes, time", 0.1, stitching),
    "window": ("one 96^3 window / MONAI, time", by_processor(0.4, 0.7), one_window),
    "cancel": ("windows after a cancel", 1, cancel),
}
"""{row: (what, at most, how it is measured)}."""
BY_BACKEND = ("exact", "balanced", "fast", "bf16", "adaptive", "window")
"""The rows that another backend changes; the peer stays MONAI by torch."""


def machine() -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text()
    name = next(line.split(":")[1].strip() for line in cpus.splitlines() if line.startswith("model name"))
    return {
        "processor": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "emulated": "ATEN_CPU_CAPABILITY" in os.environ,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def child(row: str, more: list[str]) -> Row:
    """A row measured in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--run", row, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"skipped": f"failed: {done.stderr.strip().splitlines()[-1]}"}
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hippocampus", type=Path, help="a model of the hippocampus, instead of the sample's")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--backend", choices=["torch", "openvino"], default="torch", help="what runs our networks")
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--peer", type=Path, help="a Python that has nnunetv2")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/end"), help="for files; what nnunetv2 left is used again"
    )
    parser.add_argument("--run", choices=[*ROWS, "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.run:
        print(json.dumps(memory_alone(args) if args.run == "memory" else ROWS[args.run][2](args)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    paths = {"--hippocampus": args.hippocampus, "--peer": args.peer, "--folder": args.folder}
    more = ["--cases", str(args.cases), "--backend", args.backend]
    more += [word for flag, path in paths.items() if path is not None for word in (flag, str(path))]
    key = f"{torch.backends.cpu.get_cpu_capability()}, {'hippocampus' if args.hippocampus else 'sample'}"
    key += "" if args.backend == "torch" else ", OpenVINO"
    table = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    rows = table.setdefault(key, {"machine": machine(), "rows": {}})["rows"]
    print(f"{'':50}{'at most':>8}{'reached':>9}{'Dice lost':>11}   {key}")
    for name in args.only or (ROWS if args.backend == "torch" else BY_BACKEND):
        what, most, _ = ROWS[name]
        found = rows[name] = {"what": what, "at_most": most, **child(name, more)}
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")
        if "skipped" in found:
            print(f"{what:50}{most:8.2f}   {found['skipped']}", flush=True)
            continue
        for part in [found, *found.get("beside", [])]:
            lost = f"{part['dice_lost']:11.4f}" if "dice_lost" in part else ""
            missed = "" if part["reached"] <= part["at_most"] else "   MISSED"
            print(f"{part['what']:50}{part['at_most']:8.2f}{part['reached']:9.3f}{lost}{missed}", flush=True)


if __name__ == "__main__":
    main()
