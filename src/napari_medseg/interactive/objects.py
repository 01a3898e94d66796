"""One object: its prompts in order become its mask, step by step, always in the same way."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, intersection, is_empty, overlaps, union, whole, with_margin
from napari_medseg.geometry import Triple
from napari_medseg.interactive import engine, zoom
from napari_medseg.interactive.engine import Answer, Evidence
from napari_medseg.interactive.kernels import Map, Mask
from napari_medseg.interactive.marks import Marks, seeds
from napari_medseg.interactive.masks import NOWHERE, SparseMask
from napari_medseg.interactive.scene import Frame, Scene, read_once, spread
from napari_medseg.volume import Grid, Volume

_AGREEMENT = 0.3
"""The weight of how far a scale's mask agrees with those of the scales beside it."""
_MOST_GROWTH = 4
"""How often a frame grows at one change."""
_SHORTER_REACHES, _SHORTER_WEIGHT = (1.0, 1.5, 2.0), 0.03
"""How far a click that adds may reach instead, and what each of them costs, in support by edges, beside the longest."""
_KEPT_SUPPORT = 0.9
"""A frame grows only where the border of the mask keeps that part of its support by edges: else the mask has leaked."""
_LARGE = 1 << 20
"""Voxels of a prompt's box that are not looked at one by one."""
_CACHED_BYTES = 400 << 20
"""Of scenes and distance maps: a hundred prompts of a cube of 64 voxels a side take about half of it."""
_FIRST_REACH = 16
"""How far from a prompt the mask is looked for first, in the widest spacing; twice as far where it is not found."""
_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class ObjectState:
    """An object after some prompts."""

    frame: Frame | None = None
    prompts: tuple[int, ...] = ()
    """The numbers of its prompts, in order."""
    mask: SparseMask = field(default_factory=SparseMask.empty)
    start: SparseMask = field(default_factory=SparseMask.empty)
    """The mask that it started from, empty where it began with a prompt."""
    sure: SparseMask = field(default_factory=SparseMask.empty)
    """What is more probable than not, after a first click; empty otherwise."""


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked of a frame."""

    marks: Mapping[int, Marks]
    """Of the object's prompts, by number, in order."""
    start: SparseMask = field(default_factory=SparseMask.empty)
    barriers: Sequence[SparseMask] = ()
    """Masks that the object may not enter."""
    so_far: SparseMask = field(default_factory=SparseMask.empty)
    """The mask before the last prompts."""
    only_less: bool = False
    """Whether the last prompts only take away from it."""


