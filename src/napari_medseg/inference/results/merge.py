"""Segmentation with several models of different labels: one after the other, merged into one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import block_shape, blocks, chunks_of, shape_of, whole
from napari_medseg.events import Event, Notice, Progress, Started, Work
from napari_medseg.io.disk import locks
from napari_medseg.models.file import Model
from napari_medseg.models.several import Member, ModelSet
from napari_medseg.volume import Segmentation

SegmentMember = Callable[[Model, Path | None], Work[Segmentation]]
"""Segments with one model, into a store or, without a path, into memory."""


def merging(models: ModelSet, result: Segmentation, segment: SegmentMember, beside: Path | None) -> Work[Segmentation]:
    """Fill `result`, which is background, with the labels of every member; the first that labels a voxel decides.

    beside: the store that is filled, beside which members are segmented; None for memory. Yields Started, and the
    members' Notices and Progress, counted over all.
    """
    total = len(models.members)
    for done, member in enumerate(models.members):
        name = member.model.path.stem
        with store_beside(beside) as store:
            found = yield from _told(segment(member.model, store), result, name, done, total)
            _merge(member, found, result.data)
        yield Progress(done + 1, total, f"models; {name}")
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


def _merge(member: Member, found: Segmentation, into: Any) -> None:
    """Write a member's labels where there are none yet, chunk by chunk."""
    for box in blocks(whole(shape_of(into)), block_shape(shape_of(into), chunks_of(into))):
        labels = np.asarray(found.data[box])
        here = np.asarray(into[box])
        changed = False
        for own, of_set in member.ids.items():
            new = (labels == own) & (here == 0)
            if new.any():
                here = here if changed else here.copy()
                here[new], changed = of_set, True
        if changed:
            into[box] = here
