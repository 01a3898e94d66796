"""The maps of windows put together on the image's grid, in memory that does not grow with its planes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.events import Event, Filled, Progress
from napari_medseg.explanation.asking import Answers
from napari_medseg.explanation.randomised import Likeness
from napari_medseg.explanation.scene import Scene
from napari_medseg.explanation.shares import Shares
from napari_medseg.explanation.targets import ModelTarget, Target
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.blend import Piece, RollingLogits
from napari_medseg.inference.regions import Region, columns, padded, rows_of
from napari_medseg.inference.results.rows import RowWriter, edges_of
from napari_medseg.inference.stream import InputSlab
from napari_medseg.inference.windows import Row
from napari_medseg.io.disk import memory

_SHARE = 0.5
"""Of the memory that is left, how much the sums of a region may take."""
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class _Looked:
    """A window was looked at."""


@dataclass(frozen=True)
class _Final:
    """All planes of the region before `stop` were handed out."""

    stop: int


def fill(scene: Scene, answers: Answers, target: Target | None, data: Any) -> Generator[Event, None, list[Likeness]]:
    """Fill an array (1, Z, Y, X) with the map; returns how much it is like those of networks of random weights.

    target: the voxels that are explained; None for all that the network gives the label. Yields a Progress per window,
    and a Filled for each box of the array that is final.
    """
    on_model = None if target is None else target.on_model(scene.maps)
    order, likeness = scene.plan.order, [Likeness() for _ in answers.networks[1:]]
    boxes = _regions(scene, answers.channels, data)
    runs = [(box, _rows(scene, box, on_model)) for box in boxes]
    total, done = max(1, sum(len(corners) for _, rows in runs for _, _, corners in rows)), 0
    for box, rows in runs:
        writer = RowWriter(data, order, box)
        for event in _map_of(scene, answers, on_model, box, rows):
            if isinstance(event, _Looked):
                done += 1
                yield Progress(done, total, "windows")
            elif isinstance(event, Piece):
                writer.put(event.box, _inside(scene, event, likeness))
            else:
                written = writer.advance(event.stop)
                if written is not None:
                    yield Filled(written)
    if not done:
        yield Progress(1, 1, "windows")
    return likeness


def _map_of(
    scene: Scene, answers: Answers, target: ModelTarget | None, box: Box, rows: list[Row]
) -> Iterator[_Looked | Piece | _Final]:
    """The maps (M, z, y, x) of one region, a box of the output, plane by plane as they become final."""
    mean = answers.combining == "mean"
    cpu = torch.device("cpu")
    region = Region.of(box, scene.maps)
    sums = RollingLogits(
        answers.channels, scene.windows, scene.maps, cpu, averaged=mean, summed=not mean, region=region
    )
    shares = Shares(scene.windows)
    weight = torch.from_numpy(scene.windows.weight) if mean else torch.ones(scene.windows.window)
    with scene.opened() as source:
        slab = InputSlab(source, scene.windows, answers.halo, _hull(rows, scene))
        for z, following, corners in rows:
            if corners:
                slab.advance(z)
            for y, x in corners:
                corner = (z, y, x)
                found = answers.of(slab.windows([(y, x)]), shares.at(corner), _wanted(target, scene, corner))
                if found is not None:
                    sums.add(corner, found, weight)
                yield _Looked()
            yield from sums.finish(following)
            yield _Final(sums.final(following))


def _wanted(target: ModelTarget | None, scene: Scene, corner: Shape3) -> torch.Tensor | None:
    """How much each voxel of a window counts; None where the network decides."""
    if target is None:
        return None
    found = target.in_window(_unpadded(corner, scene), scene.windows.window)
    return torch.zeros(scene.windows.window) if found is None else found


def _unpadded(corner: Shape3, scene: Scene) -> Shape3:
    return triple_of(c - before for c, before in zip(corner, scene.windows.pad_before, strict=True))


def _rows(scene: Scene, box: Box, target: ModelTarget | None) -> list[Row]:
    """The rows of windows that a region needs; of a target, with those that hold some of it only."""
    wanted = padded(Region.of(box, scene.maps).source, scene.windows)
    window = scene.windows.window
    return [
        (
            z,
            following,
            [
                (y, x)
                for y, x in corners
                if target is None or target.in_window(_unpadded((z, y, x), scene), window) is not None
            ],
        )
        for z, following, corners in rows_of(scene.windows, wanted)
    ]


def _hull(rows: list[Row], scene: Scene) -> tuple[slice, slice]:
    """The rows and columns of the padded grid in which the windows lie; of none, those of one window."""
    _, height, width = scene.windows.window
    ys = [y for _, _, corners in rows for y, _ in corners] or [0]
    xs = [x for _, _, corners in rows for _, x in corners] or [0]
    return slice(min(ys), max(ys) + height), slice(min(xs), max(xs) + width)


def _regions(scene: Scene, channels: int, data: Any) -> list[Box]:
    """The output in boxes of whole chunks, of all planes, whose sums fit into the memory."""
    order = scene.plan.order
    depth, height, width = scene.plan.image_grid.shape
    _, rows, cols = scene.windows.padded
    held = scene.windows.window[0] * (2 * channels + scene.plan.inputs) * _FLOAT32_BYTES
    per_voxel = held * rows * cols / (height * width)
    widest = max(1, int(_SHARE * memory.limit_bytes() / per_voxel))
    edges = (edges_of(data, order, 1), edges_of(data, order, 2))
    return [(slice(0, depth), y, x) for y, x in columns(edges, widest)]


def _inside(scene: Scene, piece: Piece, likeness: list[Likeness]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The map (1, z, y, x) of a piece, 0 where the model crops the image; what is checked is compared."""
    heat = piece.logits[:1].clone()
    for axis, (along, side) in enumerate(zip(scene.maps, piece.box, strict=True)):
        seen = along.weights[side].any(axis=1)
        if not seen.all():
            heat.index_fill_(1 + axis, torch.from_numpy(np.flatnonzero(~seen)), 0.0)
    looked = piece.logits[-1] > 0
    for each, other in zip(likeness, piece.logits[1:-1], strict=True):
        each.add(heat[0][looked].numpy(), other[looked].numpy())
    return np.asarray(heat.numpy(), np.float32)
