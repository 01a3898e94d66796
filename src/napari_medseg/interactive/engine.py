"""Geodesic competition: prompts and the surroundings compete for every voxel, and a random walker draws the border.

Each prompt has one distance map: a geodesic one (steps cost what the image changes by) plus how unlike the prompt the
least unlike way to a voxel is. The smaller distance wins; its margin is the prior of a random walker. No network, no
training: the image alone.

Sources: geodesic segmentation (Criminisi et al., ECCV 2008), fuzzy connectedness (Udupa and Samarasekera, GMIP 1996),
random walks with priors (Grady, CVPR 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.interactive.kernels import FAR, Map, Mask, geodesic, minimax, random_walk
from napari_medseg.interactive.scene import SMOOTHING_VOXELS, Scene

STEP = 0.15
"""What a step of one voxel costs, in noise: the shorter of two ways without an edge wins."""
UNLIKE = 1.0
"""The weight of the dissimilarity to the prompt beside the geodesic distance."""
_FACE_IS_BACKGROUND = 2.5
"""A face of the volume counts as background where it is that unlike the first prompt, in noise."""
_PRIOR_WEIGHT, _WALKER_SWEEPS, _GAIN, _EDGE = 0.1, 16, 4.0, 2.5
_OUTLINE = 0.5
"""What the outside of a painted slice lies farther away than its inside."""
_SAMPLES = 6
"""Voxels of a stroke or a painted slice whose surroundings say what it looks like."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one prompt says of a scene."""

    seeds: Mask
    """Voxels that it decides."""
    distance: Map
    """How far every voxel is from it."""
    positive: bool
    decides: bool = True
    """Whether its seeds are its own for good, or the other prompts may take them."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a scene's prompts make of it."""

    mask: Mask
    probability: Map
    """Above one half in the mask, and nowhere else."""


def ball(shape: tuple[int, ...], centres: npt.NDArray[np.int64]) -> Mask:
    """The voxels (n, 3) and their neighbours over faces."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(centres.T)] = True
    return ndimage.binary_dilation(mask)


def evidence(scene: Scene, seeds: Mask, centres: npt.NDArray[np.int64], *, positive: bool) -> Evidence:
    """The evidence of a prompt. seeds: the voxels it decides; centres: (n, 3) voxels that are typical of it, if any."""
    inside = seeds & scene.inside
    distance = geodesic(inside, scene.image, scene.inside, STEP, sweeps=2)
    if len(centres):
        typical = np.zeros(seeds.shape, dtype=bool)
        typical[tuple(centres.T)] = True
        distance += np.float32(UNLIKE) * minimax(typical, dissimilarity(scene, centres), scene.inside, sweeps=2)
    elif not positive:
        distance += np.float32(_OUTLINE)
    return Evidence(inside, distance, positive)


def of_a_mask(scene: Scene, mask: Mask) -> list[Evidence]:
    """The evidence of a mask to start from: its core is the label, what lies clear of it is not; both can be taken."""
    found = []
    depth = ndimage.distance_transform_edt(mask)
    core = depth > min(2.0, 0.5 * float(depth.max()))
    clear = ~ndimage.binary_dilation(mask, iterations=2)
    for marked, positive in ((core, True), (clear, False)):
        inside = marked & scene.inside
        if inside.any():
            distance = geodesic(inside, scene.image, scene.inside, STEP, sweeps=2)
            found.append(Evidence(inside, distance, positive, decides=False))
    return found


def surroundings(scene: Scene, centres: npt.NDArray[np.int64]) -> Map:
    """The distance from what is taken for background: the frame's faces, and those of the volume unlike the prompt."""
    background = scene.frame_faces
    if len(centres):
        unlike = dissimilarity(scene, centres[:1]) > _FACE_IS_BACKGROUND
        background = background | (scene.volume_faces & unlike)
    return geodesic(background, scene.image, scene.inside, STEP, sweeps=2)


