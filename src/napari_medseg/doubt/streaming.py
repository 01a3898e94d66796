"""A volume through a network window by window, for what is made of its logits: pieces of the image, nothing is kept.

K: classes. S: further channels that the network gives, such as a variance; they are blended as logits are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import NotSupportedError
from napari_medseg.events import Event, Progress
from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import Piece, RollingLogits
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.engine import require_fit
from napari_medseg.inference.job import Job, regions_left
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.planes import BoxReader
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.regions import Region
from napari_medseg.inference.results.journal import Journal
from napari_medseg.inference.results.sink import Outputs, certain_where_nothing_was
from napari_medseg.inference.stream import WindowsDone, blended
from napari_medseg.models.file import Model
from napari_medseg.volume import Volume

Network = Callable[[torch.Tensor], torch.Tensor]
"""Windows (B, C, z, y, x) in, logits and further channels (B, K + S, z, y, x) out."""
WINDOWS = "windows"
"""What its progress is called."""
_CHUNK = 64
"""Voxels along an axis by which an image is cut where the sums of its columns do not fit into the memory."""


@dataclass(frozen=True, eq=False)
class Seen(Event):
    """A box of the image whose logits are final; valid until the next event is asked for."""

    box: Box
    """In the image as it is stored."""
    logits: torch.Tensor
    """(K, z, y, x), background without doubt where no window looked."""
    further: torch.Tensor
    """(S, z, y, x)."""


@dataclass(frozen=True)
class _Shape:
    """An output of labels that nobody wants."""

    shape: Shape3
    dtype: Any = np.uint8
    chunks: Shape3 = (_CHUNK, _CHUNK, _CHUNK)


def opened(volume: Volume, model: Model, device: str, overlap: float) -> tuple[InferencePlan, Predictor]:
    """The plan and the network of a model on a volume.

    Raises InputError where they do not fit, NotSupportedError for a model whose makers prepare the whole image.
    """
    require_fit(volume, model.spec, str(model.path))
    if model.spec.has_pipeline:
        raise NotSupportedError(
            f"{model.path}: a model with steps of another program gives labels only, and no doubts: use a model "
            f"trained here"
        )
    config = SegmentConfig(device=device, overlap=overlap, precision="fp32")
    plan = resolve(ImageFacts.of(volume), model.spec, config, machine_for(device))
    return plan, load_predictor(model, plan)


def streamed(
    volume: Volume, plan: InferencePlan, predictor: Predictor, network: Network | None = None, further: int = 0
) -> Generator[Event, None, None]:
    """Run a volume through its network: a Progress per window, and a Seen for each part of the image, none twice.

    network: what runs on the windows instead of the predictor. further: how many channels it adds. Memory does not grow
    with the planes of the image.
    """
    job = yield from Job.prepare(volume, plan, predictor)
    shape = volume.grid.shape
    boxes = regions_left(job, Outputs(_Shape(shape)), Journal(None, shape, shape))
    counts = [job.count(box) for box in boxes]
    total, done = max(1, sum(counts)), 0
    for box, count in zip(boxes, counts, strict=True):
        for event in _region(job, box, network or predictor, further):
            if isinstance(event, WindowsDone):
                yield Progress(done + event.count, total, WINDOWS)
            else:
                yield _seen(event, plan, shape)
        done += count


def _region(job: Job, box: Box, network: Network, further: int) -> Iterator[WindowsDone | Piece]:
    """One region, plane by plane."""
    plan = job.plan
    region = Region.of(box, plan.to_image)
    classes = plan.spec.outputs + further
    sums = RollingLogits(classes, job.windows, plan.to_image, job.predictor.device, averaged=True, region=region)
    with closing(BoxReader(job.volume, plan.order)) as reader:
        for event in blended(job.source(reader), job.windows, network, sums, batch_size=plan.at_once, halo=plan.halo):
            if isinstance(event, WindowsDone | Piece):
                yield event


def _seen(piece: Piece, plan: InferencePlan, shape: Shape3) -> Seen:
    """A piece on the stored axes."""
    classes = plan.spec.outputs
    back = plan.order.inverse
    axes = [0, *(1 + axis for axis in back.axes)]
    flips = [1 + axis for axis, flip in enumerate(back.flips) if flip]
    values = piece.logits.permute(axes).flip(flips)
    logits = certain_where_nothing_was(values[:classes])
    return Seen(plan.order.source_slices(piece.box, shape), logits, values[classes:])
