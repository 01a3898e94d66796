"""What a detector finds in the windows of an image, brought together: objects with a box and a mask each.

The windows are those of the model's grid, so that the objects do not depend on who works on which block. An object
that a window shows whole counts as that window shows it. Of an object that is larger than the windows' overlap, the
pieces of several windows become one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.architectures.detection.mask_rcnn import Found, MaskRCNN, sampled
from napari_medseg.arrays.boxes import Box, intersection, overlaps, within
from napari_medseg.errors import NotSupportedError
from napari_medseg.events import Event, Notice, Progress
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.device import autocast
from napari_medseg.inference.job import Job
from napari_medseg.inference.objects.parts import UnionFind
from napari_medseg.inference.planes import BoxReader
from napari_medseg.inference.stream import InputSlab

_AT_THE_EDGE = 1.0
"""Voxels from the end of a window, within which a box is cut off by it."""
_SAME = 0.5
"""IoU of two boxes above which they show the same object; the share of a piece that a whole object covers."""
_JOINS = 0.3
"""Share of the smaller of two pieces' boxes above which both are pieces of one object."""

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Detection:
    """An object, or a piece of one, as a window shows it."""

    box: tuple[float, ...]
    """Low edges (z, y, x), then high ones, in voxels of the model's grid."""
    score: float
    of: int
    """Its class, from 1 on."""
    mask: npt.NDArray[np.float16]
    """(m, m, m) probabilities inside the box; (1, m, m) of a network of slices."""
    cut: bool
    """Whether it ends where the window ends."""

    @property
    def rank(self) -> tuple[float, ...]:
        """The better detection has the smaller one, whichever window came first."""
        return (-self.score, *self.box, self.of)


def detecting(job: Job) -> Generator[Event, None, list[tuple[Detection, ...]]]:
    """Find the objects of an image, the best first; each is one detection, or the pieces of several windows.

    Yields a Progress after each window. Memory holds a row of windows, and the masks of the objects.
    """
    network = detector_of(job)
    found: list[Detection] = []
    done, total = 0, len(job.windows)
    with closing(BoxReader(job.volume, job.plan.order)) as reader:
        slab = InputSlab(job.source(reader), job.windows, 0)
        for z, _, corners in job.windows.rows():
            if corners:
                slab.advance(z)
            for corner in corners:
                found += _in_window(job, network, slab.windows([corner]), (z, *corner))
                done += 1
                yield Progress(done, total, "windows")
        yield from map(Notice, reader.doubts)
    return together(found)


def detector_of(job: Job) -> MaskRCNN:
    """The network of a job that finds objects. Raises NotSupportedError for several that are averaged."""
    network = getattr(job.predictor.network, "net", job.predictor.network)
    if not isinstance(network, MaskRCNN):
        raise NotSupportedError("models that find objects cannot be averaged: give one of them")
    return network


@torch.no_grad()
def _in_window(job: Job, network: MaskRCNN, window: torch.Tensor, corner: Shape3) -> list[Detection]:
    """What the network finds in a window (1, C, z, y, x) that begins at a voxel of the padded grid."""
    inputs = window.to(job.predictor.device)
    flat = network.spatial_dims == 2
    slices = inputs[0].movedim(1, 0) if flat else inputs
    with autocast(job.predictor.device, job.predictor.precision):
        each = network.find(slices)
    found = []
    for index, seen in enumerate(each):
        size = tuple(window.shape[2:])
        boxes, masks = seen.boxes.cpu().numpy(), seen.masks.cpu().numpy().astype(np.float16)
        if flat:
            z = np.full((len(boxes), 1), index, np.float32)
            boxes = np.concatenate([z, boxes[:, :2], z + 1, boxes[:, 2:]], axis=1)
            masks = masks[:, None]
        found += _on_grid(job, seen, boxes, masks, corner, size)
    return found


def _on_grid(
    job: Job, seen: Found, boxes: Boxes, masks: npt.NDArray[np.float16], corner: Shape3, size: Sequence[int]
) -> list[Detection]:
    """Boxes of a window as detections on the grid; what lies in the padding is left out."""
    start = np.array(corner)
    padded, before, shape = (np.array(n) for n in (job.windows.padded, job.windows.pad_before, job.windows.shape))
    inner_low, inner_high = start > 0, start + size < padded
    # A slice alone ends nowhere along z.
    deep = np.array(size) > 1
    cut = deep & (
        ((boxes[:, :3] < _AT_THE_EDGE) & inner_low) | ((boxes[:, 3:] > np.array(size) - _AT_THE_EDGE) & inner_high)
    )
    placed = boxes + np.tile(start - before, 2)
    middles = (placed[:, :3] + placed[:, 3:]) / 2
    inside = ((middles >= 0) & (middles < shape)).all(axis=1)
    flags = (np.asarray(flag).tolist() for flag in (cut.any(axis=1), inside))
    rows = zip(placed.tolist(), seen.scores.tolist(), seen.classes.tolist(), masks, *flags, strict=True)
    return [
        Detection(tuple(box), score, of, mask, is_cut) for box, score, of, mask, is_cut, is_inside in rows if is_inside
    ]


