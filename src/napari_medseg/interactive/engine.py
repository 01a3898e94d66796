"""Geodesic competition: prompts and the surroundings compete for every voxel, and a random walker draws the border.

Each prompt has one distance map: a geodesic one (steps cost what the image changes by) plus how unlike the prompt the
least unlike way to a voxel is. The smaller distance wins; its margin is the prior of a random walker. No network, no
training: the image alone.

Sources: geodesic segmentation (Criminisi et al., ECCV 2008), fuzzy connectedness (Udupa and Samarasekera, GMIP 1996),
random walks with priors (Grady, CVPR 2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
_OUTLINE = 0.5
"""How much farther away the outside of a painted slice lies than its inside, in noise."""
_SEVERAL, _OUTLINE_OF_SEVERAL = 3, 2.0
"""From that number of painted slices on, their outsides lie farther away by that: their shapes bound the label then."""
_SWEEPS = 2
"""Pairs of sweeps for a distance map: more change next to nothing."""
_GAIN = 4.0
"""How sharply the margin between two distances becomes a probability."""
_PRIOR_WEIGHT = 0.1
"""Of the margin in the random walker, beside the neighbours."""
_EDGE = 2.5
"""The difference of neighbours, in noise, at which the random walker takes them for half as close."""
_WALKER_SWEEPS = 16
"""Of Gauss-Seidel in the random walker."""
_FACE_LIKE_PROMPT = 4.0
"""How much farther away, in noise, a face of the frame lies that the prompt reaches through voxels like its own."""
REACH = 3.0
"""How far a correction reaches, in distances from the prompt to where the mask was as the prompt says."""
_BORDER_VOXELS = 2.0
"""How far the border of a mask to start from may be off."""
_SHAPE_WEIGHT = 0.5
"""Of the shapes of painted slices in the margin, where they say anything."""
_SHAPE_OFF = 1.0
"""How far the shape of a painted slice may be off, in voxels of the scene."""
_SHAPE_DRIFT, _SHAPE_DRIFT_BEYOND = 0.25, 0.5
"""What each voxel from the slice adds to it, between two slices and beyond the last one."""
_SHAPE_REACH = 0.5
"""Beyond the last slice a shape's weight falls to 1/e within that many widths of the widest one."""
_LOOK_WEIGHT = 0.4
"""The most weight in the margin of what voxels look like, which is learned from the label and its surroundings."""
_LEAST_PROMPTS = 4
"""From that number of prompts on a look is learned: around a mask of fewer there is often more of the object."""
_LOOK_SMOOTHING = (0.7, 2.0)
"""Gaussian sigmas, in voxels of the scene: a voxel looks like its intensity at both."""
_LOOK_BINS = 20
"""Of each of the two intensities."""
_LEAST_LEARNED = 20
"""Voxels of the label, and of what is not it, that a look is learned from."""
_CLEAR_VOXELS, _AROUND_VOXELS = 1.5, 12.0
"""From the border of the mask so far: voxels nearer are in doubt, and those farther outside do not compete with it."""
_STANDS_WEIGHT, _STANDS_VOXELS = 0.3, 3.0
"""Of the mask so far in the margin where a prompt only takes voxels away, and how far from its border that is sure."""
_LEVELS = (0.3, 0.38, 0.5, 0.6, 0.7)
"""Probabilities at which the mask of some clicks may end."""
_TRUSTING_LEVEL = 0.38
"""The one expected while no click has taken anything away: half of the Dice to expect, or a little more."""
_LEVEL_WEIGHT = 0.3
"""What a level that far from the expected one costs, in support of the border by edges."""
_LEVEL_REACH = 2.0
"""How far beyond the mask at one half that of another level goes, in voxels of the scene."""
_SAMPLES = 8
"""Voxels of a stroke or a painted slice whose surroundings say what it looks like."""
_SAMPLED = (0.06, 0.94)
"""The quantiles of its intensities that they lie between: its darkest and brightest voxels may be mistakes."""


Ends = frozenset[tuple[int, int]]
"""Faces of a frame: the axis, and 0 for the first layer along it or -1 for the last."""


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
    is_outline: bool = False
    """Whether it is the outside of a painted slice."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a scene's prompts make of it."""

    mask: Mask
    probability: Map
    """Above one half in the mask, and nowhere else."""


