"""`interact`: prompts to masks, with undo over everything, locks, and a log that replays bit for bit.

What a session holds follows from its volume and its steps alone: each step is applied to what the steps before gave, in
the same way every time. Undo, and removing a prompt, go back to other steps; nothing is undone by calculation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from os import PathLike
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from scipy import ndimage

from napari_medseg.arrays.boxes import block_shape, blocks, chunks_of, placed, shape_of, union, whole
from napari_medseg.arrays.views import onto
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.interactive import log
from napari_medseg.interactive.marks import Marks, marks_of
from napari_medseg.interactive.masks import LabelView, SparseMask
from napari_medseg.interactive.objects import Cache, ObjectState, Segmenter
from napari_medseg.interactive.steps import AddStep, DeleteStep, LockStep, Method, NameStep, StartStep, Step
from napari_medseg.prompts import Prompt
from napari_medseg.volume import MAX_LABEL, Segmentation, Volume, called, require_same_grid

_MOST_VOXELS = 1 << 28
"""Of the box around a label to which prompts are added."""
_REMEMBERED_BYTES = 512 << 20
"""Of the masks of earlier steps, for undo at once; what is older is computed again when it is wanted."""


@dataclass(frozen=True, eq=False)
class _State:
    """What some steps give."""

    objects: Mapping[int, ObjectState] = field(default_factory=dict)
    locked: frozenset[int] = frozenset()


class InteractiveSession:
    """Prompts on one volume, and the labels that they give.

    volume: numpy, dask or zarr; only the surroundings of prompts are read, and nothing of the volume's size is made.
    remembered_bytes: of the masks of earlier steps; undo beyond them computes them again, to the same bits.

    Every change returns the Segmentation so far, on the volume's grid; its data is made where it is read. Not for use
    from several threads at once.
    """

    def __init__(self, volume: Volume, *, method: Method = "auto", remembered_bytes: int = _REMEMBERED_BYTES) -> None:
        if method not in get_args(Method):
            raise InputError(
                f"method is one of {', '.join(get_args(Method))}; got {method!r}: models that take prompts are not "
                f"supported in this version"
            )
        self.volume = volume
        self.method = method
        self._segmenter = Segmenter(volume)
        self._numbers: dict[Prompt, int] = {}
        self._marks: dict[int, Marks] = {}
        self._steps: tuple[Step, ...] = ()
        self._undone: list[tuple[Step, ...]] = []
        self._done: list[tuple[Step, ...]] = []
        self._states = Cache(remembered_bytes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done, without what was undone or removed."""
        return self._steps

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts in the order in which they were added; not those of objects that were deleted since."""
        found: list[Prompt] = []
        for step in self._steps:
            if isinstance(step, AddStep):
                found += step.prompts
            elif isinstance(step, DeleteStep):
                found = [prompt for prompt in found if prompt.label != step.label]
        return tuple(found)

    @property
    def locked(self) -> frozenset[int]:
        """The labels that nothing changes."""
        return self._state.locked

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that hold a voxel, ascending."""
        return tuple(sorted(label for label, found in self._state.objects.items() if found.mask))

    @property
    def names(self) -> Mapping[int, str]:
        """{label: its name}, of those that were named or came with one."""
        names: dict[int, str] = {}
        for step in self._steps:
            if isinstance(step, StartStep):
                names.update(step.names)
            elif isinstance(step, NameStep):
                names[step.label] = step.name
            elif isinstance(step, DeleteStep):
                names.pop(step.label, None)
        return names

    @property
    def segmentation(self) -> Segmentation:
        """The labels so far, on the volume's grid."""
        masks = {label: found.mask for label, found in sorted(self._state.objects.items()) if found.mask}
        given = self.names
        names = {label: given.get(label, f"label {label}") for label in masks}
        data = LabelView(self.volume.grid.shape, masks)
        name = f"{self.volume.name} labels" if self.volume.name else "labels"
        return Segmentation(data, self.volume.grid, names, name=name)

    def mask(self, label: int) -> SparseMask:
        """The mask of a label, in the box around it."""
        found = self._state.objects.get(label)
        return found.mask if found else SparseMask.empty()

    def add(self, prompt: Prompt) -> Segmentation:
        """Add a prompt to its label.

        Raises InputError for a prompt outside of the volume, for a locked label, and where a label that holds nothing
        yet is told where it is not.
        """
        return self.add_all([prompt])

    def add_all(self, prompts: Sequence[Prompt]) -> Segmentation:
        """Add several prompts of one label as one change, as strokes drawn before running. Raises as `add`."""
        return self._go((*self._steps, self._checked(prompts)))

    def preview(self, prompts: Sequence[Prompt]) -> SparseMask:
        """What the label of some prompts would be if they were added. Nothing changes. Raises as `add`."""
        step = self._checked(prompts)
        self._read_marks([step])
        found = self._after_all((*self._steps, step)).objects.get(step.label)
        return found.mask if found else SparseMask.empty()

    def _checked(self, prompts: Sequence[Prompt]) -> AddStep:
        """The step that adds prompts of one label. Raises as `add`."""
        step = AddStep(tuple(prompts))
        label = step.label
        if label in self.locked:
            raise InputError(self._locked(label))
        marks = [marks_of(prompt, self.volume.grid.shape) for prompt in prompts]
        if not any(mark.positive for mark in marks) and not self.mask(label):
            raise InputError(f"label {label} holds nothing yet: its first prompt says where it is (positive=True)")
        for locked in self.locked:
            if any(_meet(self.mask(locked), mark.yes) for mark in marks):
                raise InputError(f"what was drawn lies in another object: {self._locked(locked)}")
        _check_size(label, self.mask(label), marks)
        return step

    def called(self, label: int) -> str:
        """A label as messages name it: its id, and its name where it has one."""
        return called(label, {label: f"label {label}", **self.names})

    def _locked(self, label: int) -> str:
        """Why nothing changes a label, and the way out."""
        return f"label {self.called(label)} is locked: unlock it first, or draw for a new label"

    def remove(self, prompt: Prompt) -> Segmentation:
        """Take a prompt back; what is left is what the others alone would have given. InputError for an unknown one."""
        if not any(prompt is known for known in self.prompts):
            raise InputError(f"this {type(prompt).__name__} is none of the session's prompts: see session.prompts")
        rest: list[Step] = []
        for step in self._steps:
            if isinstance(step, AddStep) and any(prompt is known for known in step.prompts):
                left = tuple(known for known in step.prompts if known is not prompt)
                rest += [AddStep(left)] if left else []
            else:
                rest.append(step)
        return self._go(tuple(rest))

    def lock(self, label: int) -> Segmentation:
        """Keep a label as it is, whatever is added to others. Raises InputError for what is no label id."""
        return self._go((*self._steps, LockStep(_label(label), True)))

    def unlock(self, label: int) -> Segmentation:
        """Let a label be changed again."""
        return self._go((*self._steps, LockStep(_label(label), False)))

    def rename(self, label: int, name: str) -> Segmentation:
        """Give a label a name. Raises InputError for what is no label id, and for an empty or very long name."""
        return self._go((*self._steps, NameStep(_label(label), name)))

    def delete(self, label: int) -> Segmentation:
        """Take an object away, with its name and what was said of it; others stay as they are.

        Raises InputError for what is no label id, and for a locked label.
        """
        if label in self.locked:
            raise InputError(self._locked(label))
        return self._go((*self._steps, DeleteStep(_label(label))))

    def start_from(self, segmentation: Segmentation, *, labels: Iterable[int] | None = None) -> Segmentation:
        """Take over labels of a segmentation on the same grid, with their names.

        Each takes the place of the object of its label. Locked objects, and those of other labels, stay as they are,
        and nothing is put over them. The axes of the segmentation may be stored in another order. labels: those that
        are taken over, also where they are empty; by default those that hold a voxel. Raises GridMismatchError.
        """
        segmentation = onto(segmentation, self.volume.grid)
        require_same_grid(self.volume, segmentation, "the session's volume", "the segmentation")
        masks = _masks_of(segmentation)
        if labels is not None:
            masks = {label: masks.get(label, SparseMask.empty()) for label in map(_label, labels)}
        unused = segmentation.labels.keys() - self.labels if labels is None else set()
        named = (masks.keys() | unused) - self.locked
        names = {label: name for label, name in segmentation.labels.items() if label in named}
        return self._go((*self._steps, StartStep(masks, names)))

    def attempt(self, change: Callable[[InteractiveSession], object]) -> None:
        """Do several changes, or none of them where one raises a MedsegError: undo and redo are then as before, too."""
        before = self._steps, list(self._done), list(self._undone)
        try:
            change(self)
        except MedsegError:
            self._steps, self._done, self._undone = before
            raise

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change to do again."""
        return bool(self._undone)

    def undo(self) -> Segmentation:
        """Go back by one change, whichever it was; nothing happens where there is none."""
        if self._done:
            self._undone.append(self._steps)
            self._steps = self._done.pop()
        return self.segmentation

    def redo(self) -> Segmentation:
        """Do again what was undone last; nothing happens where there is nothing, or where something new was done."""
        if self._undone:
            self._done.append(self._steps)
            self._steps = self._undone.pop()
        return self.segmentation

    def save(self, path: str | PathLike[str]) -> None:
        """Write the steps as JSON, with the volume's fingerprint; what was undone is not kept."""
        log.save(path, self.volume, self._steps, self.method)

    def replay(self, steps: Sequence[Step]) -> Segmentation:
        """Do the steps of a log, one after the other, as one change.

        A prompt that nothing stands on any more, because what it corrected was removed, changes nothing here either.
        Raises InputError where a prompt reaches out of the volume.
        """
        return self._go((*self._steps, *steps))

    @property
    def _state(self) -> _State:
        return self._after_all(self._steps)

    def _number(self, prompt: Prompt) -> int:
        return self._numbers.setdefault(prompt, len(self._numbers))

    def _go(self, steps: tuple[Step, ...]) -> Segmentation:
        """Make these the steps; what was there before comes back by undo."""
        self._read_marks(steps)
        self._after_all(steps)
        self._done.append(self._steps)
        self._undone.clear()
        self._steps = steps
        return self.segmentation

    def _read_marks(self, steps: Iterable[Step]) -> None:
        for prompt in (p for step in steps if isinstance(step, AddStep) for p in step.prompts):
            if (number := self._number(prompt)) not in self._marks:
                self._marks[number] = marks_of(prompt, self.volume.grid.shape)

    def _after_all(self, steps: tuple[Step, ...]) -> _State:
        """What the steps give: from the longest beginning of them that is remembered."""
        known = len(steps)
        state: _State | None = self._states.get(steps)
        while state is None and known:
            known -= 1
            state = self._states.get(steps[:known])
        if state is None:
            state = _State()
        for n in range(known, len(steps)):
            before, state = state, self._after(state, steps[n])
            self._states.put(steps[: n + 1], state, _new_bytes(before, state))
        return state

    def _after(self, state: _State, step: Step) -> _State:
        if isinstance(step, LockStep):
            return replace(state, locked=state.locked | {step.label} if step.locked else state.locked - {step.label})
        if isinstance(step, StartStep):
            return replace(state, objects=MappingProxyType(dict(_started(state, step))))
        if isinstance(step, NameStep):
            return state
        if isinstance(step, DeleteStep):
            left = {label: found for label, found in state.objects.items() if label != step.label}
            return replace(state, objects=MappingProxyType(left))
        return self._after_prompts(state, step)

    def _after_prompts(self, state: _State, step: AddStep) -> _State:
        numbers = [self._number(prompt) for prompt in step.prompts]
        marks = [self._marks[number] for number in numbers]
        own = state.objects.get(step.label, ObjectState())
        if not own.mask:
            own = ObjectState()  # what was said of an object that is gone says nothing of a new one
        if step.label in state.locked or not (own.mask or any(mark.positive for mark in marks)):
            return state  # what it stood on was removed
        others = {k: found for k, found in state.objects.items() if k != step.label and found.mask}
        taken = {
            k
            for k, found in others.items()
            if k not in state.locked and any(_meet(found.mask, mark.yes) for mark in marks)
        }
        barriers = [found.mask for k, found in sorted(others.items()) if k not in taken]
        changed = self._segmenter.add(own, numbers, self._marks, barriers)
        objects = {
            k: replace(found, mask=found.mask.without(changed.mask)) if k in taken else found
            for k, found in state.objects.items()
        }
        return replace(state, objects=MappingProxyType({**objects, step.label: changed}))


