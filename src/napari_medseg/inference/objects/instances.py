"""`instances`: the objects in labels, numbered, also where they touch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import BLOCK_VOXELS, Box, shape_of, within
from napari_medseg.config import ObjectsConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Progress, Work, finishing, run_to_end
from napari_medseg.inference.objects.cutting import cut
from napari_medseg.inference.objects.parts import (
    Finder,
    Part,
    Walk,
    blocks_of,
    by_block,
    looked_up,
    parts_of,
    values_of,
)
from napari_medseg.io.zarr.format import filling_labels
from napari_medseg.transforms.depths import depths_in
from napari_medseg.volume import MAX_LABEL, Grid, LazyArray, Segmentation

PROVENANCE_KEY = "instances"
"""Where the provenance of numbered objects holds how they were found."""
_NAMED = 1000
"""Objects up to which each has the name of its label."""


def instances(
    segmentation: Segmentation, *, out: str | Path | None = None, config: ObjectsConfig | None = None, **knobs: Any
) -> Segmentation:
    """Number the objects in labels: 1, 2, 3 ... in reading order of their first voxels.

    Objects of one label that touch are told apart by a watershed on the distance to the border, or on the depths that
    a model of the scheme distance-map gives. The array is read block by block, and the ids do not depend on the blocks;
    a connected part that spans several blocks is cut as a whole: its box is in memory then, but not for the method
    components. out: a ".zarr" path for the result; without it the result is an array in memory. config, or knobs: the
    fields of ObjectsConfig.

    Raises InputError for values out of bounds, FileError where the store cannot be written.
    """
    return run_to_end(instances_in_steps(segmentation, configured(ObjectsConfig, config, knobs), out))


def iter_instances(
    segmentation: Segmentation, *, out: str | Path | None = None, config: ObjectsConfig | None = None, **knobs: Any
) -> Iterator[Event]:
    """`instances`, step by step: progress, and `Finished` with the Segmentation at the end."""
    return finishing(instances_in_steps(segmentation, configured(ObjectsConfig, config, knobs), out))


def instances_in_steps(
    segmentation: Segmentation, config: ObjectsConfig, out: str | Path | None = None, *, voxels: int = BLOCK_VOXELS
) -> Work[Segmentation]:
    """`instances`, block by block. voxels: of a block."""
    if out is not None and Path(out).suffix.lower() != ".zarr":
        raise InputError(f"{out}: objects are streamed into a .zarr folder: end it in .zarr")
    grid = segmentation.grid
    made_by = {**segmentation.provenance, PROVENANCE_KEY: {"method": config.method, "neck": config.neck}}
    filled = (
        nullcontext(np.zeros(grid.shape, np.int32))
        if out is None
        else filling_labels(out, grid, {}, dtype=np.int32, provenance=made_by)
    )
    with filled as target:
        objects = yield from numbering(segmentation, target, config, voxels)
    return Segmentation(target, grid, objects.names, name=f"{segmentation.name} objects".strip(), provenance=made_by)


@dataclass
class Objects:
    """What is known of the objects that are in an array so far, under numbers that are not final."""

    of: list[str] = field(default_factory=list)
    """The name of what each is."""
    firsts: list[int] = field(default_factory=list)
    """The first voxel of each, as an index of the flat array."""
    voxels: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.of)

    def add(self, numbers: npt.NDArray[np.int32], box: Box, shape: tuple[int, ...], name: str) -> int:
        """Note the objects numbered 1, 2 ... in a box of the array; returns how many there were before."""
        before = len(self)
        known, first, counts = np.unique(numbers, return_index=True, return_counts=True)
        for number, at, count in zip(known.tolist(), first.tolist(), counts.tolist(), strict=True):
            if number:
                place = np.unravel_index(at, numbers.shape)
                flat = np.ravel_multi_index([int(p) + s.start for p, s in zip(place, box, strict=True)], shape)
                self.of.append(name)
                self.firsts.append(int(flat))
                self.voxels.append(count)
        return before

    @classmethod
    def in_array(cls, target: Any, names: Sequence[str]) -> Objects:
        """What is known of the objects in an array, of which names says what each is."""
        shape = shape_of(target)
        firsts, counts = np.full(len(names), math.prod(shape)), np.zeros(len(names), np.int64)
        for box in blocks_of(target, BLOCK_VOXELS):
            part = np.asarray(target[box])
            known, at, found = np.unique(part, return_index=True, return_counts=True)
            inside = known > 0
            places = np.unravel_index(at[inside], part.shape)
            flat = np.ravel_multi_index([p + s.start for p, s in zip(places, box, strict=True)], shape)
            firsts[known[inside] - 1] = np.minimum(firsts[known[inside] - 1], flat)
            counts[known[inside] - 1] += found[inside]
        return cls(list(names), firsts.tolist(), counts.tolist())

    def kept(self, least: float) -> list[int]:
        """The numbers of the objects of at least `least` voxels, in reading order."""
        order = sorted(range(len(self)), key=self.firsts.__getitem__)
        return [index + 1 for index in order if self.voxels[index] >= max(least, 1)]


@dataclass(frozen=True)
class Numbered:
    """The objects of an array."""

    count: int
    names: Mapping[int, str]
    """{id: name of what it is}, where there are objects of several kinds and they are few."""


def numbering(
    segmentation: Segmentation, target: Any, config: ObjectsConfig, voxels: int = BLOCK_VOXELS
) -> Work[Numbered]:
    """Number the objects of a segmentation into an array of int32, (Z, Y, X), of zeros. voxels: of a block."""
    kinds = _Kinds.of(segmentation)
    walk = Walk.over(segmentation.data, kinds.class_of, config.connectivity, voxels)
    finder, total = Finder(walk), len(walk)
    for done, block in enumerate(walk, start=1):
        finder.add(*block)
        yield Progress(done, total, "blocks looked at")
    part_of, parts = finder.result()
    objects = Objects()
    if config.method == "components":
        yield from _each_part(walk, part_of, parts, kinds, objects, target)
    else:
        cutting = _Cutting(segmentation.grid, config, kinds, objects, target)
        yield from cutting.within_blocks(walk, part_of, parts)
        yield from cutting.across_blocks(segmentation.data, parts)
    voxel_ml = segmentation.grid.voxel_volume_mm3 / 1000
    found = yield from renumbered(target, objects, config.least_ml / voxel_ml, voxels)
    if not found.count:
        largest = max(objects.voxels, default=0) * voxel_ml
        none = (
            f"of at least {config.least_ml:g} ml: the largest has {largest:.3g} ml" if len(objects) else "in the labels"
        )
        yield Notice(f"there is no object {none}")
    return found


def _each_part(
    walk: Walk, part_of: Mapping[int, int], parts: Mapping[int, Part], kinds: _Kinds, objects: Objects, target: Any
) -> Work[None]:
    """Take every connected part for an object, and write numbers that are not final; no part is read at once."""
    for part in parts.values():
        objects.of.append(kinds.name_of(part.of))
        objects.firsts.append(part.first)
        objects.voxels.append(part.voxels)
    numbers = {root: number for number, root in enumerate(parts, start=1)}
    known = by_block(part_of)
    for (number, own), (region, _, ids) in zip(sorted(known.items()), walk.over_blocks(known), strict=True):
        values = np.array([numbers[part_of[one]] for one in own.tolist()], np.int32)
        target[region.core] = values_of(ids[region.core_in_read], own, values)
        yield Progress(number + 1, len(walk), "blocks cut")


def renumbered(target: Any, objects: Objects, least_voxels: float, voxels: int = BLOCK_VOXELS) -> Work[Numbered]:
    """Give the objects in an array their final ids, in reading order; those that are too small go."""
    # A volume of exactly the least stays: the small factor is for sums of floats such as 3 x 0.1.
    kept = objects.kept(least_voxels * (1 - 1e-9))
    if len(kept) > MAX_LABEL:
        raise InputError(f"there are {len(kept)} objects, and ids go to {MAX_LABEL}: give least_ml to leave specks out")
    table = np.zeros(len(objects) + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    walk = list(blocks_of(target, voxels))
    for done, box in enumerate(walk, start=1):
        target[box] = table[np.asarray(target[box])]
        yield Progress(done, len(walk), "blocks numbered")
    several = len(set(objects.of)) > 1 and len(kept) <= _NAMED
    return Numbered(len(kept), {n: objects.of[old - 1] for n, old in enumerate(kept, start=1)} if several else {})


@dataclass(frozen=True)
class _Kinds:
    """What the labels are: objects of some classes, or depths in them."""

    names: tuple[str, ...]
    """Of the classes, from 1 on, where labels are depths."""
    classes: Mapping[int, int]
    """{label: class} of depths; empty where a label is its own class."""
    depths: Mapping[int, int]
    name_of: Callable[[int], str]

    @classmethod
    def of(cls, segmentation: Segmentation) -> _Kinds:
        found = depths_in(segmentation.labels)
        if not found:
            return cls((), {}, {}, segmentation.label_name)
        names = tuple(sorted({name for name, _ in found.values()}))
        classes = {label: 1 + names.index(name) for label, (name, _) in found.items()}
        depths = {label: depth for label, (_, depth) in found.items()}
        return cls(names, classes, depths, lambda of: names[of - 1])

    def class_of(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The class of each label (Z, Y, X)."""
        return looked_up(labels.astype(np.int64), self.classes) if self.classes else labels

    def depths_in(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int32] | None:
        """The depth of each label; None where labels are no depths."""
        return looked_up(labels.astype(np.int64), self.depths) if self.depths else None


