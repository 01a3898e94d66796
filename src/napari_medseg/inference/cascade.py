"""Cascades: a model that looks first, at its own spacing, and tells another one where to look.

coarse-to-fine: its probabilities become channels of the second, plane by plane as the second asks for them (the low
resolution stage of nnU-Net, Isensee et al., Nature Methods 2021). detect-then-segment: the second sees the boxes around
what the first found.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.arrays.boxes import Box
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Progress
from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import RollingLogits, classes_of
from napari_medseg.inference.planes import Maps, ModelPlanes, axis_maps
from napari_medseg.inference.runner import WindowRunner, window_of
from napari_medseg.inference.stream import Plane, PlaneSource, blended
from napari_medseg.inference.windows import WindowGrid
from napari_medseg.models.spec import ModelSpec, Stage
from napari_medseg.volume import Grid, Volume

_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


def probabilities(
    volume: Volume, stage: Stage, shape: Shape3, runner: WindowRunner, config: SegmentConfig
) -> Iterator[torch.Tensor]:
    """The first stage's foreground probabilities (K - 1, Y, X) on the CPU, plane after plane of a grid of `shape`.

    The grid covers the volume. The stage runs as far as the planes taken need it, and no further.
    """
    planes = ModelPlanes(volume, stage.model)
    for done in _run(planes, stage.model, axis_maps(planes.shape, shape), runner, config):
        if isinstance(done, Plane):
            yield done.logits.softmax(0)[1:].cpu()


class GuidedPlanes:
    """The planes of a volume with a first stage's probabilities as further channels."""

    def __init__(self, planes: PlaneSource, guides: int, guide: Iterator[torch.Tensor]) -> None:
        self._planes = planes
        self._guide = guide
        self._next = 0
        self.guides = guides

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Planes [start, stop) as (C + guides, stop - start, Y, X); ascending, each once."""
        taken = list(islice(self._guide, start - self._next, stop - self._next))
        self._next = stop
        return torch.cat([self._planes.read(start, stop), torch.stack(taken, dim=1)])


def guided(
    planes: ModelPlanes, volume: Volume, stage: Stage | None, runner: WindowRunner | None, config: SegmentConfig
) -> PlaneSource:
    """The planes as the network of a cascade sees them: with the first stage's channels, where it gives any."""
    if stage is None or stage.guide != "channel":
        return planes
    assert runner is not None, "the model of a cascade brings the network of its first stage"
    return GuidedPlanes(planes, stage.channels, probabilities(volume, stage, planes.shape, runner, config))


def find_boxes(
    volume: Volume, stage: Stage, grid: Grid, runner: WindowRunner, config: SegmentConfig
) -> Generator[Progress, None, tuple[Box, ...]]:
    """The boxes in voxels of `grid` around each connected part of what the first stage finds, with its margin."""
    planes = ModelPlanes(volume, stage.model)
    total = len(WindowGrid(planes.shape, window_of(stage.model), config.overlap))
    found = np.zeros(planes.shape, dtype=bool)
    z = 0
    for done in _run(planes, stage.model, axis_maps(planes.shape, planes.shape), runner, config):
        if isinstance(done, Plane):
            found[z] = classes_of(done.logits).cpu().numpy() > 0
            z += 1
        else:
            yield Progress(done, total, "looking for what to segment")
    return boxes_around(found, grid, stage.margin_mm)


def boxes_around(found: npt.NDArray[np.bool_], grid: Grid, margin_mm: float) -> tuple[Box, ...]:
    """The box of each connected part of a mask (Z, Y, X), with a margin, in voxels of a grid over the same extent."""
    numbered, _ = ndimage.label(found, _ANY_NEIGHBOUR)
    scale = np.array(grid.shape) / found.shape
    margin = margin_mm / np.array(grid.spacing)
    boxes = []
    for part in ndimage.find_objects(numbered):
        low = np.floor([s.start for s in part] * scale - margin).clip(0).astype(int)
        high = np.minimum(np.ceil([s.stop for s in part] * scale + margin).astype(int), grid.shape)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        boxes.append((z, y, x))
    return tuple(boxes)


def _run(
    planes: ModelPlanes, spec: ModelSpec, maps: Maps, runner: WindowRunner, config: SegmentConfig
) -> Iterator[int | Plane]:
    windows = WindowGrid(planes.shape, window_of(spec), config.overlap)
    blend = RollingLogits(len(spec.label_ids), windows, maps, runner.device, averaged=True)
    return blended(planes, windows, runner, blend, config)
