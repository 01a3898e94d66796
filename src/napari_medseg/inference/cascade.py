"""Cascades: a first model looks at the image at its own spacing, and tells a second one where to look.

coarse-to-fine (guide "channel"): its probabilities become channels of the second, plane by plane as the second asks for
them (the low resolution stage of nnU-Net, Isensee et al., Nature Methods 2021). detect-then-segment (guide "boxes"):
the second sees the boxes around what the first found.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.events import Progress
from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import RollingLogits, classes_of
from napari_medseg.inference.plan import InferencePlan, axis_maps
from napari_medseg.inference.planes import ChannelStatistics, ModelPlanes, PlaneReader
from napari_medseg.inference.stream import PlaneDone, PlaneSource, WindowsDone, blended
from napari_medseg.volume import Grid, Volume

if TYPE_CHECKING:
    from napari_medseg.arrays.boxes import Box
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.spec import Stage

_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The first stage of a cascade, ready to look at a volume."""

    stage: Stage
    volume: Volume
    plan: InferencePlan
    """Its own plan, not that of the cascade."""
    statistics: ChannelStatistics
    predictor: Predictor

    @classmethod
    def of(
        cls, volume: Volume, plan: InferencePlan, statistics: ChannelStatistics, predictor: Predictor | None
    ) -> FirstStage | None:
        """The first stage of a plan; None where the plan is no cascade's. predictor: its network, in a cascade."""
        stage = plan.spec.first
        if stage is None:
            return None
        assert plan.first is not None, "the plan of a cascade brings that of its first stage"
        assert predictor is not None, "the model of a cascade brings the network of its first stage"
        return cls(stage, volume, plan.first, statistics, predictor)

    def run(self, shape: Shape3) -> Iterator[WindowsDone | PlaneDone]:
        """Its windows, and its mean logits plane after plane of a grid of `shape` over the volume."""
        plan = self.plan
        # A reader of its own: the stages are at different planes of the volume, and a reader keeps one row of chunks.
        planes = ModelPlanes(PlaneReader(self.volume, plan.order), plan, self.statistics)
        windows, maps = plan.windows, axis_maps(plan.grid.shape, shape)
        blend = RollingLogits(len(plan.spec.label_ids), windows, maps, self.predictor.device, averaged=True)
        return blended(planes, windows, self.predictor, blend, batch_size=plan.batch_size, halo=plan.halo)

    def probabilities(self, shape: Shape3) -> Iterator[torch.Tensor]:
        """Its foreground probabilities (K - 1, Y, X) on the CPU, plane after plane of a grid of `shape`.

        It runs as far as the planes taken need it, and no further.
        """
        for event in self.run(shape):
            if isinstance(event, PlaneDone):
                yield event.logits.softmax(0)[1:].cpu()

    def find(self) -> Generator[Progress, None, npt.NDArray[np.bool_]]:
        """Where it sees any foreground: a mask (Z, Y, X) on its own grid."""
        total = len(self.plan.windows)
        found = np.zeros(self.plan.grid.shape, dtype=bool)
        for event in self.run(self.plan.grid.shape):
            if isinstance(event, PlaneDone):
                found[event.index] = classes_of(event.logits).cpu().numpy() > 0
            else:
                yield Progress(event.count, total, "looking for what to segment")
        return found


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


def with_guides(planes: ModelPlanes, first: FirstStage | None) -> PlaneSource:
    """The planes as the network sees them: with the first stage's probabilities where these are channels."""
    if first is None or first.stage.guide != "channel":
        return planes
    return GuidedPlanes(planes, first.stage.channels, first.probabilities(planes.shape))


def find_boxes(first: FirstStage, grid: Grid) -> Generator[Progress, None, tuple[Box, ...]]:
    """The boxes, in voxels of `grid`, around each connected part of what the first stage sees, with its margin."""
    found = yield from first.find()
    return boxes_around(found, grid, first.stage.margin_mm)


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