class Cache:
    """The latest values by key, within a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._most, self._bytes = most_bytes, 0

    def get(self, key: Hashable) -> Any:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        self._bytes += size - self._held.pop(key, (None, 0))[1]
        self._held[key] = (value, size)
        while self._bytes > self._most and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]


class Segmenter:
    """Adds prompts to objects of a volume. What it keeps are results that could be computed again."""

    def __init__(self, volume: Volume, cached_bytes: int = _CACHED_BYTES) -> None:
        self.volume = volume
        self._spacing: Triple = volume.grid.spacing
        self._cache = Cache(cached_bytes)

    def add(
        self, state: ObjectState, numbers: Sequence[int], marks: Mapping[int, Marks], barriers: Sequence[SparseMask]
    ) -> ObjectState:
        """The object after some prompts more. marks: of all prompts by number. barriers: masks it may not enter."""
        prompts = (*state.prompts, *numbers)
        new, ours = [marks[k] for k in numbers], {k: marks[k] for k in prompts}
        only_less = bool(state.mask) and all(mark.only_less for mark in new)
        if only_less and state.sure:  # what was added on trust goes first
            state = replace(state, mask=_replaced_near(state.mask, state.sure, new, self.volume.grid))
        asked = _Question(ours, state.start, barriers, state.mask, only_less)
        is_first = state.frame is None and not state.start and len(new) == 1 and new[0].positive and _is_click(new[0])
        frame, found = self._grown(
            self._best_of(self._first_frames(ours), asked) if is_first else self._frame(state, ours), asked
        )
        sure = mask = self._spread(frame, found)
        if not state.start and all(_is_click(mark) for mark in ours.values()):
            mask = self._spread(frame, self._at_best_level(frame, found, asked))
        if state.mask:
            mask = self._edited(asked, mask, new, frame)
            frame, mask = self._closer(asked, new, state.frame, (frame, mask))
        for mark in ours.values():
            mask = mask.joined(mark.yes).without(mark.no.without(mark.yes))
        for barrier in barriers:
            mask = mask.without(barrier)
        return ObjectState(frame, prompts, mask, state.start, sure if is_first else SparseMask.empty())

    def _at_best_level(self, frame: Frame, found: Answer, asked: _Question) -> Answer:
        """What clicks find in a frame, ended where its border lies on edges most."""
        scene, key = self._scene(frame, asked.barriers)
        clicks = [said for number, mark in asked.marks.items() for said in self._evidence(scene, key, number, mark)]
        return engine.at_best_level(scene, found, clicks)

    def _edited(self, asked: _Question, after: SparseMask, new: Sequence[Marks], frame: Frame) -> SparseMask:
        """The mask before with the changes that new prompts are about.

        How far they reach is what puts the border on edges most. What a prompt takes away may have no bound: a leak
        goes whole. What a click adds may end sooner: at a small object it would leak.
        """
        costs = {engine.REACH: 0.0}
        if asked.only_less:
            costs[math.inf] = 0.0
        elif not asked.start and all(_is_click(mark) for mark in asked.marks.values()):
            costs |= {reach: _SHORTER_WEIGHT * (engine.REACH - reach) for reach in _SHORTER_REACHES}
        ways = _changed_here(asked.so_far, after, new, self._spacing, tuple(costs))
        different = list(dict.fromkeys(ways))
        if len(different) == 1:
            return different[0]
        support = {way: self._support(frame, way, asked.barriers) for way in different}
        fit = [support[way] - cost for way, cost in zip(ways, costs.values(), strict=True)]
        return ways[int(np.argmax(fit))]

    def probability(self, marks: Mapping[int, Marks]) -> tuple[Box, Map]:
        """(a box of the volume, the probability of the label in it) of prompts that are weighed at once.

        Outside of the box it is below one half.
        """
        frame, found = self._grown(self._frame(ObjectState(), marks), _Question(marks))
        return self._spread_probability(frame, found)

    def _first_frames(self, marks: Mapping[int, Marks]) -> list[Frame]:
        """The frames to try around a first click."""
        centre = (next(iter(marks.values())).typical[0] + 0.5) * np.asarray(self._spacing)
        return zoom.first_frames(self.volume.grid, (float(centre[0]), float(centre[1]), float(centre[2])))

    def _closer(
        self, asked: _Question, new: Sequence[Marks], before: Frame | None, usual: tuple[Frame, SparseMask]
    ) -> tuple[Frame, SparseMask]:
        """Frame and mask as usual, or closer ones where clicks say that the mask has leaked out of a smaller object.

        Then they lie deeper in it than any click on the object, and the border of what is found closer lies on edges
        more. It is sought as if nothing had been found, and adds nothing to the mask that the clicks take from.
        before: the frame that the mask so far was found in.
        """
        frames = [] if before is None else self._closer_frames(asked, new, before)
        if not frames:
            return usual
        anew = _Question(asked.marks, barriers=asked.barriers)
        frame, found = self._grown(self._best_of(frames, anew), anew)
        whole = self._spread(frame, found)
        closer = frame, whole.without(whole.without(asked.so_far))
        return max(
            usual, closer, key=lambda way: self._support(way[0], way[1], asked.barriers)
        )  # the usual one of equal ones

    def _support(self, frame: Frame, mask: SparseMask, barriers: Sequence[SparseMask]) -> float:
        """How much of a mask's border lies on edges of the image, as a frame shows them."""
        scene, _ = self._scene(frame, barriers)
        return engine.border_support(scene, seeds(mask, frame, self._spacing))

    def _closer_frames(self, asked: _Question, new: Sequence[Marks], frame: Frame) -> list[Frame]:
        """The frames to try where clicks lie deeper in the mask than any click on the object; none otherwise."""
        marks = asked.marks.values()
        if not asked.only_less or asked.start or not all(m.limit is None and m.held.is_one_voxel for m in marks):
            return []
        depth = ndimage.distance_transform_edt(seeds(asked.so_far, frame, self._spacing))
        held = [mark for mark in marks if mark.positive]

        def deepest(some: Sequence[Marks]) -> float:
            places = np.concatenate([frame.places(mark.typical, self._spacing) for mark in some])
            return float(depth[tuple(places.T)].max(initial=0))

        if deepest(new) <= deepest(held):
            return []
        box = held[0].held.box
        for mark in held[1:]:
            box = union(box, mark.held.box)
        return zoom.closer_frames(frame, self.volume.grid, *_corners_mm(box, self._spacing))

    def _best_of(self, frames: Sequence[Frame], asked: _Question) -> Frame:
        """The frame that fits what is found in it best: its border lies on edges, its middle at the clicks.

        frames: the closest first.
        """
        near = read_once(self.volume, frames)
        clicks = np.concatenate([mark.typical for mark in asked.marks.values() if mark.positive])
        tried = []
        for frame in frames:
            self._keep(frame, Scene.of(near, frame))
            scene, found = self._answer(frame, asked)
            score = zoom.fit_score(
                engine.border_support(scene, found.mask),
                zoom.filled(self.volume.grid, found.mask),
                engine.centrality(found.mask, frame.places(clicks, self._spacing)),
                engine.spread_inside(scene, found.mask),
            )
            tried.append((score, frame, found))
        masks = [self._spread(frame, found) for _, frame, found in tried]
        scores = [
            score + _AGREEMENT * _mean([dice(masks[k], masks[n]) for n in (k - 1, k + 1) if 0 <= n < len(masks)])
            for k, (score, _, _) in enumerate(tried)
        ]
        return tried[int(np.argmax(scores))][1]

    def _grown(self, frame: Frame, asked: _Question) -> tuple[Frame, Answer]:
        """The answer in a frame that grows while what is found runs out of it and its border stays on edges."""
        scene, found = self._answer(frame, asked)
        support = engine.border_support(scene, found.mask)
        for _ in range(_MOST_GROWTH):
            larger = zoom.grown(frame, self.volume.grid, found.mask)
            if larger is None:
                break
            scene, further = self._answer(larger, asked)
            further_support = engine.border_support(scene, further.mask)
            if further_support < _KEPT_SUPPORT * support:
                break
            frame, found, support = larger, further, further_support
        return frame, found

    def _frame(self, state: ObjectState, marks: Mapping[int, Marks]) -> Frame:
        """The frame that holds the mask and the prompts."""
        box = state.mask.box if state.mask else None
        for mark in marks.values():
            held = (mark.limit or mark.held).box
            if not mark.positive and state.mask:  # what is not the label matters where the label might be
                held = intersection(held, state.mask.box)
            if not is_empty(held):
                box = held if box is None else union(box, held)
        assert box is not None, "a prompt marks something"
        low, high = _corners_mm(box, self._spacing)
        slices = {mark.slice_axis for mark in marks.values()}
        if len(slices) == 1 and not state.mask and (axis := slices.pop()) is not None:
            low, high = _as_long_as_wide(low, high, axis)
        grid = self.volume.grid
        if state.frame is None:
            return zoom.fitted(grid, low, high)
        return zoom.follow(state.frame, grid, low, high)

    def _answer(self, frame: Frame, asked: _Question) -> tuple[Scene, Answer]:
        scene, key = self._scene(frame, asked.barriers)
        marks = asked.marks
        found: list[Evidence] = []
        limit: Mask | None = None
        for number, mark in marks.items():
            found += self._evidence(scene, key, number, mark)
            if mark.limit is not None:
                inside = seeds(mark.limit, frame, self._spacing)
                limit = inside if limit is None else limit | inside
        if asked.start:
            found += engine.of_a_mask(scene, seeds(asked.start, frame, self._spacing), found)
        typical = next((m.typical for m in marks.values() if m.positive), None)
        centres = frame.places(typical, self._spacing) if typical is not None else np.zeros((0, 3), np.int64)
        cut = bool(asked.start) or len(marks) > 1 or not all(_is_click(mark) for mark in marks.values())
        shape, ends = self._shape(frame, marks)
        background = self._background(scene, key, centres, cut=cut, ends=ends)
        so_far = seeds(asked.so_far, frame, self._spacing) if asked.so_far else None
        return scene, engine.answer(
            scene, found, background, limit=limit, shape=shape, so_far=so_far, only_less=asked.only_less
        )

    def _shape(self, frame: Frame, marks: Mapping[int, Marks]) -> tuple[Map | None, engine.Ends]:
        """(what the shapes of painted slices say of a frame, its ends that they reach); None without slices in it."""
        painted: dict[int, dict[int, Mask]] = {}
        for mark in marks.values():
            if mark.slice_axis is not None:
                axis = mark.slice_axis
                mm = (mark.held.box[axis].start + 0.5) * self._spacing[axis]
                index = math.floor((mm - frame.low_mm[axis]) / frame.step_mm)
                if 0 <= index < frame.shape[axis]:
                    plane = seeds(mark.yes, frame, self._spacing).take(index, axis)
                    painted.setdefault(axis, {})[index] = plane
        shapes = {axis: engine.shape_of_slices(axis, planes, frame.shape) for axis, planes in sorted(painted.items())}
        ends: engine.Ends = frozenset[tuple[int, int]]().union(*(engine.open_ends(*found) for found in shapes.items()))
        said = [shape for shape in shapes.values() if shape.any()]
        if not said:
            return None, ends
        total: Map = np.sum(said, axis=0) / np.maximum(1, np.sum([shape != 0 for shape in said], axis=0))
        return total.astype(np.float32), ends

    def _scene(self, frame: Frame, barriers: Sequence[SparseMask]) -> tuple[Scene, Hashable]:
        """The scene of a frame without the barriers, and what tells it from others."""
        scene: Scene | None = self._cache.get(frame)
        if scene is None:
            scene = self._keep(frame, Scene.of(self.volume, frame))
        closed = np.zeros(frame.shape, dtype=bool)
        for barrier in barriers:
            where = [np.rint(frame.samples(axis, self._spacing)).astype(np.int64) for axis in range(3)]
            closed |= barrier.at(where)
        if not closed.any():
            return scene, (frame, b"")
        key = (frame, blake2b(np.packbits(closed).tobytes(), digest_size=16).digest())
        return replace(scene, inside=scene.inside & ~closed), key

    def _keep(self, frame: Frame, scene: Scene) -> Scene:
        self._cache.put(frame, scene, scene.image.nbytes + scene.inside.nbytes)
        return scene

    def _evidence(self, scene: Scene, key: Hashable, number: int, mark: Marks) -> list[Evidence]:
        """What a prompt says of a scene: one or two maps, none where it lies outside of it."""
        held: list[Evidence] | None = self._cache.get((key, number))
        if held is None:
            held = []
            centres = scene.frame.places(mark.typical, self._spacing)
            for mask, positive in ((mark.yes, True), (mark.no, False)):
                marked = seeds(mask, scene.frame, self._spacing)
                if marked.any():
                    single = mask.is_one_voxel
                    own = centres if positive == mark.positive else np.zeros((0, 3), np.int64)
                    held.append(
                        engine.evidence(
                            scene, ndimage.binary_dilation(marked) if single else marked, own, positive=positive
                        )
                    )
            self._cache.put((key, number), held, sum(e.distance.nbytes + e.seeds.nbytes for e in held) + 64)
        return held

    def _background(
        self, scene: Scene, key: Hashable, centres: npt.NDArray[np.int64], *, cut: bool, ends: engine.Ends
    ) -> Map:
        which = (key, "background", cut, ends, centres.tobytes())
        held: Map | None = self._cache.get(which)
        if held is None:
            held = engine.surroundings(scene, centres, cut=cut, ends=ends)
            self._cache.put(which, held, held.nbytes)
        return held

    def _spread(self, frame: Frame, found: Answer) -> SparseMask:
        """The answer in voxels of the volume."""
        box, probability = self._spread_probability(frame, found)
        return SparseMask.of(box, probability > 0.5)

    def _spread_probability(self, frame: Frame, found: Answer) -> tuple[Box, Map]:
        """(the box around the mask, the probability in it), in voxels of the volume."""
        grid = self.volume.grid
        part = frame.shape
        tight = ndimage.find_objects(found.mask.astype(np.uint8))
        if not tight:
            return NOWHERE, np.zeros((0, 0, 0), np.float32)
        inner = with_margin(tight[0], part)
        low = [mm + side.start * frame.step_mm for mm, side in zip(frame.low_mm, inner, strict=True)]
        size = [side.stop - side.start for side in inner]
        small = Frame((low[0], low[1], low[2]), frame.step_mm, (size[0], size[1], size[2]))
        box = small.box(grid.shape, grid.spacing)
        return box, spread(found.probability[tuple(inner)], small, box, grid.spacing)