def evidence(scene: Scene, seeds: Mask, centres: npt.NDArray[np.int64], *, positive: bool) -> Evidence:
    """The evidence of a prompt. seeds: the voxels it decides; centres: (n, 3) voxels that are typical of it, if any."""
    inside = seeds & scene.inside
    if len(centres) > 1 and inside.any():
        centres = _representative(scene, inside)
    distance = geodesic(inside, scene.image, scene.inside, STEP, sweeps=_SWEEPS)
    if len(centres):
        typical = np.zeros(seeds.shape, dtype=bool)
        typical[tuple(centres.T)] = True
        distance += np.float32(UNLIKE) * minimax(typical, dissimilarity(scene, centres), scene.inside, sweeps=_SWEEPS)
    return Evidence(inside, distance, positive, is_outline=not positive and not len(centres))


def of_a_mask(scene: Scene, mask: Mask, corrections: Sequence[Evidence]) -> list[Evidence]:
    """The evidence of a mask to start from: its core is the label, what lies clear of it is not.

    It says nothing within the reach of a correction that says otherwise.
    """
    depth = ndimage.distance_transform_edt(mask)
    core = depth > min(_BORDER_VOXELS, 0.5 * float(depth.max()))
    clear = ndimage.distance_transform_edt(~mask) > _BORDER_VOXELS
    for correction in corrections:
        agreed = mask if correction.positive else ~mask
        if correction.decides and correction.seeds.any() and agreed.any():
            away = float(ndimage.distance_transform_edt(~agreed)[correction.seeds].max())
            near = ndimage.distance_transform_edt(~correction.seeds) <= REACH * max(away, 1.0)
            if correction.positive:
                clear &= ~near
            else:
                core &= ~near
    found = []
    for marked, positive in ((core, True), (clear, False)):
        inside = marked & scene.inside
        if inside.any():
            distance = geodesic(inside, scene.image, scene.inside, STEP, sweeps=_SWEEPS)
            found.append(Evidence(inside, distance, positive, decides=False))
    return found


def surroundings(scene: Scene, centres: npt.NDArray[np.int64], *, cut: bool, ends: Ends = frozenset()) -> Map:
    """The distance from what is taken for background: the frame's faces, and those of the volume unlike the prompt.

    centres: (n, 3) voxels of the first prompt. cut: a face of the frame that voxels of its kind lead to may cut through
    the object, and counts less; not at a single click, which the faces alone bound. ends: those faces bound nothing.
    """
    faces = scene.frame_faces.copy()
    for axis, side in ends:
        np.moveaxis(faces, axis, 0)[side] = False
    if not len(centres):
        return geodesic(faces, scene.image, scene.inside, STEP, sweeps=_SWEEPS)
    first = np.zeros(scene.inside.shape, dtype=bool)
    first[tuple(centres[0])] = True
    unlike = dissimilarity(scene, centres[:1])
    level = minimax(first, unlike, scene.inside, sweeps=_SWEEPS)
    linked = (cut & faces) & (level <= _FACE_IS_BACKGROUND)
    sure = (faces & ~linked) | (scene.volume_faces & (unlike > _FACE_IS_BACKGROUND))
    from_sure = geodesic(sure, scene.image, scene.inside, STEP, sweeps=_SWEEPS)
    if not linked.any():
        return from_sure
    from_linked = geodesic(linked, scene.image, scene.inside, STEP, sweeps=_SWEEPS)
    nearer: Map = np.minimum(from_sure, from_linked + np.float32(_FACE_LIKE_PROMPT))
    return nearer


def dissimilarity(scene: Scene, centres: npt.NDArray[np.int64]) -> Map:
    """How unlike each voxel is to the least unlike of the centres, in noise and the spread around the centre."""
    least = np.full(scene.inside.shape, FAR, np.float32)
    for centre in centres:
        box = tuple(slice(max(0, int(c) - 1), int(c) + 2) for c in centre)
        around = scene.image[(slice(None), *box)].reshape(len(scene.image), -1)
        middle = np.median(around, axis=1)
        spread = 1.4826 * np.median(np.abs(around - middle[:, None]), axis=1)
        scale = np.sqrt(spread**2 + 1)
        shape = (-1, 1, 1, 1)
        of_channels = np.abs(scene.image - middle.reshape(shape)) / scale.reshape(shape)
        least = np.minimum(least, of_channels.max(axis=0).astype(np.float32))
    return least


