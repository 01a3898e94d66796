"""What a volumetric memory network learns from: clips of labelled volumes, their losses, and phantoms.

A clip is LENGTH slices of one object. The first has a mask by the user; each later one is segmented from it and from
the slice before, with the mask that the network gave that one: as in use, where errors add up on the way. The loss is
cross-entropy, the Lovasz extension of the intersection over union, and the squared error of the quality head. Clips
come with and without a second reference.

    images  (N, LENGTH + 1, 1, Y, X): the slices of N clips, and the second reference
    masks   (N, LENGTH + 1, Y, X)

Sources: Zhou et al., MICCAI 2021 (clips); Berman et al., CVPR 2018 (Lovasz).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import (
    affine_grid,
    binary_cross_entropy_with_logits,
    grid_sample,
    max_pool2d,
    mse_loss,
)

from napari_medseg.architectures.interactive.mem3d import Mem3D, Memory
from napari_medseg.interactive.guided.region import Square, normalised
from napari_medseg.sample import Kind, phantom
from napari_medseg.volume import Grid, Segmentation, Volume

SIZE = 96
"""Samples of a slice along each axis."""
LENGTH = 4
"""Slices of a clip, one after the other; three are published."""
_MISPLACED = 0.3
"""Probability that the mask which a slice is seen beside was moved, or made thicker or thinner."""
_FARTHEST = 3
"""From a slice of a clip to the next, in slices of the volume, at most."""
_LEAST_VOXELS = 12
"""Of the object in the first slice of a clip."""
_TRIES = 20
"""Draws of a clip from a volume in which small objects may be seen in too few slices."""

Clip = tuple[Tensor, Tensor]
"""Images (LENGTH + 1, 1, Y, X) and masks (LENGTH + 1, Y, X): slices one after the other, and one beyond.

Masks are 1 inside, 0 outside and UNKNOWN where nobody annotated."""
UNKNOWN = -1
"""What nobody annotated, in labels and masks."""


@dataclass(frozen=True)
class Example:
    """A labelled volume, its voxels as an array."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.integer]
    spacing_zyx_mm: tuple[float, float, float]