def _corners_mm(box: Box, spacing: Triple) -> tuple[Triple, Triple]:
    """The corners of a box of voxels, in millimetres along the stored axes."""
    z, y, x = ((side.start * s, side.stop * s) for side, s in zip(box, spacing, strict=True))
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])


def _as_long_as_wide(low: Triple, high: Triple, axis: int) -> tuple[Triple, Triple]:
    """The corners of a slice's object: a slice shows two of its sides, and the third is taken to be as long."""
    longest = max(b - a for a, b in zip(low, high, strict=True))
    more = max(0.0, (longest - (high[axis] - low[axis])) / 2)
    z, y, x = ((a - more, b + more) if k == axis else (a, b) for k, (a, b) in enumerate(zip(low, high, strict=True)))
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])


def dice(a: SparseMask, b: SparseMask) -> float:
    """The Dice of two masks; 0 where either is empty."""
    if not a or not b:
        return 0.0
    box = union(a.box, b.box)
    return 2 * int((a.within(box) & b.within(box)).sum()) / (a.voxels + b.voxels)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _is_click(marks: Marks) -> bool:
    return marks.limit is None and marks.slice_axis is None and marks.held.is_one_voxel


def _changed_here(
    before: SparseMask, after: SparseMask, marks: Sequence[Marks], spacing: Triple, reaches: Sequence[float]
) -> list[SparseMask]:
    """For each reach, the mask before with those of the changes that the new prompts are about.

    A correction here changes nothing there: only changes that touch a prompt count, and only within the reach, in
    distances from the prompt to where the mask was as the prompt says. Without that bound one click beside a thin wall
    lets the mask leak behind it. A painted slice speaks of the whole slice, and has no bound.
    """
    box: Box = union(before.box, after.box) if after else before.box
    for mark in marks:
        # Of a box that marks more than the mask, what lies outside of the mask plays no part.
        box = box if overlaps(box, mark.held.box) and mark.held.inside.size > _LARGE else union(box, mark.held.box)
    old, new = before.within(box), after.within(box)
    changed, touching = old ^ new, np.zeros(old.shape, dtype=bool)
    around = []
    for mark in marks:
        here = mark.held.within(box)
        touching |= here
        around.append(_Around.of(here, old if mark.positive else ~old, spacing, bounded=mark.slice_axis is None))
    within = {reach: changed & _reached(around, reach, changed.shape) for reach in reaches}
    tight = ndimage.find_objects(within[max(reaches)].astype(np.uint8))
    if not tight:
        return [before] * len(reaches)
    part = with_margin(tight[0], changed.shape)
    touching = ndimage.binary_dilation(touching[part], _ANY_NEIGHBOUR)
    made: dict[int, SparseMask] = {}
    ways = []
    for near in within.values():
        size = int(np.count_nonzero(near))  # a longer reach holds what a shorter one does
        if size not in made:
            parts, _ = ndimage.label(near[part], _ANY_NEIGHBOUR)
            touched = np.unique(parts[touching])
            edited = old.copy()
            edited[part] ^= np.isin(parts, touched[touched > 0])
            made[size] = SparseMask.of(box, edited) if size else before
        ways.append(made[size])
    return ways