def _representative(scene: Scene, seeds: Mask) -> npt.NDArray[np.int64]:
    """(n, 3) voxels at evenly spaced quantiles of a prompt's intensities; of a painted slice, of its interior."""
    thin = [axis for axis in range(3) if seeds.any(axis=tuple(a for a in range(3) if a != axis)).sum() <= 2]
    inner = seeds
    if thin:
        flat = np.zeros((3, 3, 3), dtype=bool)
        cross = np.moveaxis(flat, thin[0], 0)
        cross[1] = ndimage.generate_binary_structure(2, 1)
        inner = ndimage.binary_erosion(seeds, flat)
    if np.count_nonzero(inner) < _SAMPLES:
        inner = seeds
    voxels = np.argwhere(inner)
    order = np.argsort(scene.image.mean(axis=0)[inner], kind="stable")
    quantiles = np.linspace(*_SAMPLED, min(_SAMPLES, len(voxels)))
    return voxels[order[np.rint(quantiles * (len(voxels) - 1)).astype(np.int64)]]


def answer(
    scene: Scene,
    prompts: Sequence[Evidence],
    background: Map,
    *,
    limit: Mask | None = None,
    shape: Map | None = None,
    so_far: Mask | None = None,
    only_less: bool = False,
) -> Answer:
    """The mask that the prompts of one label give.

    limit: where it can lie. shape: (Z, Y, X) what the shapes of painted slices say, -1 (outside) to 1, 0 where they say
    nothing. so_far: the mask before the last prompts, which took away from it only if only_less. In an image that shows
    nothing, the prompts' own voxels are all that is known.
    """
    size = background.shape
    yes = _any([e.seeds for e in prompts if e.positive and e.decides], size)
    no = _any([e.seeds for e in prompts if not e.positive and e.decides], size) & ~yes
    if limit is not None:
        no = no | (~limit & ~yes)
    anchors = yes | _any([e.seeds for e in prompts if e.positive and not e.decides], size)
    if scene.is_flat and shape is None:
        return tidy(anchors.astype(np.float32), scene.inside, yes, no, anchors)
    nowhere = np.full(size, FAR, np.float32)
    near = np.minimum.reduce([nowhere, *(e.distance for e in prompts if e.positive)])
    several = sum(e.is_outline for e in prompts) >= _SEVERAL
    outline = np.float32(_OUTLINE_OF_SEVERAL if several else _OUTLINE)
    opposed = [e.distance + outline if e.is_outline else e.distance for e in prompts if not e.positive]
    far = np.minimum.reduce([background, *opposed])
    margin = ndimage.gaussian_filter((far - near) / (far + near + np.float32(1e-3)), SMOOTHING_VOXELS)
    if shape is not None:
        known = np.float32(_SHAPE_WEIGHT) * np.abs(shape)
        margin = (1 - known) * margin + known * shape
    look = learned_look(scene, yes, no, so_far) if len(prompts) >= _LEAST_PROMPTS and shape is None else None
    if look is not None:
        margin = margin + np.float32(_LOOK_WEIGHT * _agreement(look, prompts)) * look
    if so_far is not None and only_less:
        margin = margin + np.float32(_STANDS_WEIGHT) * np.tanh(-signed_distance(so_far) / _STANDS_VOXELS)
    prior = (0.5 + 0.5 * np.tanh(_GAIN * margin)).astype(np.float32)
    prior[yes], prior[no] = 1, 0
    probability = random_walk(
        prior, scene.image, scene.inside, yes | no, weight=_PRIOR_WEIGHT, edge=_EDGE, sweeps=_WALKER_SWEEPS
    )
    return tidy(probability, scene.inside, yes, no, anchors)