def shapes(seed: int, size: int = 48) -> tuple[Volume, Segmentation]:
    """A phantom of six shapes that overlap, in a textured image with noise and shading: any intensity, any border."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing((size, size, size), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1).astype(np.float32)
    labels, image = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    image += rng.normal() * 0.5
    for label in range(1, 7):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        away = (places - rng.uniform(0.2, 0.8, 3) * size) @ turn.astype(np.float32)
        bend = rng.uniform(-0.03, 0.03) * away[..., 0] ** 2
        radii = size * rng.uniform(0.08, 0.28, 3)
        level = (
            ((away[..., 0] / radii[0]) ** 2) + ((away[..., 1] - bend) / radii[1]) ** 2 + (away[..., 2] / radii[2]) ** 2
        )
        uneven = ndimage.gaussian_filter(rng.normal(size=grid.shape), size / 12)
        inside = level + 0.4 * uneven / uneven.std() < 1
        labels[inside], image[inside] = label, rng.normal()
    texture = ndimage.gaussian_filter(rng.normal(size=grid.shape), rng.uniform(1, 3))
    image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.2)) + rng.uniform(0, 0.5) * texture / texture.std()
    image += rng.uniform(0, 0.3) * rng.normal(size=grid.shape) + rng.uniform(-1, 1) * places[..., 0] / size
    names = {k: f"shape {k}" for k in range(1, 7)}
    return Volume(image[None].astype(np.float32), grid, ("image",)), Segmentation(labels, grid, names)


def phantoms(count: int, seed: int) -> Iterator[tuple[Volume, Segmentation]]:
    """Shapes, and every fourth time an abdomen, by turns CT and MR."""
    for k in range(count):
        if k % 4 == 3:
            kind: Kind = "ct" if k % 8 == 3 else "mr"
            yield phantom(kind, seed=seed + k, shape_zyx=(40, 64, 80), spacing_zyx_mm=(5.0, 4.0, 4.0))
        else:
            yield shapes(seed + k)


def clip_losses(net: Mem3D, clips: Sequence[Clip], rng: np.random.Generator, *, far: bool) -> dict[str, Tensor]:
    """The losses of the masks and of the quality head. far: whether the last slice is a second reference.

    What nobody annotated does not count; a slice that is given as a reference has nothing there.
    """
    images, masks = (torch.stack(parts) for parts in zip(*clips, strict=True))
    known, masks = masks != UNKNOWN, masks.clamp_min(0)
    references = net.memorise(images[:, 0, :, None], masks[:, 0, None, None])
    if far:
        references = net.memorise(images[:, LENGTH, :, None], masks[:, LENGTH, None, None]).with_later(references)
    memory, of_masks, of_quality = references, list[Tensor](), list[Tensor]()
    for k in range(1, LENGTH):
        outputs = net.segment(images[:, k], _misplaced(memory, rng))
        score = outputs.logits[:, 1] - outputs.logits[:, 0]
        found, counts = score.sigmoid(), known[:, k]
        entropy = binary_cross_entropy_with_logits(score, masks[:, k], reduction="none")[counts].sum()
        of_masks.append(entropy / counts.sum().clamp_min(1) + lovasz(found * counts, masks[:, k]))
        of_quality.append(mse_loss(outputs.heads["quality"], _iou((found.detach() > 0.5) & counts, masks[:, k] > 0.5)))
        memory = references.with_later(net.memorise(images[:, k, :, None], found[:, None, None].detach()))
    return {"mask": torch.stack(of_masks).mean(), "quality": torch.stack(of_quality).mean()}


def _misplaced(memory: Memory, rng: np.random.Generator) -> Memory:
    """The memory, the last mask of which is moved, turned, stretched, thicker or thinner now and then.

    Its own masks are a little wrong in use, and are to be mended by the image. Keys and values stay those of the true
    mask (Perazzi et al., CVPR 2017).
    """
    image, mask = memory.last[:, :-1], memory.last[:, -1:]
    moves = torch.eye(2, 3, dtype=mask.dtype).repeat(len(mask), 1, 1)
    for move in moves:
        if rng.random() < _MISPLACED:
            rows, columns, turn = *rng.uniform(0.88, 1.14, 2), rng.uniform(-0.15, 0.15)
            turned = [[rows * np.cos(turn), -columns * np.sin(turn)], [rows * np.sin(turn), columns * np.cos(turn)]]
            move[:, :2], move[:, 2] = torch.tensor(turned), torch.from_numpy(rng.uniform(-0.06, 0.06, 2))
    places = affine_grid(moves.to(mask.device), list(mask.shape), align_corners=False)
    mask = grid_sample(mask, places, align_corners=False)
    if rng.random() < _MISPLACED:
        grown = partial(max_pool2d, kernel_size=3, stride=1, padding=1)
        mask = grown(mask) if rng.random() < 0.5 else 1 - grown(1 - mask)
    return replace(memory, last=torch.cat((image, mask), dim=1))


def lovasz(probability: Tensor, mask: Tensor) -> Tensor:
    """The convex extension of one minus the intersection over union; the mean over (N, Y, X)."""
    truth = mask.flatten(1)
    errors, order = (truth - probability.flatten(1)).abs().sort(dim=1, descending=True)
    ordered = truth.gather(1, order)
    intersection = truth.sum(1, keepdim=True) - ordered.cumsum(1)
    union = truth.sum(1, keepdim=True) + (1 - ordered).cumsum(1)
    jaccard = 1 - intersection / union
    steps = torch.cat((jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]), dim=1)
    return (errors * steps).sum(1).mean()


def _iou(found: Tensor, truth: Tensor) -> Tensor:
    """(N,) of masks (N, Y, X); 1 where both are empty."""
    both, either = (found & truth).flatten(1).sum(1), (found | truth).flatten(1).sum(1)
    return (both + 1e-3) / (either + 1e-3)


def clip_of(example: Example, rng: np.random.Generator, size: int) -> Clip | None:
    """A clip of an object, `size` samples a side; None where the volume has too few slices for one.

    Somebody annotated a part of each slice that is segmented at least.
    """
    ids = np.unique(example.labels)
    ids = ids[ids > 0]
    for _ in range(_TRIES if len(ids) else 0):
        axis = int(rng.integers(3))
        planes, labels = np.moveaxis(example.image, axis, 0), np.moveaxis(example.labels, axis, 0)
        chosen = ids if rng.random() < 0.2 and len(ids) < 4 else [rng.choice(ids)]
        mask = np.isin(labels, chosen)
        held = np.flatnonzero(mask.sum(axis=(1, 2)) >= _LEAST_VOXELS)
        step = int(rng.integers(1, _FARTHEST + 1)) * (1 if rng.random() < 0.5 else -1)
        if len(held):
            first = int(rng.choice(held))
            ahead = [*range(LENGTH), int(rng.integers(LENGTH, 2 * LENGTH))]
            slices = np.clip(first + step * np.array(ahead), 0, len(planes) - 1)
            annotated = (labels[slices[:LENGTH]] != UNKNOWN).any(axis=(1, 2)).all()
            if annotated and len(set(slices[:LENGTH].tolist())) == LENGTH:
                spacing = tuple(s for a, s in enumerate(example.spacing_zyx_mm) if a != axis)
                return _cut(planes, mask, labels == UNKNOWN, slices, (spacing[0], spacing[1]), rng, size)
    return None


def _cut(
    planes: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    unknown: npt.NDArray[np.bool_],
    slices: npt.NDArray[np.int64],
    spacing_mm: tuple[float, float],
    rng: np.random.Generator,
    size: int,
) -> Clip:
    """The slices around the object, turned, flipped, brighter, darker or inverted."""
    seen_first = mask[slices[0]] | mask[slices[LENGTH - 1]]
    square = Square.around(seen_first, spacing_mm, size, margin=rng.uniform(0.3, 1.5))
    seen = (slices, *square.box)
    images = square.cut(normalised(planes[seen], [0]))
    masks = square.cut_masks(torch.from_numpy(mask[seen].astype(np.float32)))
    if unknown[seen].any():
        masks[square.cut(torch.from_numpy(unknown[seen].astype(np.float32))) > 0] = UNKNOWN
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    images, masks = (torch.rot90(x, turns, (1, 2)) for x in (images * float(rng.uniform(0.8, 1.2)), masks))
    if rng.random() < 0.3:
        images = -images
    return (images.flip(2)[:, None], masks.flip(2)) if flip else (images[:, None], masks)
