"""Segmentation with several models of different labels: one after the other, merged into one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import Box, block_shape, blocks, chunks_of, shape_of, whole, within
from napari_medseg.events import Event, Filled, Notice, Progress, Started, Work
from napari_medseg.inference.results.cropping import box_around, inside
from napari_medseg.io.disk import locks
from napari_medseg.models.file import Model
from napari_medseg.models.several import Member, ModelSet, models_of
from napari_medseg.volume import Segmentation, Volume

SegmentMember = Callable[[Volume, Model, Path | None], Work[Segmentation]]
"""Segments a volume with one model, into a store or, without a path, into memory."""


def merging(
    models: ModelSet, volume: Volume, result: Segmentation, segment: SegmentMember, beside: Path | None
) -> Work[Segmentation]:
    """Fill `result`, which is background, with the labels of every member; the first that labels a voxel decides.

    The members see the box that the set's crop finds; outside of it is background. Where the crop finds nothing they
    see the whole volume. beside: the store that is filled, beside which members are segmented; None for memory. Yields
    Started, the members' Notices and Progress, counted over all, and a Filled at the end.
    """
    total, box = len(models_of(models)), whole(volume.grid.shape)
    if models.crop is not None:
        name = models.crop.model.path.stem
        with store_beside(beside) as store:
            found = yield from _told(segment(volume, models.crop.model, store), result, name, 0, total)
            around = box_around(found, models.crop.labels, models.crop.margin_mm)
        if around is None:
            yield Notice(f"{name}: nothing was found to crop to: the whole image is segmented")
        box = around or box
        yield Progress(1, total, f"models; {name}")
    part = inside(volume, box)
    for done, member in enumerate(models.members, start=total - len(models.members)):
        name = member.model.path.stem
        with store_beside(beside) as store:
            found = yield from _told(segment(part, member.model, store), result, name, done, total)
            _merge(member, found, result.data, box)
        yield Progress(done + 1, total, f"models; {name}")
    yield Filled(box)
    return result


def _told(work: Work[Segmentation], result: Segmentation, name: str, done: int, total: int) -> Work[Segmentation]:
    """The work of a member, told as part of the whole."""
    while True:
        try:
            event: Event = next(work)
        except StopIteration as stop:
            found: Segmentation = stop.value
            return found
        if isinstance(event, Started) and done == 0:
            yield Started(f"{total} models, one after the other; {name}: {event.message}", result, event.plan)
        elif isinstance(event, Notice):
            yield Notice(f"{name}: {event.message}")
        elif isinstance(event, Progress):
            yield Progress(done, total, f"models; {name}: {event.done} of {event.total} {event.message}")


@contextmanager
def store_beside(beside: Path | None) -> Iterator[Path | None]:
    """A path for labels that a result is made of, gone afterwards; None where they are kept in memory."""
    if beside is None:
        yield None
        return
    store = locks.temporary_beside(beside)  # the next writer removes it where this one is killed
    try:
        yield store
    finally:
        locks.remove(store)


def _merge(member: Member, found: Segmentation, into: Any, box: Box) -> None:
    """Write a member's labels, which lie in a box, where there are none yet, chunk by chunk."""
    for part in blocks(box, block_shape(shape_of(into), chunks_of(into))):
        labels = np.asarray(found.data[within(part, box)])
        here = np.asarray(into[part])
        changed = False
        for own, of_set in member.ids.items():
            new = (labels == own) & (here == 0)
            if new.any():
                here = here if changed else here.copy()
                here[new], changed = of_set, True
        if changed:
            into[part] = here