def at_best_level(scene: Scene, found: Answer, prompts: Sequence[Evidence]) -> Answer:
    """The answer whose border lies on edges of the image most, among those that end at other probabilities.

    The mask with the largest expected Dice ends at half of that Dice (Lipton, Elkan and Naryanaswamy, ECML PKDD 2014),
    and little is to be expected of a few clicks: at one half their masks are too small. One half it is where a click
    says that there was too much.
    """
    yes = _any([e.seeds for e in prompts if e.positive], found.mask.shape)
    no = _any([e.seeds for e in prompts if not e.positive], found.mask.shape) & ~yes
    expected = 0.5 if no.any() else _TRUSTING_LEVEL
    near = ndimage.distance_transform_edt(~found.mask) <= _LEVEL_REACH

    def ended(level: float) -> Answer:
        if level == 0.5:
            return found
        raised = found.probability * np.float32(1 - level)
        probability = np.where(near, raised / (raised + (1 - found.probability) * np.float32(level)), 0)
        probability[yes], probability[no] = 1, 0
        return tidy(probability.astype(np.float32), scene.inside, yes, no, yes)

    def fit(answer: Answer, level: float) -> float:
        return border_support(scene, answer.mask) - _LEVEL_WEIGHT * abs(level - expected)

    ways = [(ended(level), level) for level in _LEVELS]
    return max(ways, key=lambda way: fit(*way))[0]


def learned_look(scene: Scene, yes: Mask, no: Mask, so_far: Mask | None) -> Map | None:
    """How much more voxels look like the label than like its surroundings, -1 to 1; None where too little is known.

    It is learned from the voxels that prompts decide, and from those of the mask so far that lie clear of its border:
    the logarithm of how often each pair of intensities occurs in the one and in the other.
    """
    own, other = yes, no
    if so_far is not None and so_far.any():
        depth, away = ndimage.distance_transform_edt(so_far), ndimage.distance_transform_edt(~so_far)
        own = own | ((depth > min(_CLEAR_VOXELS, 0.5 * float(depth.max()))) & ~no)
        other = other | ((away > _CLEAR_VOXELS) & (away < _AROUND_VOXELS) & ~yes)
    own, other = own & scene.inside, other & scene.inside
    if min(np.count_nonzero(own), np.count_nonzero(other)) < _LEAST_LEARNED:
        return None
    looks = [_look_of_channel(channel, own, other) for channel in scene.image]
    look: Map = np.mean(looks, axis=0, dtype=np.float32)
    return look


def _agreement(look: Map, prompts: Sequence[Evidence]) -> float:
    """How far a look agrees with the prompts, 0 to 1: one that is learned from a wrong mask contradicts them."""
    said = [float(look[e.seeds].mean()) * (1 if e.positive else -1) for e in prompts if e.decides and e.seeds.any()]
    return max(0.0, sum(said) / max(1, len(said)))


def _look_of_channel(channel: Map, own: Mask, other: Mask) -> Map:
    binned = np.zeros(channel.shape, np.int64)
    known = own | other
    for sigma in _LOOK_SMOOTHING:
        smooth = ndimage.gaussian_filter(channel, sigma)
        low, high = np.percentile(smooth[known], (1, 99))
        scaled = (smooth - low) * (_LOOK_BINS / (high - low + 1e-6))
        binned = binned * _LOOK_BINS + scaled.clip(0, _LOOK_BINS - 1).astype(np.int64)
    shares = []
    for mask in (own, other):
        counted = np.bincount(binned[mask], minlength=_LOOK_BINS**2).reshape(_LOOK_BINS, _LOOK_BINS)
        shares.append(ndimage.gaussian_filter(counted / counted.sum(), 1.0) + 1e-4)
    ratio = np.log(shares[0] / shares[1]).clip(-3, 3).ravel() / 3
    look: Map = ndimage.gaussian_filter(ratio[binned].astype(np.float32), SMOOTHING_VOXELS)
    return look


