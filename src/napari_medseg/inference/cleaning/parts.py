"""Connected parts of labels that go, and what labels enclose: block by block, in place.

Two walks: the first finds the parts, the second changes the blocks in which one of the chosen parts lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, union, with_margin
from napari_medseg.arrays.views import BoxView
from napari_medseg.config import Connectivity
from napari_medseg.events import Filled, Progress, Work
from napari_medseg.inference.objects.parts import Finder, Part, Walk, by_block, values_of

Labels = npt.NDArray[Any]
Parts = Iterable[Part]


def removing(
    labels: Any,
    boxes: Mapping[int, Box],
    goes: Callable[[Sequence[Part]], Parts],
    connectivity: Connectivity,
    voxels: int,
) -> Work[None]:
    """Remove connected parts of some labels. boxes: {label: a box that holds it}. goes: those of all parts that go."""
    if not boxes:
        return
    ours = np.array(list(boxes))
    view = BoxView.around(labels, reduce(union, boxes.values()))
    walk = Walk.over(view, lambda seen: np.where(np.isin(seen, ours), seen, 0), connectivity, voxels)
    yield from _changing(walk, view, goes, lambda seen, there: np.where(there, 0, seen))
    yield Progress(len(boxes), len(boxes), "labels done")


def islands(parts: Sequence[Part], least_voxels: float) -> list[Part]:
    """The parts of fewer voxels than that."""
    # A part of exactly the size stays: the small factor is for sums of floats such as 3 x 0.1.
    return [part for part in parts if part.voxels < least_voxels * (1 - 1e-9)]


def all_but_largest(parts: Sequence[Part]) -> list[Part]:
    """All parts but the largest of each label; of two equal ones the first in reading order stays."""
    largest: dict[int, Part] = {}
    for part in sorted(parts, key=lambda part: (-part.voxels, part.first)):
        largest.setdefault(part.of, part)
    return [part for part in parts if largest[part.of] is not part]


def filling_holes(labels: Any, boxes: Mapping[int, Box], voxels: int) -> Work[None]:
    """Give some labels the background that they enclose on all sides, one label after the other.

    boxes: {label: a box that holds it}. Along an axis of one voxel nothing is enclosed, nor open.
    """
    for done, (label, box) in enumerate(boxes.items(), start=1):
        view = BoxView.around(labels, with_margin(box, labels.shape))
        walk = Walk.over(view, partial(_rest, label), 6, voxels)
        yield from _changing(walk, view, partial(_enclosed, view.shape), partial(_taken, label))
        yield Progress(done, len(boxes), "labels done")


def _rest(label: int, seen: Labels) -> npt.NDArray[np.uint8]:
    """1 outside of the label: what of it reaches the end of the label's box lies outside, the other parts inside."""
    rest: npt.NDArray[np.uint8] = (seen != label).astype(np.uint8)
    return rest


def _enclosed(shape: Sequence[int], parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if not _reaches_end(part.box, shape)]


def _taken(label: int, seen: Labels, there: npt.NDArray[np.bool_]) -> Labels:
    """The labels, with background that lies there given to the label."""
    return np.where(there & (seen == 0), label, seen)


def _reaches_end(box: Box, shape: Sequence[int]) -> bool:
    return any(n > 1 and (side.start == 0 or side.stop == n) for side, n in zip(box, shape, strict=True))


def _changing(
    walk: Walk,
    view: BoxView,
    choose: Callable[[Sequence[Part]], Parts],
    change: Callable[[Labels, npt.NDArray[np.bool_]], Labels],
) -> Work[None]:
    """Change the labels where the chosen parts lie. change: (labels, where the parts lie) -> labels."""
    finder, total = Finder(walk), len(walk)
    for done, block in enumerate(walk, start=1):
        finder.add(*block)
        yield Progress(done, total, "blocks looked at")
    part_of, parts = finder.result()
    # The first voxel of a part and its class name it.
    chosen = {(part.of, part.first) for part in choose(list(parts.values()))}
    roots = {root for root, part in parts.items() if (part.of, part.first) in chosen}
    wanted = by_block(one for one, root in part_of.items() if root in roots)
    for number, (region, seen, ids) in zip(sorted(wanted), walk.over_blocks(wanted), strict=True):
        before = seen[region.core_in_read]
        there = values_of(ids[region.core_in_read], wanted[number], np.ones(len(wanted[number]), bool))
        after = change(before, there)
        if not np.array_equal(before, after):
            view[region.core] = after.astype(view.dtype)
            yield Filled(view.of_source(region.core))
