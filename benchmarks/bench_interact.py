"""Masks from clicks, scribbles, boxes and slices, beside training-free peers: Dice on real structures, CPU seconds.

    MEDSEG_DATA=data python benchmarks/bench_interact.py [clicks scribbles boxes slices propagate] [--peers] [--all]

A simulated user clicks at the centre of the structure's interior, then at the centre of the largest error; strokes are
the middle lines of the largest error of a slice; the largest slice comes first, then the one with the largest error.
Every voxel of the whole volume counts, and where to look is for the engine to find. The peers get the same prompts and
the region around the structure as well, which a user would have to choose for them. --all takes the structures on which
no choice was made, too, and prints them apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import napari_medseg as ms

Mask = npt.NDArray[np.bool_]
RESULTS = Path(__file__).parent / "results" / "interact.json"
CT = {1: "spleen", 2: "right kidney", 5: "liver", 4: "gallbladder", 6: "stomach", 21: "bladder", 52: "aorta"}
CT |= {79: "spinal cord", 20: "colon", 31: "vertebra", 77: "hip", 86: "back muscle"}
CT_UNSEEN = {3: "left kidney", 7: "pancreas", 63: "vena cava", 75: "femur", 88: "iliopsoas"}
MR = {1: "spleen", 4: "gallbladder", 5: "liver", 23: "artery", 46: "vertebrae"}
MR_UNSEEN = {2: "kidney", 6: "stomach", 19: "muscle"}
STEPS = {"clicks": (1, 3, 5, 8), "scribbles": (1, 3, 5, 8), "boxes": (1, 3, 5, 8), "slices": (1, 2, 3, 5)}


@dataclass(frozen=True)
class Case:
    """A structure in a volume."""

    name: str
    volume: ms.Volume
    mask: Mask
    unseen: bool


def cases(data: Path) -> Iterator[Case]:
    """The structures of the data folder; a CT is cut to soft tissue and bone, -200 to 300 HU."""
    ct = ms.read(data / "abdomen_ct/example_ct.nii.gz")
    ct = ms.Volume(np.clip(np.asarray(ct.data[...]).astype(np.float32), -200, 300), ct.grid)
    labels = labels_of(data / "abdomen_ct/example_seg_fast_force_split.nii.gz")
    for names, unseen in ((CT, False), (CT_UNSEEN, True)):
        for label, name in names.items():
            yield Case(f"CT {name}", ct, labels == label, unseen)
    mr, labels = ms.read(data / "abdomen_ct/example_mr_sm.nii.gz"), labels_of(data / "abdomen_ct/example_seg_mr.nii.gz")
    for names, unseen in ((MR, False), (MR_UNSEEN, True)):
        for label, name in names.items():
            yield Case(f"MR {name}", mr, labels == label, unseen)
    for number, path in enumerate(sorted((data / "hippocampus/images").iterdir())[:12:3]):
        volume, labels = ms.read(path), labels_of(data / "hippocampus/labels" / path.name)
        yield Case("hippocampus", volume, labels > 0, number > 0)
        yield Case("anterior hippocampus", volume, labels == 1, number > 0)
    for kind in ("t2", "t1w"):
        volume = ms.read(data / f"spine_mr/{kind}.nii.gz")
        yield Case(f"cord {kind}", volume, labels_of(data / f"spine_mr/{kind}_seg-manual.nii.gz") > 0, False)
    for name in ("brain1", "breast1"):
        volume = ms.read(data / f"roi_mr/{name}_image.nrrd")
        yield Case(name, volume, labels_of(data / f"roi_mr/{name}_label.nrrd") > 0, False)
    for patient in ("26", "07", "19"):
        folder = data / f"ms_lesions_mr/patient{patient}"
        parts, _ = ndimage.label(labels_of(folder / "lesions.nii.gz") > 0, np.ones((3, 3, 3)))
        largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        yield Case(f"lesion {patient}", ms.read(folder / "FLAIR.nii.gz"), largest, patient != "26")


def labels_of(path: Path) -> npt.NDArray[Any]:
    return np.asarray(ms.read_segmentation(path).data[...])


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def deepest(error: Mask) -> tuple[int, int, int] | None:
    """The voxel deepest inside of the largest part of an error."""
    parts, count = ndimage.label(error)
    if not count:
        return None
    part = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    place = ndimage.find_objects(part.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(part[place], 1))[1:-1, 1:-1, 1:-1]
    inner = np.unravel_index(int(depth.argmax()), depth.shape)
    z, y, x = (int(i) + side.start for i, side in zip(inner, place, strict=True))
    return z, y, x


def middle_line(error: Mask) -> npt.NDArray[np.int64]:
    """(n, 3) the middle line of the largest part of an error in the slice that holds most of it."""
    from skimage.morphology import skeletonize

    z = int(error.sum(axis=(1, 2)).argmax())
    parts, _ = ndimage.label(error[z])
    part = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    line = skeletonize(part)
    flat = np.argwhere(line if line.any() else part)
    return np.insert(flat, 0, z, axis=1)


def prompts_of(kind: str, case: Case, found: Mask | None, done: list[Any]) -> Any:
    """The next prompt of the simulated user; None where nothing is wrong."""
    truth = case.mask
    if kind == "slices":
        error = truth if found is None else found ^ truth
        per_slice = error.sum(axis=(1, 2))
        per_slice[[prompt.index for prompt in done]] = 0
        z = int(per_slice.argmax())
        if not per_slice[z]:
            return None
        plane = truth[z]
        if plane.any():
            return ms.SliceMask(plane, axis=0, index=z, label=1)
        return ms.SliceMask(np.ones_like(plane), axis=0, index=z, label=1, positive=False)
    if kind == "boxes" and found is None:
        place = ndimage.find_objects(truth.astype(np.uint8))[0]
        low, high = zip(*((side.start, side.stop) for side in place), strict=True)
        return ms.Box(low, high, label=1)
    missing, extra = (truth, np.zeros_like(truth)) if found is None else (truth & ~found, found & ~truth)
    positive = bool(missing.sum() >= extra.sum())
    error = missing if positive else extra
    if not error.any():
        return None
    if kind == "scribbles":
        return ms.Scribble(middle_line(error), label=1, positive=positive)
    at = deepest(error)
    assert at is not None
    return ms.Point(at, label=1, positive=positive)


def walk(kind: str, case: Case, answer: Callable[[Any], Mask]) -> tuple[list[float], list[float]]:
    """(Dice, CPU seconds) after each prompt."""
    scores: list[float] = []
    seconds: list[float] = []
    done: list[Any] = []
    found: Mask | None = None
    for _ in range(max(STEPS[kind])):
        prompt = prompts_of(kind, case, found, done)
        if prompt is None:
            scores += [scores[-1]] * (max(STEPS[kind]) - len(scores))
            break
        started = time.process_time()
        found = answer(prompt)
        seconds.append(time.process_time() - started)
        done.append(prompt)
        scores.append(dice(found, case.mask))
    return scores, seconds


def engine(case: Case) -> Callable[[Any], Mask]:
    session = ms.interact(case.volume)
    everywhere = tuple(slice(0, n) for n in case.mask.shape)

    def answer(prompt: Any) -> Mask:
        session.add(prompt)
        z, y, x = everywhere
        return session.mask(1).within((z, y, x))

    return answer


def peer(case: Case, segment: Callable[[npt.NDArray[np.float32], npt.NDArray[np.int8]], Mask]) -> Callable[[Any], Mask]:
    """A peer in the region around the structure; its faces are background. It sees points only."""
    place = ndimage.find_objects(case.mask.astype(np.uint8))[0]
    margin = [max(3, (side.stop - side.start) // 3) for side in place]
    box = tuple(
        slice(max(0, side.start - m), min(n, side.stop + m))
        for side, m, n in zip(place, margin, case.mask.shape, strict=True)
    )
    image = np.asarray(case.volume.data[(0, *box)]).astype(np.float32)
    image = (image - image.mean()) / (image.std() + 1e-6)
    seeds = np.zeros(image.shape, np.int8)
    for axis in range(3):
        np.moveaxis(seeds, axis, 0)[[0, -1]] = 2

    def answer(prompt: ms.Point) -> Mask:
        at = tuple(
            np.clip([i - side.start for i, side in zip(prompt.at, box, strict=True)], 0, np.array(image.shape) - 1)
        )
        seeds[at] = 1 if prompt.positive else 2
        out = np.zeros(case.mask.shape, dtype=bool)
        out[box] = segment(image, seeds)
        return out

    return answer


def confidence_connected(image: npt.NDArray[np.float32], seeds: npt.NDArray[np.int8]) -> Mask:
    import SimpleITK

    points = [[int(i) for i in at[::-1]] for at in np.argwhere(seeds == 1)]
    if not points:
        return np.zeros(image.shape, dtype=bool)
    grown = SimpleITK.ConfidenceConnected(
        SimpleITK.GetImageFromArray(image), points, numberOfIterations=3, multiplier=2.5, initialNeighborhoodRadius=1
    )
    return (SimpleITK.GetArrayFromImage(grown) > 0) & (seeds != 2)


def watershed(image: npt.NDArray[np.float32], seeds: npt.NDArray[np.int8]) -> Mask:
    from skimage import segmentation

    edges = ndimage.gaussian_gradient_magnitude(image, 1.0)
    return np.asarray(segmentation.watershed(edges, seeds.astype(np.int32)) == 1)


def random_walker(image: npt.NDArray[np.float32], seeds: npt.NDArray[np.int8]) -> Mask:
    from skimage import segmentation

    labels = segmentation.random_walker(image, seeds.astype(np.int32), beta=130, mode="cg_j", tol=1e-2)
    return np.asarray(labels == 1)


PEERS = {
    "confidence connected (SimpleITK)": confidence_connected,
    "watershed (scikit-image)": watershed,
    "random walker (scikit-image)": random_walker,
}


def report(name: str, kind: str, rows: list[tuple[Case, list[float], list[float]]]) -> list[dict[str, Any]]:
    """Print and return the means of the structures that choices were made on, and of the others."""
    found = []
    for unseen in (False, True):
        chosen = [(scores, seconds) for case, scores, seconds in rows if case.unseen == unseen]
        if not chosen:
            continue
        scores = np.array([s for s, _ in chosen])
        means = {str(k): round(float(scores[:, k - 1].mean()), 3) for k in STEPS[kind]}
        lost = round(float((scores[:, :-1] - scores[:, 1:] > 0.05).mean()), 3)
        first = round(float(np.median([s[0] for _, s in chosen])), 2)
        later = round(float(np.median([t for _, s in chosen for t in s[1:]] or [0.0])), 2)
        which = "unseen" if unseen else "seen"
        print(
            f"{name:34} {kind:10} {which:7} n {len(chosen):3} Dice {means} lost {lost} s {first} / {later}", flush=True
        )
        row = {"structures": len(chosen), "dice": means, "lost": lost, "first_s": first, "later_s": later}
        found.append({"method": name, "prompts": kind, "set": which, **row})
    return found


def propagation(data: Path) -> list[dict[str, Any]]:
    """Five and seven evenly spaced slices of 20 hippocampus volumes, both ends annotated; the other slices count."""
    found = []
    for count in (5, 7):
        means: dict[str, list[float]] = {"interpolation": [], "auto": []}
        for path in sorted((data / "hippocampus/images").iterdir())[:20]:
            volume, labels = ms.read(path), labels_of(data / "hippocampus/labels" / path.name)
            for method, values in means.items():
                values.append(float(np.mean([between(volume, labels, axis, count, method) for axis in range(3)])))
        worst = min(a - b for a, b in zip(means["auto"], means["interpolation"], strict=True))
        row = {method: round(float(np.mean(values)), 3) for method, values in means.items()}
        print(f"propagate from {count} slices: {row}, against interpolation at the worst {worst:+.3f}", flush=True)
        found.append({"prompts": "propagate", "slices": count, "dice": row, "worst_against_interpolation": worst})
    return found


def between(volume: ms.Volume, labels: npt.NDArray[Any], axis: int, count: int, method: Any) -> float:
    """The mean Dice of both labels on the slices that are not annotated."""
    held = np.flatnonzero((labels > 0).any(axis=tuple(a for a in range(3) if a != axis)))
    indices = np.unique(np.rint(np.linspace(held[0], held[-1], count)).astype(int))
    planes, some = np.moveaxis(labels, axis, 0), np.zeros_like(labels)
    np.moveaxis(some, axis, 0)[indices] = planes[indices]
    filled = ms.propagate(volume, ms.Segmentation(some, volume.grid), method=method, slices={axis: indices.tolist()})
    others = np.setdiff1d(np.arange(len(planes)), indices)
    ours = np.moveaxis(np.asarray(filled.data[...]), axis, 0)[others]
    return float(np.mean([dice(ours == label, planes[others] == label) for label in (1, 2)]))


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [*STEPS, "propagate"]
    parser.add_argument("kinds", nargs="*", choices=kinds, default=kinds, help="What to measure (default: all).")
    parser.add_argument("--peers", action="store_true", help="Measure the peers by clicks, too.")
    parser.add_argument("--all", action="store_true", help="Take the structures that no choice was made on, too.")
    args = parser.parse_args()
    data = Path(os.environ["MEDSEG_DATA"])
    print(f"{processor()}, one thread", flush=True)
    chosen = [case for case in cases(data) if case.mask.any() and (args.all or not case.unseen)]
    ms.interact(chosen[0].volume).add(ms.Point((1, 1, 1), label=1))  # loads and compiles what the first click needs
    rows: list[dict[str, Any]] = []
    for kind in args.kinds:
        if kind == "propagate":
            rows += propagation(data)
            continue
        rows += report("engine", kind, [(case, *walk(kind, case, engine(case))) for case in chosen])
    if args.peers:
        for name, segment in PEERS.items():
            rows += report(name, "clicks", [(case, *walk("clicks", case, peer(case, segment))) for case in chosen])
    RESULTS.write_text(json.dumps({"processor": processor(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