def interact(volume: Volume, *, method: Method = "auto") -> InteractiveSession:
    """A session of prompts on a volume: see InteractiveSession. Raises InputError for an unknown method."""
    return InteractiveSession(volume, method=method)


def resume_interaction(path: str | PathLike[str], volume: Volume) -> InteractiveSession:
    """The session that a log tells of, with its steps done again on the volume: the same masks, bit for bit.

    Undo goes back to before the log as a whole. Raises FileError for what is no log, InputError where it is of another
    volume, or where its prompts do not fit.
    """
    method, steps = log.read(path, volume)
    session = InteractiveSession(volume, method=method)
    try:
        session.replay(steps)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return session


def _started(state: _State, step: StartStep) -> Iterator[tuple[int, ObjectState]]:
    """The objects after masks were taken over: the others, and locked ones, stay, and nothing is put over them."""
    kept = {k: found for k, found in state.objects.items() if k in state.locked or k not in step.masks}
    yield from kept.items()
    for label, mask in step.masks.items():
        if label not in state.locked:
            for barrier in kept.values():
                mask = mask.without(barrier.mask)
            yield label, ObjectState(mask=mask, start=mask)


def _new_bytes(before: _State, after: _State) -> int:
    """The memory of the masks that a step made; what it left alone is shared."""
    kept = {id(found.mask) for found in before.objects.values()}
    return sum(found.mask.inside.nbytes for found in after.objects.values() if id(found.mask) not in kept)