@dataclass(frozen=True)
class _Cutting:
    """Cuts parts into objects, and writes them under numbers that are not final."""

    grid: Grid
    config: ObjectsConfig
    kinds: _Kinds
    objects: Objects
    target: Any
    done: set[tuple[int, int]] = field(default_factory=set)

    def within_blocks(self, walk: Walk, part_of: Mapping[int, int], parts: Mapping[int, Part]) -> Work[None]:
        """Do the parts that lie in one block, and no others."""
        total = len(walk)
        for done, (region, seen, ids) in enumerate(walk, start=1):
            found = np.zeros(seen.shape, np.int32)
            for one in np.unique(ids[region.core_in_read]).tolist():
                part = parts[part_of[one]] if one else None
                if part is not None and _lies_in(part.box, region.core):
                    place = within(part.box, region.read)
                    self._do(part, seen[place], ids[place] == one, found[place])
            if found.any():
                self.target[region.core] = found[region.core_in_read]
            yield Progress(done, total, "blocks cut")

    def across_blocks(self, labels: LazyArray, parts: Mapping[int, Part]) -> Work[None]:
        """Do the parts that are left, one after the other: each is read as a whole."""
        left = [part for part in parts.values() if (part.of, part.first) not in self.done]
        for done, part in enumerate(sorted(left, key=lambda part: part.first), start=1):
            seen = np.asarray(labels[part.box])
            ids = parts_of(np.where(self.kinds.class_of(seen) == part.of, 1, 0), self.config.connectivity)
            at = np.unravel_index(part.first, self.grid.shape)
            first = tuple(int(a) - s.start for a, s in zip(at, part.box, strict=True))
            found = np.asarray(self.target[part.box]).copy()
            self._do(part, seen, ids == ids[first], found)
            self.target[part.box] = found
            yield Progress(done, len(left), "large parts cut")

    def _do(
        self, part: Part, seen: npt.NDArray[Any], inside: npt.NDArray[np.bool_], found: npt.NDArray[np.int32]
    ) -> None:
        """Cut a part. seen, inside, found: the labels, its voxels and the numbers so far, in its box."""
        self.done.add((part.of, part.first))
        numbers = self._cut(part.box, inside, seen)
        before = self.objects.add(numbers, part.box, self.grid.shape, self.kinds.name_of(part.of))
        found[inside] = np.where(numbers[inside] > 0, numbers[inside] + before, 0)

    def _cut(self, box: Box, inside: npt.NDArray[np.bool_], seen: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """The objects in a part. Outside of its box lies the outside, but for the end of the image."""
        sides = [(int(s.start > 0), int(s.stop < n)) for s, n in zip(box, self.grid.shape, strict=True)]
        depths = self.kinds.depths_in(seen)
        numbers, _ = cut(
            np.pad(inside, sides),
            self.grid.spacing,
            neck=self.config.neck,
            depths=None if depths is None else np.pad(depths, sides),
            connectivity=self.config.connectivity,
        )
        z, y, x = (slice(low, n - high) for (low, high), n in zip(sides, numbers.shape, strict=True))
        return numbers[z, y, x]


def _lies_in(box: Box, outer: Box) -> bool:
    return all(o.start <= b.start and b.stop <= o.stop for b, o in zip(box, outer, strict=True))