def shape_of_slices(axis: int, painted: Mapping[int, Mask], size: tuple[int, ...]) -> Map:
    """What the shapes of painted slices say of the slices beside them, -1 (outside) to 1; 0 on the slices themselves.

    axis: the slices are along it. painted: {index in the scene: mask of the slice}. Between two slices their signed
    distances are mixed (Raya and Udupa, IEEE TMI 1990). Beyond the last one its shape goes on for a while, unless the
    next painted slice is empty, and goes on to become thinner as it did from the slice before. What is said fades with
    the distance from the slices.
    """
    shape = np.zeros(size, np.float32)
    planes = np.moveaxis(shape, axis, 0)
    indices = sorted(painted)
    distances = {index: signed_distance(painted[index]) for index in indices if painted[index].any()}
    for low, high in pairwise(indices):
        if low in distances and high in distances:
            for k in range(low + 1, high):
                mixed = (distances[low] * (high - k) + distances[high] * (k - low)) / (high - low)
                planes[k] = np.tanh(-mixed / (_SHAPE_OFF + _SHAPE_DRIFT * min(k - low, high - k)))
    width = math.sqrt(max((np.count_nonzero(painted[index]) for index in distances), default=0))
    for last, before, beyond in (
        (indices[0], indices[1:2], range(indices[0] - 1, -1, -1)),
        (indices[-1], indices[-2:-1], range(indices[-1] + 1, len(planes))),
    ):
        if last in distances:
            shrinks = max((_thinner(distances, last, other) for other in before), default=0.0)
            for k in beyond:
                away = abs(k - last)
                fading = math.exp(-away / (_SHAPE_REACH * width))
                off = _SHAPE_OFF + _SHAPE_DRIFT_BEYOND * away
                planes[k] = fading * np.tanh(-(distances[last] + shrinks * away) / off)
    return shape


def _thinner(distances: Mapping[int, npt.NDArray[np.float64]], last: int, before: int) -> float:
    """How much thinner a shape becomes on each side from a slice to the next, in voxels; 0 where it does not."""
    if before not in distances:
        return 0.0
    return max(0.0, float(distances[last].min() - distances[before].min()) / abs(last - before))


def open_ends(axis: int, shape: Map) -> Ends:
    """The ends of a frame that the shape of a slice along an axis reaches.

    The outsides of painted slices say what is background on the way there. Where the shape has vanished before, or the
    last painted slice is empty, the object has ended.
    """
    planes = np.moveaxis(shape, axis, 0)
    return frozenset((axis, side) for side in (0, -1) if planes[side].max() > 0)


def signed_distance(mask: Mask, spacing: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """Distance to the border of a mask, negative inside: in voxels, or in the unit of a spacing, one number an axis."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    half = 0.5 * min(spacing) if spacing else 0.5
    distance: npt.NDArray[np.float64] = np.where(mask, half - inside, outside - half)
    return distance


def tidy(probability: Map, inside: Mask, yes: Mask, no: Mask, anchors: Mask) -> Answer:
    """The parts that hold an anchor, their holes filled."""
    parts, count = ndimage.label((probability > 0.5) & inside)
    wanted = np.unique(parts[anchors])
    mask = np.isin(parts, wanted[wanted > 0]) if count else np.zeros_like(inside)
    mask = (ndimage.binary_fill_holes(mask | yes) & ~no) & inside
    below, above = np.float32(0.5), np.float32(0.51)
    return Answer(mask, np.where(mask, np.maximum(probability, above), np.minimum(probability, below)))


def border_support(scene: Scene, mask: Mask) -> float:
    """How much of the mask's border lies on edges of the image, 0 to 1; on faces of the volume there is no border."""
    border = mask & ~ndimage.binary_erosion(mask, border_value=1) & ~(scene.volume_faces & ~scene.frame_faces)
    if not border.any():
        return 0.0
    return float(np.minimum(1, scene.gradient[border] / _EDGE).mean())


def centrality(mask: Mask, places: npt.NDArray[np.int64]) -> float:
    """How deep the deepest of some voxels lies in a mask, beside the mask's own deepest voxel: 0 to 1.

    places: (n, 3) indices.
    """
    around = [(int(n > 1), int(n > 1)) for n in mask.shape]
    depth = ndimage.distance_transform_edt(np.pad(mask, around))
    deepest = float(depth.max())
    at = tuple((places + [low for low, _ in around]).T)
    return float(depth[at].max(initial=0)) / deepest if deepest else 0.0


def spread_inside(scene: Scene, mask: Mask) -> float:
    """How far the intensities in a mask spread, in noise: the scaled median absolute deviation, mean of channels."""
    if not mask.any():
        return 0.0
    inside = scene.image[:, mask]
    return float(1.4826 * np.median(np.abs(inside - np.median(inside, axis=1, keepdims=True)), axis=1).mean())


def _any(masks: Sequence[Mask], shape: tuple[int, ...]) -> Mask:
    return np.logical_or.reduce(masks) if masks else np.zeros(shape, dtype=bool)
