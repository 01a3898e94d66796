"""A run that numbers objects in place of labels: with a detector, or on what a network labels."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_medseg import registry
from napari_medseg.arrays.boxes import BLOCK_VOXELS, block_shape, blocks, chunks_of, shape_of, whole
from napari_medseg.config import ObjectsConfig, SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Filled, Notice, Progress, Started, Work
from napari_medseg.inference.objects.instances import Objects, numbering, renumbered
from napari_medseg.io.zarr.format import filling_labels
from napari_medseg.transforms.depths import depths_in
from napari_medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from napari_medseg.inference.job import Job
    from napari_medseg.models.spec import ModelSpec

Way = Literal["none", "components", "distance", "detect"]


def way_of(config: SegmentConfig, spec: ModelSpec) -> Way:
    """How a run makes objects of what the network gives. Raises InputError where that cannot be."""
    if registry.network(spec.network).takes == "instances":
        if config.instances not in ("auto", "none"):
            raise InputError(f"the model finds objects itself: leave instances={config.instances} out")
        return "detect" if config.instances == "auto" else "none"
    if config.instances == "auto":
        return "distance" if depths_in(spec.labels) else "none"
    return config.instances


def on_labels(
    volume: Volume,
    work: Generator[Event, None, Segmentation],
    method: Literal["components", "distance"],
    out: Path | None,
    made_by: Mapping[str, object],
) -> Work[Segmentation]:
    """Number the objects in the labels that some work makes, once they are all there."""
    with filling_objects(volume, out, made_by) as result:
        labels = yield from _told(work, result)
        yield from numbering(labels, result.data, ObjectsConfig(method=method))
        yield Filled(whole(volume.grid.shape))
    return result


def on_detections(
    volume: Volume, job: Job, out: Path | None, made_by: Mapping[str, object], notices: Sequence[str] = ()
) -> Work[Segmentation]:
    """Number the objects that a detector finds."""
    from napari_medseg.inference.objects.detecting import Painter, detecting

    with filling_objects(volume, out, made_by) as result:
        yield Started(job.plan.describe(), result, job.plan)
        yield from map(Notice, notices)
        found = yield from detecting(job)
        scale = tuple(a / b for a, b in zip(job.plan.grid.shape, job.plan.image_grid.shape, strict=True))
        painter = Painter(found, (scale[0], scale[1], scale[2]))
        order, shape = job.plan.order, job.plan.image_grid.shape
        for box in blocks(whole(shape), block_shape(shape, order.shape(chunks_of(result.data)), BLOCK_VOXELS)):
            numbers = order.inverse.apply(painter.paint(box))
            result.data[order.source_slices(box, shape_of(result.data))] = numbers  # type: ignore[index]
        names = [job.plan.spec.labels[job.plan.spec.label_ids[group[0].of]] for group in found]
        numbered = yield from renumbered(result.data, Objects.in_array(result.data, names), 0)
        if not numbered.count:
            yield Notice("the model finds no object in this image")
        yield Filled(whole(volume.grid.shape))
    return result


@contextmanager
def filling_objects(volume: Volume, out: Path | None, made_by: Mapping[str, object]) -> Iterator[Segmentation]:
    """The numbers to be filled inside, in memory or in a store, which is marked complete at the end."""
    name = f"{volume.name} objects" if volume.name else "objects"
    if out is None:
        yield Segmentation(np.zeros(volume.grid.shape, np.int32), volume.grid, name=name, provenance=made_by)
        return
    with filling_labels(out, volume.grid, {}, dtype=np.int32, provenance=made_by) as array:
        yield Segmentation(array, volume.grid, name=name, provenance=made_by)


def _told(work: Generator[Event, None, Segmentation], result: Segmentation) -> Work[Segmentation]:
    """The work on the labels, told as part of the whole: the objects are what fills."""
    while True:
        try:
            event: Any = next(work)
        except StopIteration as stop:
            labels: Segmentation = stop.value
            return labels
        if isinstance(event, Started):
            yield replace(event, result=result)
        elif isinstance(event, Notice | Progress):
            yield event
