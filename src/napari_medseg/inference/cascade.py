"""Cascades: a first model looks at the image at its own spacing, and tells a second one where to look.

coarse-to-fine (guide "channel"): its probabilities become channels of the second, plane by plane as the second asks for
them (the low resolution stage of nnU-Net, Isensee et al., Nature Methods 2021). detect-then-segment (guide "boxes"):
the second sees the boxes around what the first found.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.arrays.boxes import Box
from napari_medseg.events import Progress
from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import Piece, RollingLogits, classes_of
from napari_medseg.inference.plan import InferencePlan, axis_maps
from napari_medseg.inference.planes import BoxReader, ChannelStatistics, ModelBoxes
from napari_medseg.inference.regions import Region
from napari_medseg.inference.stream import Final, Source, WindowsDone, blended
from napari_medseg.volume import Grid, Volume

if TYPE_CHECKING:
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

    def run(self, shape: Shape3, box: Box | None = None) -> Iterator[WindowsDone | Piece | Final]:
        """Its windows, and its mean logits of a box (by default all) of a grid of `shape`, plane by plane."""
        plan = self.plan
        windows, maps = plan.windows, axis_maps(plan.grid.shape, shape)
        region = Region.whole(maps) if box is None else Region.of(box, maps)
        blend = RollingLogits(
            len(plan.spec.label_ids), windows, maps, self.predictor.device, averaged=True, region=region
        )
        # A reader of its own: the stages are at different places of the volume, and a reader keeps few chunks.
        with closing(BoxReader(self.volume, plan.order)) as reader:
            boxes = ModelBoxes(reader, plan, self.statistics)
            yield from blended(boxes, windows, self.predictor, blend, batch_size=plan.at_once, halo=plan.halo)

    def probabilities(self, shape: Shape3, box: Box | None = None) -> Iterator[torch.Tensor]:
        """Its foreground probabilities (K - 1, y, x) on the CPU, plane after plane of a box of a grid of `shape`.

        It runs as far as the planes taken need it, and no further.
        """
        for event in self.run(shape, box):
            if isinstance(event, Piece):
                yield event.logits[:, 0].softmax(0)[1:].cpu()

    def find(self) -> Generator[Progress, None, npt.NDArray[np.bool_]]:
        """Where it sees any foreground: a mask (Z, Y, X) on its own grid."""
        total = len(self.plan.windows)
        found = np.zeros(self.plan.grid.shape, dtype=bool)
        for event in self.run(self.plan.grid.shape):
            if isinstance(event, Piece):
                found[event.box] = classes_of(event.logits).cpu().numpy() > 0
            elif isinstance(event, WindowsDone):
                yield Progress(event.count, total, "looking for what to segment")
        return found


class GuidedBoxes:
    """The boxes of a volume with a first stage's probabilities as further channels.

    The boxes of a region come in ascending order, and have the same rows and columns. A box that comes before the one
    before it, or has other columns, begins anew.
    """

    def __init__(self, boxes: Source, guides: int, shape: Shape3, first: FirstStage) -> None:
        self._boxes = boxes
        self._first = first
        self._shape = shape
        self._next = 0
        self._columns: tuple[slice, ...] = ()
        self._guide: Iterator[torch.Tensor] = iter(())
        self.guides = guides

    def read(self, box: Box) -> torch.Tensor:
        """A box as (C + guides, z, y, x)."""
        z = box[0]
        if box[1:] != self._columns or z.start < self._next:
            self._columns, self._next = box[1:], z.start
            self._guide = self._first.probabilities(self._shape, (slice(z.start, self._shape[0]), *box[1:]))
        taken = list(islice(self._guide, z.start - self._next, z.stop - self._next))
        self._next = z.stop
        return torch.cat([self._boxes.read(box), torch.stack(taken, dim=1)])

    def expect(self, box: Box) -> None:
        """The chunks of the image are decoded meanwhile; the first stage waits until it is asked."""
        self._boxes.expect(box)


def with_guides(boxes: ModelBoxes, first: FirstStage | None) -> Source:
    """The boxes as the network sees them: with the first stage's probabilities where these are channels."""
    if first is None or first.stage.guide != "channel":
        return boxes
    return GuidedBoxes(boxes, first.stage.channels, boxes.shape, first)


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
