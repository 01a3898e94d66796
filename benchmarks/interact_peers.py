"""Training-free peers of `bench_interact.py`: what they make of the same prompts, in a region of 64 voxels a side.

The region lies around the structure, which a user would have to choose for them; its faces are background. Each peer
takes an image (Z, Y, X), z-scored, and seeds: 1 where the structure is, 2 where it is not, 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from interact_cases import Case, Mask
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.arrays.boxes import whole
from napari_medseg.interactive.learning.features import features, usual_scales_mm
from napari_medseg.interactive.learning.pixel_classifier import learned
from napari_medseg.interactive.marks import marks_of, seeds
from napari_medseg.interactive.scene import Frame, sample, spread

Image = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.int8]
Peer = Callable[[Image, Seeds], Mask]
SIZE = 64
"""Voxels along each side of the region."""
_FILLED = 0.6
"""The part of a side that the structure fills."""


def peer(case: Case, segment: Peer) -> Callable[[Any], Mask]:
    """What a peer answers to each prompt, in voxels of the volume."""
    grid = case.volume.grid
    place = ndimage.find_objects(case.mask.astype(np.uint8))[0]
    sides_mm = [((b.start + b.stop) / 2 * s, (b.stop - b.start) * s) for b, s in zip(place, grid.spacing, strict=True)]
    step = max(length for _, length in sides_mm) / (_FILLED * SIZE)
    (z, _), (y, _), (x, _) = sides_mm
    frame = Frame.around((z, y, x), step, (SIZE, SIZE, SIZE))
    sampled, inside = sample(case.volume.data, grid.spacing, frame)
    image = (sampled[0] - sampled[0].mean()) / (sampled[0].std() + 1e-6)
    box = frame.box(grid.shape, grid.spacing)
    marked = np.zeros(image.shape, np.int8)
    for axis in range(3):
        np.moveaxis(marked, axis, 0)[[0, -1]] = 2
    marked[~inside] = 2

    def answer(prompt: Any) -> Mask:
        marks = marks_of(prompt, grid.shape)
        if marks.limit is not None:
            marked[~seeds(marks.limit, frame, grid.spacing)] = 2
        marked[seeds(marks.no, frame, grid.spacing)] = 2
        marked[seeds(marks.yes, frame, grid.spacing)] = 1
        out = np.zeros(case.mask.shape, dtype=bool)
        out[box] = spread(segment(image, marked).astype(np.float32), frame, box, grid.spacing) > 0.5
        return out

    return answer


def confidence_connected(image: Image, marked: Seeds) -> Mask:
    import SimpleITK

    points = [[int(i) for i in at[::-1]] for at in np.argwhere(marked == 1)]
    if not points:
        return np.zeros(image.shape, dtype=bool)
    grown = SimpleITK.ConfidenceConnected(
        SimpleITK.GetImageFromArray(image), points, numberOfIterations=3, multiplier=2.5, initialNeighborhoodRadius=1
    )
    return (SimpleITK.GetArrayFromImage(grown) > 0) & (marked != 2)


def watershed(image: Image, marked: Seeds) -> Mask:
    from skimage import segmentation

    edges = ndimage.gaussian_gradient_magnitude(image, 1.0)
    return np.asarray(segmentation.watershed(edges, marked.astype(np.int32)) == 1)


def random_walker(image: Image, marked: Seeds) -> Mask:
    from skimage import segmentation

    if not (marked == 1).any():
        return np.zeros(image.shape, dtype=bool)
    labels = segmentation.random_walker(image, marked.astype(np.int32), beta=130, mode="cg_j", tol=1e-2)
    return np.asarray(labels == 1)


def growcut(image: Image, marked: Seeds) -> Mask:
    """GrowCut (Vezhnevets and Konouchine, GraphiCon 2005) until nothing changes: no installed library has it."""
    label, strength = marked.copy(), (marked > 0).astype(np.float32)
    span = np.float32(np.ptp(image) + 1e-6)
    for _ in range(2 * SIZE):
        if _attack(label, strength, image, span, 1) + _attack(label, strength, image, span, -1) == 0:
            break
    return label == 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba
def _attack(label: Seeds, strength: Image, image: Image, span: np.float32, direction: int) -> int:
    """One sweep in which the neighbours that it has passed attack each voxel: the number of voxels that fell."""
    nz, ny, nx = image.shape
    fallen = 0
    for a in range(nz):
        z = a if direction > 0 else nz - 1 - a
        for b in range(ny):
            y = b if direction > 0 else ny - 1 - b
            for c in range(nx):
                x = c if direction > 0 else nx - 1 - c
                best, by = strength[z, y, x], label[z, y, x]
                i, j, h = z - direction, y - direction, x - direction
                if 0 <= i < nz:
                    force = strength[i, y, x] * (1 - abs(image[z, y, x] - image[i, y, x]) / span)
                    if force > best:
                        best, by = force, label[i, y, x]
                if 0 <= j < ny:
                    force = strength[z, j, x] * (1 - abs(image[z, y, x] - image[z, j, x]) / span)
                    if force > best:
                        best, by = force, label[z, j, x]
                if 0 <= h < nx:
                    force = strength[z, y, h] * (1 - abs(image[z, y, x] - image[z, y, h]) / span)
                    if force > best:
                        best, by = force, label[z, y, h]
                if best > strength[z, y, x]:
                    strength[z, y, x], label[z, y, x] = best, by
                    fallen += 1
    return fallen


def learned_voxels(image: Image, marked: Seeds) -> Mask:
    """Our classifier of voxels, of which the parts that hold a positive prompt are kept."""
    volume = ms.Volume(image[None], ms.Grid.from_spacing((SIZE, SIZE, SIZE), (1.0, 1.0, 1.0)))
    scales = usual_scales_mm(volume.grid)
    found = features(volume, whole(volume.grid.shape), scales)
    shown = np.choose(marked, (-1, 1, 0)).astype(np.int64)
    likely = learned(found, shown, (0, 1), scales).labels(found) == 1
    parts, _ = ndimage.label(likely & (marked != 2) | (marked == 1))
    kept: Mask = np.isin(parts, np.unique(parts[marked == 1]))
    return kept


OURS = "classifier of voxels"
PEERS: dict[str, Peer] = {
    "confidence connected (SimpleITK)": confidence_connected,
    "watershed (scikit-image)": watershed,
    "random walker (scikit-image)": random_walker,
    "GrowCut": growcut,
    OURS: learned_voxels,
}