def dissimilarity(scene: Scene, centres: npt.NDArray[np.int64]) -> Map:
    """How unlike each voxel is to the least unlike of the centres, in noise and the spread around the centre."""
    least = np.full(scene.inside.shape, FAR, np.float32)
    for centre in centres[:: max(1, len(centres) // _SAMPLES)]:
        box = tuple(slice(max(0, int(c) - 1), int(c) + 2) for c in centre)
        around = scene.image[(slice(None), *box)].reshape(len(scene.image), -1)
        middle = np.median(around, axis=1)
        spread = 1.4826 * np.median(np.abs(around - middle[:, None]), axis=1)
        scale = np.sqrt(spread**2 + 1)
        shape = (-1, 1, 1, 1)
        of_channels = np.abs(scene.image - middle.reshape(shape)) / scale.reshape(shape)
        least = np.minimum(least, of_channels.max(axis=0).astype(np.float32))
    return least


def answer(scene: Scene, prompts: Sequence[Evidence], background: Map, limit: Mask | None = None) -> Answer:
    """The mask that the prompts of one label give. limit: where it can lie."""
    size = background.shape
    nowhere = np.full(size, FAR, np.float32)
    near = np.minimum.reduce([nowhere, *(e.distance for e in prompts if e.positive)])
    far = np.minimum.reduce([background, *(e.distance for e in prompts if not e.positive)])
    margin = ndimage.gaussian_filter((far - near) / (far + near + np.float32(1e-3)), SMOOTHING_VOXELS)
    prior = (0.5 + 0.5 * np.tanh(_GAIN * margin)).astype(np.float32)
    yes = _any([e.seeds for e in prompts if e.positive and e.decides], size)
    no = _any([e.seeds for e in prompts if not e.positive and e.decides], size) & ~yes
    if limit is not None:
        no = no | (~limit & ~yes)
    prior[yes], prior[no] = 1, 0
    probability = random_walk(
        prior, scene.image, scene.inside, yes | no, weight=_PRIOR_WEIGHT, edge=_EDGE, sweeps=_WALKER_SWEEPS
    )
    anchors = yes | _any([e.seeds for e in prompts if e.positive and not e.decides], size)
    return tidy(probability, scene.inside, yes, no, anchors)


def tidy(probability: Map, inside: Mask, yes: Mask, no: Mask, anchors: Mask) -> Answer:
    """The parts that hold an anchor, their holes filled."""
    parts, count = ndimage.label((probability > 0.5) & inside)
    wanted = np.unique(parts[anchors])
    mask = np.isin(parts, wanted[wanted > 0]) if count else np.zeros_like(inside)
    mask = (ndimage.binary_fill_holes(mask | yes) & ~no) & inside
    below, above = np.float32(0.5), np.float32(0.51)
    return Answer(mask, np.where(mask, np.maximum(probability, above), np.minimum(probability, below)))


def border_support(scene: Scene, mask: Mask) -> float:
    """How much of the mask's border lies on an edge of the image, 0 to 1; the frame's faces count, those of the volume not."""
    border = mask & ~ndimage.binary_erosion(mask, border_value=1) & ~(scene.volume_faces & ~scene.frame_faces)
    if not border.any():
        return 0.0
    return float(np.minimum(1, scene.gradient[border] / _EDGE).mean())


def near_faces(scene: Scene) -> Mask:
    """The two outermost layers of the frame, where the volume goes on: what is found there may go on too."""
    near = np.zeros(scene.inside.shape, dtype=bool)
    for axis, n in enumerate(near.shape):
        if n > 4:
            for index in (0, 1, n - 2, n - 1):
                near[tuple(index if a == axis else slice(None) for a in range(3))] = True
    return near & scene.inside


def _any(masks: Sequence[Mask], shape: tuple[int, ...]) -> Mask:
    return np.logical_or.reduce(masks) if masks else np.zeros(shape, dtype=bool)