def together(found: Sequence[Detection]) -> list[tuple[Detection, ...]]:
    """The detections of all windows as objects, the best first; the order in which they come does not matter."""
    ranked = sorted(found, key=lambda one: one.rank)
    whole = [one for one in ranked if not one.cut]
    boxes = _boxes(whole)
    classes, kept = np.array([one.of for one in whole]), np.zeros(len(whole), bool)
    for index in range(len(whole)):
        better = boxes[:index][kept[:index] & (classes[:index] == classes[index])]
        kept[index] = not (_ious(boxes[index], better) > _SAME).any()
    objects = [whole[k] for k in np.flatnonzero(kept)]
    pieces = [one for one in ranked if one.cut and not _is_covered(one, objects)]
    groups: dict[int, list[Detection]] = {}
    joined = _joined(pieces)
    for index, piece in enumerate(pieces):
        groups.setdefault(joined.find(index), []).append(piece)
    every = [(one,) for one in objects] + [tuple(group) for group in groups.values()]
    return sorted(every, key=lambda group: group[0].rank)


def _joined(pieces: Sequence[Detection]) -> UnionFind:
    """Which pieces are of one object."""
    joined, boxes = UnionFind(), _boxes(pieces)
    for index, one in enumerate(pieces[1:], start=1):
        shares = _shared(boxes[index], boxes[:index]) / np.minimum(_volumes(boxes[index]), _volumes(boxes[:index]))
        same = [k for k in np.flatnonzero(shares > _JOINS).tolist() if pieces[k].of == one.of]
        joined.join((index, k) for k in same)
    return joined


def _is_covered(piece: Detection, objects: Sequence[Detection]) -> bool:
    same = [one for one in objects if one.of == piece.of]
    if not same:
        return False
    box = _boxes([piece])[0]
    return bool((_shared(box, _boxes(same)) / max(1e-6, float(_volumes(box)))).max() > _SAME)


def _boxes(of: Sequence[Detection]) -> Boxes:
    return np.array([one.box for one in of], np.float32).reshape(-1, 6)


def _volumes(boxes: Boxes) -> Boxes:
    sides: Boxes = (boxes[..., 3:] - boxes[..., :3]).clip(min=1e-3)
    volumes: Boxes = sides.prod(axis=-1)
    return volumes


def _shared(box: Boxes, others: Boxes) -> Boxes:
    low, high = np.maximum(box[:3], others[:, :3]), np.minimum(box[3:], others[:, 3:])
    found: Boxes = (high - low).clip(min=0).prod(axis=1)
    return found


def _ious(box: Boxes, others: Boxes) -> Boxes:
    both = _shared(box, others)
    return np.asarray(both / (_volumes(box) + _volumes(others) - both))


@dataclass(frozen=True, eq=False)
class Painter:
    """Objects on the grid of the output, in the model's axis order."""

    objects: Sequence[tuple[Detection, ...]]
    """The best first: where objects overlap, it stays."""
    scale: tuple[float, float, float]
    """Voxels of the model's grid for one of the output, along each axis."""

    @cached_property
    def _pieces(self) -> list[tuple[int, Detection, Box]]:
        """(number of its object, the piece, the voxels of the output in which its box lies), the best object first."""
        return [(n, piece, self._place(piece)) for n, pieces in enumerate(self.objects, start=1) for piece in pieces]

    def paint(self, box: Box) -> npt.NDArray[np.int32]:
        """The numbers (z, y, x) of the objects in a box of the output: 1 for the first; 0 outside."""
        found = np.zeros([s.stop - s.start for s in box], np.int32)
        for number, piece, place in self._pieces:
            if overlaps(place, box):
                here = intersection(place, box)
                numbers = found[within(here, box)]
                numbers[self._inside(piece, here) & (numbers == 0)] = number
        return found

    def _place(self, piece: Detection) -> Box:
        low, high = piece.box[:3], piece.box[3:]
        return triple_of(
            slice(int(np.floor(a / s)), int(np.ceil(b / s)) + 1) for a, b, s in zip(low, high, self.scale, strict=True)
        )

    def _inside(self, piece: Detection, place: Box) -> npt.NDArray[np.bool_]:
        coordinates = [
            torch.arange(side.start, side.stop, dtype=torch.float32).add(0.5).mul(s)
            for side, s in zip(place, self.scale, strict=True)
        ]
        mask = torch.from_numpy(piece.mask.astype(np.float32))
        found: npt.NDArray[np.bool_] = (sampled(mask, torch.tensor(piece.box), coordinates) >= 0.5).numpy()
        return found
