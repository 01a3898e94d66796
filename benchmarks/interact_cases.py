"""The structures that `bench_interact.py` measures on, and the user that it simulates.

The user clicks at the centre of the structure's interior, then at the centre of the largest error; strokes are the
middle lines of the largest error of a slice; the largest slice comes first, then the one with the largest error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import napari_medseg as ms

Mask = npt.NDArray[np.bool_]
CT = {1: "spleen", 2: "right kidney", 5: "liver", 4: "gallbladder", 6: "stomach", 21: "bladder", 52: "aorta"}
CT |= {79: "spinal cord", 20: "colon", 31: "vertebra", 77: "hip", 86: "back muscle"}
CT_UNSEEN = {3: "left kidney", 7: "pancreas", 63: "vena cava", 75: "femur", 88: "iliopsoas"}
MR = {1: "spleen", 4: "gallbladder", 5: "liver", 23: "artery", 46: "vertebrae"}
MR_UNSEEN = {2: "kidney", 6: "stomach", 19: "muscle"}


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
        yield Case(f"hippocampus {number}", volume, labels > 0, number > 0)
        yield Case(f"anterior hippocampus {number}", volume, labels == 1, number > 0)
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


def next_prompt(kind: str, case: Case, found: Mask | None, done: list[Any]) -> Any:
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