def _replaced_near(mask: SparseMask, by: SparseMask, marks: Sequence[Marks], grid: Grid) -> SparseMask:
    """A mask, without what another one lacks within the reach of corrections that take from it."""
    box = with_margin(mask.box, grid.shape)
    old = mask.within(box)
    here = [mark.held.within(box) for mark in marks]
    around = [_Around.of(each, ~old, grid.spacing) for each in here if each.any()]
    return SparseMask.of(box, old & (by.within(box) | ~_reached(around, engine.REACH, old.shape)))


@dataclass(frozen=True, eq=False)
class _Around:
    """How far voxels lie from a prompt, in distances from it to where the mask was as it says; at least a voxel's."""

    part: Box
    """What lies within the longest reach of a correction."""
    distance: Map | None
    """Of the voxels of the part; None where a prompt has no bound."""

    @classmethod
    def of(cls, here: Mask, agreed: Mask, spacing: Triple, *, bounded: bool = True) -> _Around:
        """here: the voxels of the prompt. agreed: where the mask was as it says; where that is nowhere, all is near."""
        if not bounded or not agreed.any():
            return cls(whole(here.shape), None)
        unit_mm = max(_farthest_mm(here, agreed, spacing), *spacing)
        part = _around(here, engine.REACH * unit_mm, spacing)
        distance = ndimage.distance_transform_edt(~here[part], spacing) / unit_mm
        return cls(part, distance.astype(np.float32))