def _label(label: Any) -> int:
    """A label id that a voxel can have; InputError for anything else."""
    if isinstance(label, bool) or not isinstance(label, Integral) or not 1 <= int(label) <= MAX_LABEL:
        raise InputError(f"a label id is a whole number from 1 to {MAX_LABEL}; got {label!r}")
    return int(label)


def _check_size(label: int, mask: SparseMask, marks: Sequence[Marks]) -> None:
    """InputError where a label would lie in a box that is too large to hold."""
    if not mask:
        return
    box = mask.box
    for mark in marks:
        if mark.yes:
            box = union(box, mark.yes.box)
    voxels = math.prod(side.stop - side.start for side in box)
    if voxels > max(_MOST_VOXELS, mask.inside.size):
        raise InputError(
            f"the prompt lies too far from the rest of label {label}: the box around both has {voxels} voxels, where "
            f"{_MOST_VOXELS} are the most: give what lies there a label of its own"
        )


def _meet(mask: SparseMask, other: SparseMask) -> bool:
    """Whether two masks share a voxel."""
    return bool(mask) and bool(other) and bool(mask.within(other.box)[other.inside].any())


def _masks_of(segmentation: Segmentation) -> dict[int, SparseMask]:
    """{label: its mask} of every label, a block of the image at a time."""
    data = segmentation.data
    found: dict[int, SparseMask] = {}
    shape = shape_of(data)
    for box in blocks(whole(shape), block_shape(shape, chunks_of(data))):
        part = np.asarray(data[box])
        ids, numbered = np.unique(part, return_inverse=True)
        places = ndimage.find_objects(numbered.reshape(part.shape) + 1)
        for label, place in zip(ids.tolist(), places, strict=True):
            if label and place is not None:
                here = SparseMask(placed(place, box), part[place] == label)
                found[label] = found[label].joined(here) if label in found else here
    return dict(sorted(found.items()))
