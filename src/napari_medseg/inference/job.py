"""A run, region by region: what is worked out once, and the work on one region, here or in another process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_medseg.arrays.boxes import Box, chunk_edges
from napari_medseg.events import Notice, Progress
from napari_medseg.inference.blend import CoreLogits, Piece, RollingLogits
from napari_medseg.inference.cascade import FirstStage, find_boxes, with_guides
from napari_medseg.inference.planes import BoxReader, ChannelStatistics, ModelBoxes, measuring
from napari_medseg.inference.regions import Region, columns, padded, rows_of, spans
from napari_medseg.inference.results.careful import CarefulNetwork, Step
from napari_medseg.inference.results.journal import Journal
from napari_medseg.inference.results.rows import edges_of
from napari_medseg.inference.results.sink import Outputs, Sink
from napari_medseg.inference.stream import Final, Mirror, RemembersAir, SkipsAir, Source, WindowsDone, blended
from napari_medseg.inference.suitability import sampled
from napari_medseg.inference.windows import BoxWindows, WindowGrid, Windows
from napari_medseg.io.disk import memory
from napari_medseg.io.zarr.format import journal_of
from napari_medseg.transforms.intensity import Statistics
from napari_medseg.volume import Volume

if TYPE_CHECKING:
    from napari_medseg.geometry import AxisOrder
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.inference.results.wanted import Wanted
    from napari_medseg.models.file import Model

_SUMS = "sums"
"""The step that sums logits in the memory of the CPU."""
_SHARE = 0.5
"""Of the memory that is left, how much a region may take."""


@dataclass(frozen=True)
class Written:
    """A box of labels, in stored order, is in its array from now on."""

    box: Box


@dataclass(frozen=True, eq=False)
class Job:
    """A run on an image, ready to work on any of its regions."""

    volume: Volume
    plan: InferencePlan
    predictor: Predictor
    statistics: ChannelStatistics
    windows: Windows

    @classmethod
    def prepare(
        cls, volume: Volume, plan: InferencePlan, predictor: Predictor, known: ChannelStatistics | None = None
    ) -> Generator[Progress, None, Job]:
        """Measure the image, unless its statistics are known, and find the windows."""
        statistics = known
        if statistics is None:
            with closing(BoxReader(volume, plan.order)) as reader:
                statistics = yield from measuring(reader, plan)
        first = FirstStage.of(volume, plan, statistics, predictor.first)
        windows: Windows = plan.windows
        if first is not None and first.stage.guide == "boxes":
            boxes = yield from find_boxes(first, plan.grid)
            windows = BoxWindows(windows.shape, windows.window, windows.overlap, boxes)
        return cls(volume, plan, predictor, statistics, windows)

    def accumulator(self, box: Box, *, averaged: bool) -> RollingLogits | CoreLogits:
        """Where the logits of a region become final."""
        region = Region.of(box, self.plan.to_image)
        if self.plan.blending == "core" and isinstance(self.windows, WindowGrid):
            return CoreLogits(self.windows, self.plan.to_image, region)
        classes = self.plan.spec.outputs + self.predictor.further
        device = self.predictor.device
        return RollingLogits(
            classes, self.windows, self.plan.to_image, device, averaged=averaged, region=region, strips=not averaged
        )

    def source(self, reader: BoxReader) -> Source:
        """The image as the network sees it."""
        first = FirstStage.of(self.volume, self.plan, self.statistics, self.predictor.first)
        return with_guides(ModelBoxes(reader, self.plan, self.statistics), first)

    def count(self, box: Box) -> int:
        """The windows that a region needs."""
        region = Region.of(box, self.plan.to_image)
        rows = rows_of(self.windows, padded(region.source, self.windows))
        if self.plan.blending == "core" and isinstance(self.windows, WindowGrid):
            wants = CoreLogits(self.windows, self.plan.to_image, region).wants
            return sum(wants((z, *corner)) for z, _, corners in rows for corner in corners)
        return sum(len(corners) for _, _, corners in rows)


def regions_left(
    job: Job, outputs: Outputs, journal: Journal, *, deepest: int | None = None, widest: int | None = None
) -> list[Box]:
    """The boxes of the output, in the model's axis order, that are not done.

    deepest: the most planes of a region, or one row of chunks; by default all that are left. widest: the most voxels of
    a plane of it, or one chunk; by default as many as fit into the memory.
    """
    order, shape = job.plan.order, outputs.labels.shape
    edges = (edges_of(outputs.labels, order, 1), edges_of(outputs.labels, order, 2))
    rows = edges_of(outputs.labels, order, 0)
    found: list[Box] = []
    for y, x in columns(edges, widest or _widest(job, outputs)):
        for span in spans(rows, lambda z, y=y, x=x: journal.is_done(order.source_slices((z, y, x), shape))):  # type: ignore[misc]
            found += [(z, y, x) for z in _cut(span, rows, deepest)]
    return found


def _cut(span: slice, ends: list[int], deepest: int | None) -> list[slice]:
    """A span of rows of chunks in parts of at most `deepest` planes, or of one row."""
    if deepest is None:
        return [span]
    found, start = [], span.start
    inside = [end for end in ends if span.start < end <= span.stop]
    for end, following in zip(inside, [*inside[1:], None], strict=True):
        if following is None or following - start > deepest:
            found.append(slice(start, end))
            start = end
    return found


def _widest(job: Job, outputs: Outputs) -> int:
    """The voxels of a plane of the output that a region may have, so that what it holds fits into the memory."""
    plan, room = job.plan, _SHARE * memory.limit_bytes()
    _, height, width = plan.image_grid.shape
    sums = plan.accumulator_bytes / (height * width) + _rows_bytes(outputs, plan.order)
    slab, decoded = plan.slab_bytes / (height * width), _decoded_bytes(job)
    # Windows reach beyond a region, and chunks beyond the windows.
    sizes = zip(plan.windows.window, plan.image_grid.shape, plan.grid.shape, strict=True)
    beyond = max(math.ceil(window * n / of_model) for window, n, of_model in sizes)
    chunk = 0 if decoded == 0 else max(_deepest(chunk_edges(job.volume.data, 1 + a)) for a in plan.order.axes[1:])

    def needed(side: int) -> float:
        def voxels(more: int) -> int:
            return min(height, side + more) * min(width, side + more)

        return sums * voxels(0) + slab * voxels(2 * beyond) + decoded * voxels(2 * beyond + chunk)

    side = max(height, width)
    if needed(side) <= room:
        return height * width
    while side > 1 and needed(side) > room:
        side -= max(1, side // 16)
    return side * side


def _decoded_bytes(job: Job) -> int:
    """The decoded chunks of the image that a row of windows and the next one need, for a voxel of a plane."""
    plan, data = job.plan, job.volume.data
    if isinstance(data, np.ndarray):
        return 0
    planes = plan.image_grid.shape[0]
    needed = math.ceil(plan.windows.window[0] * planes / plan.grid.shape[0])
    deepest = _deepest(chunk_edges(data, 1 + plan.order.axes[0]))
    return len(job.volume.channels) * int(np.dtype(data.dtype).itemsize) * min(planes, needed + 2 * deepest)


def _rows_bytes(outputs: Outputs, order: AxisOrder) -> int:
    """A row of chunks of each output, and what is written of it, for a voxel of a plane."""
    stored = [a for a in (outputs.labels, outputs.probabilities, outputs.uncertainty) if a is not None]
    return sum(
        2 * math.prod(array.shape[:-3]) * _deepest(edges_of(array, order, 0)) * np.dtype(array.dtype).itemsize
        for array in stored
        if not isinstance(array, np.ndarray)
    )


def _deepest(ends: list[int]) -> int:
    return max(end - start for start, end in zip([0, *ends[:-1]], ends, strict=True))


def working(
    job: Job, box: Box, outputs: Outputs, network: CarefulNetwork, accumulator: RollingLogits | CoreLogits | None = None
) -> Iterator[WindowsDone | Written | Notice]:
    """Segment one region, a box of the output in the model's axis order, into the outputs.

    accumulator: that of the box, empty; by default a new one.
    """
    plan = job.plan
    further = job.predictor.further
    sink = Sink(outputs, plan.order, plan.spec.label_ids, box, plan.spec.trust.temperature, further=further)
    if accumulator is None:
        accumulator = job.accumulator(box, averaged=outputs.needs_means)
        _may_leave(accumulator, network)
    with closing(BoxReader(job.volume, plan.order)) as reader:
        source = job.source(reader)
        events = blended(
            source,
            job.windows,
            network,
            accumulator,
            batch_size=plan.batch_size,
            halo=plan.halo,
            sees=None if plan.preset == "exact" or outputs.needs_all else SkipsAir(network, source.guides),
            mirror=_mirror_of(job.windows, plan),
        )
        for event in events:
            if isinstance(event, Piece):
                sink.write(event)
            elif isinstance(event, Final):
                written = sink.advance(event.stop)
                if written is not None:
                    yield Written(written)
            else:
                yield event
            while network.news:
                yield Notice(network.news.pop(0))
        yield from map(Notice, reader.doubts)


def _mirror_of(windows: Windows, plan: InferencePlan) -> Mirror | None:
    """How windows are mirrored in turn; None where they are not, as around the boxes of a cascade."""
    if not plan.spread_axes or not isinstance(windows, WindowGrid):
        return None
    return lambda corner: windows.mirrored_in_turn(corner, plan.spread_axes)


def _may_leave(accumulator: RollingLogits | CoreLogits, network: CarefulNetwork) -> None:
    """Have the sums leave the device where its memory is short, or at once where it was short before."""
    if isinstance(accumulator, CoreLogits) or accumulator.device.type == "cpu":
        return
    network.steps = [step for step in network.steps if step.name != _SUMS]
    if _SUMS in network.taken:
        accumulator.leave_device()
    else:
        told = "the logits are summed in the CPU's memory from now on, some classes after the other"
        network.steps.insert(0, Step(_SUMS, told, accumulator.leave_device))


def careful(predictor: Predictor, plan: InferencePlan) -> CarefulNetwork:
    """The network of a run, which does with less memory where there is less."""
    network = CarefulNetwork(RemembersAir(predictor), plan.at_once)
    if predictor.device.type != "cpu":

        def move() -> None:
            network.network = replace(
                predictor, network=predictor.network.cpu(), device=torch.device("cpu"), precision="fp32"
            )
            network.most = 1

        network.steps.append(Step("cpu", "the network runs on the CPU from now on, which is slower", move))
    return network


def identity_of(
    volume: Volume, model: Model, plan: InferencePlan, wanted: Wanted, made_by: Mapping[str, object]
) -> dict[str, str]:
    """All that decides a label, as texts: what a run that continues another must have in common with it.

    made_by: what the labels say of how they were made, such as the versions of programs and the SHA-256 of the input.
    """
    left_out = {"spec", "first", "device", "batch_size", "layout"}  # the journal notes the layout
    facts = {f.name: str(getattr(plan, f.name)) for f in fields(plan) if f.name not in left_out}
    for name in ("image_grid", "grid"):
        grid = getattr(plan, name)
        facts[name] = f"{grid.shape} {grid.affine.tolist()}"
    if plan.first is not None:
        facts["first precision"] = plan.first.precision
    sums = hashlib.sha256(f"{volume.data.dtype} {volume.data.shape}".encode())
    for channel in range(len(volume.channels)):
        sums.update(np.ascontiguousarray(sampled(volume.data, channel)).tobytes())
    outputs = {name: str(getattr(wanted, name)) for name in ("probabilities", "uncertainty")}
    origin = {name: str(value) for name, value in made_by.items()}
    return {**origin, "model": model.sha256, "image": sums.hexdigest(), **facts, **outputs}


def store_journal(outputs: Outputs, identity: Callable[[], dict[str, str]]) -> Journal:
    """The journal beside the labels, which lie in a store."""
    labels = outputs.labels
    beside = [journal_of(array) for array in (outputs.probabilities, outputs.uncertainty) if array is not None]
    return Journal(journal_of(labels), labels.shape, labels.chunks, identity, beside)


def known_statistics(journal: Journal) -> ChannelStatistics | None:
    """The statistics that an earlier run measured; None where there was none."""
    noted = journal.notes.get("statistics")
    return None if noted is None else tuple(None if one is None else Statistics(*one) for one in noted)


def note_statistics(journal: Journal, statistics: ChannelStatistics) -> None:
    """Spare a run that continues this one the measuring."""
    if "statistics" not in journal.notes:
        journal.note("statistics", [None if one is None else [one.mean, one.std] for one in statistics])