def _reached(around: Sequence[_Around], reach: float, shape: tuple[int, ...]) -> Mask:
    """What lies within a reach of one of the prompts."""
    near = np.full(shape, math.isinf(reach))
    for prompt in around:
        near[prompt.part] |= True if prompt.distance is None else prompt.distance <= reach
    return near


def _farthest_mm(here: Mask, agreed: Mask, spacing: Triple) -> float:
    """How far the voxel of a prompt lies from `agreed` that lies farthest from it; both hold a voxel.

    A transform of a large mask takes gigabytes: it is made around the prompt, as far as it has to reach.
    """
    reach_mm = _FIRST_REACH * max(spacing)
    while True:
        part = _around(here, reach_mm, spacing)
        is_whole = all(side.stop - side.start == n for side, n in zip(part, here.shape, strict=True))
        if agreed[part].any():
            farthest = float(ndimage.distance_transform_edt(~agreed[part], spacing)[here[part]].max())
            if farthest <= reach_mm or is_whole:
                return farthest
        reach_mm *= 2


def _around(here: Mask, reach_mm: float, spacing: Triple) -> Box:
    """The box of what lies within a distance of a mask that holds a voxel."""
    (tight,) = ndimage.find_objects(here.astype(np.uint8))
    return with_margin(tight, here.shape, [math.ceil(reach_mm / s) for s in spacing])
