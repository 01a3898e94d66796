"""The slices of an object in a session: which are painted, filling the others from them, and which to paint next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, whole
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3
from napari_medseg.interactive.propagation import PropagationMethod, interpolated, propagate
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import Lasso, Prompt, SliceMask
from napari_medseg.volume import Segmentation, Volume, label_dtype

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SliceQuality:
    """How far each slice of an object can be believed, without a reference."""

    label: int
    axis: int
    first: int
    """The index of the slice of the first value."""
    values: tuple[float, ...]
    """0 to 1: the Dice of a slice with the shape that the painted slices alone give it; 1 for painted ones."""
    voxels: tuple[int, ...]
    """Of each slice; between painted ones, those of the mask and the shape together."""
    painted: frozenset[int]

    @property
    def weakest(self) -> int | None:
        """The slice to paint next: it has most voxels in doubt. None where all are painted."""
        pairs = enumerate(zip(self.values, self.voxels, strict=True), start=self.first)
        doubts = {k: (1 - value) * size for k, (value, size) in pairs if k not in self.painted}
        return max(doubts, key=lambda k: doubts[k], default=None)


def painted_slices(prompts: Iterable[Prompt], label: int) -> dict[int, list[int]]:
    """{axis: the slices along it in which the label was painted or drawn around}."""
    found: dict[int, set[int]] = {}
    for prompt in prompts:
        if isinstance(prompt, SliceMask | Lasso) and prompt.label == label:
            found.setdefault(prompt.axis, set()).add(prompt.index)
    return {axis: sorted(found[axis]) for axis in sorted(found)}


@dataclass(frozen=True, eq=False)
class ToFill:
    """The painted slices of a label of a session, from which it is filled."""

    label: int
    volume: Volume
    some_slices: Segmentation
    """1 where the label is painted in its slices."""
    slices: dict[int, list[int]]
    """{axis: those along it}, as `propagate` takes them."""
    left_out: int
    """Painted slices along other axes, which do not count."""
    between: bool
    """Whether what lies beyond the outermost slices of every axis stays as it is."""

    @property
    def filled(self) -> list[Box]:
        """The boxes that are filled."""
        shape = self.volume.grid.shape
        if not self.between:
            return [whole(shape)]
        several = {axis: indices for axis, indices in self.slices.items() if len(indices) > 1}
        return [plane(axis, indices[0], shape, indices[-1] + 1) for axis, indices in several.items()]


def fill_from_slices(
    session: InteractiveSession,
    label: int,
    *,
    between: bool = False,
    method: PropagationMethod = "auto",
    model: Model | None = None,
) -> str:
    """Carry the painted slices of a label through the volume, at once: see `slices_to_fill` and `take_filled`.

    model: a volumetric memory network that fills them; like the method interpolation, it takes slices along one axis.
    """
    one_axis = method == "interpolation" or model is not None
    asked = slices_to_fill(session, label, between=between, one_axis=one_axis)
    filled = propagate(asked.volume, asked.some_slices, method=method, slices=asked.slices, model=model)
    return take_filled(session, asked, filled)


def slices_to_fill(session: InteractiveSession, label: int, *, between: bool = False, one_axis: bool = False) -> ToFill:
    """What the painted slices of a label say.

    one_axis: those of the axis that has most of them count. Raises InputError where the label is locked, none of its
    slices is painted, or only one along an axis where two are needed.
    """
    _require_unlocked(session, label)
    slices = painted_slices(session.prompts, label)
    if not slices or not session.mask(label):
        raise InputError(f"label {label} has no painted slice: paint it in some slices first")
    most = _axis_of(slices)
    chosen = {most: slices[most]} if one_axis else slices
    if between and len(slices[most]) < 2:
        along = " along each axis" if len(chosen) > 1 else ""
        raise InputError(f"label {label} has one painted slice{along}: paint another one, or fill the volume")
    shape = session.volume.grid.shape
    painted = np.zeros(shape, bool)
    for box in _planes(chosen, shape):
        painted[box] = session.mask(label).within(box)
    if not painted.any():
        raise InputError(f"the painted slices of label {label} are empty: paint it in one of them")
    some = Segmentation(painted.astype(np.uint8), session.volume.grid, {1: "filled"})
    left_out = sum(len(slices[axis]) for axis in slices if axis not in chosen)
    return ToFill(label, session.volume, some, chosen, left_out, between)


def take_filled(session: InteractiveSession, asked: ToFill, filled: Segmentation) -> str:
    """Make a label what was filled from its slices: one change, which takes no voxel of another label.

    What was painted since then stays as it is painted. What is returned tells of slices that were left out. Raises
    InputError where the label was locked since then.
    """
    label, shape = asked.label, session.volume.grid.shape
    _require_unlocked(session, label)
    inside, mask = np.array(filled.data) == 1, session.mask(label).within(whole(shape))
    now = painted_slices(session.prompts, label)
    for box in _planes({axis: now[axis] for axis in now if axis in asked.slices or not asked.left_out}, shape):
        inside[box] = mask[box]
    for box in asked.filled:
        mask[box] = inside[box]
    data = mask.astype(label_dtype(label)) * label_dtype(label).type(label)
    session.start_from(Segmentation(data, session.volume.grid, session.names), labels=[label])
    if not asked.left_out:
        return ""
    ((axis, indices),) = asked.slices.items()
    return f"filled from the {len(indices)} slices along axis {axis}; {asked.left_out} across it left out"


def _require_unlocked(session: InteractiveSession, label: int) -> None:
    if label in session.locked:
        raise InputError(f"label {label} is locked: unlock it first")


def correct_by_network(session: InteractiveSession, model: Model) -> None:
    """Correct the labels of a model by the prompts so far and its R-Net: one change. Locked labels stay.

    Raises InputError for a model that corrects nothing, and where neither labels nor prompts are of the model.
    """
    from napari_medseg.interactive.guided.deepigeos import correct

    prompts = [p for p in session.prompts if p.label in model.spec.labels and p.label not in session.locked]
    fixed = correct(session.volume, session.segmentation, prompts, model)
    taken = model.spec.label_ids[1:]
    session.start_from(Segmentation(fixed.data, fixed.grid, {**fixed.labels, **session.names}), labels=taken)


def slice_quality(session: InteractiveSession, label: int) -> SliceQuality | None:
    """How far each slice of a label agrees with its painted slices; None where none is painted.

    Two ways of filling that disagree are both doubtful: the mask, which follows the image, is compared with the shapes
    between the painted slices, which do not see the image. Beyond the outermost one its own shape is expected.
    """
    slices, mask = painted_slices(session.prompts, label), session.mask(label)
    if not slices or not mask:
        return None
    axis = _axis_of(slices)
    low = min(mask.box[axis].start, slices[axis][0])
    high = max(mask.box[axis].stop, slices[axis][-1] + 1)
    sides = list(mask.box)
    sides[axis] = slice(low, high)
    planes = np.moveaxis(mask.within((sides[0], sides[1], sides[2])), axis, 0)
    painted = [index - low for index in slices[axis]]
    expected = _expected(planes, painted)
    values = [1.0 if k in painted else _dice(planes[k], expected[k]) for k in range(len(planes))]
    seen = planes.copy()
    seen[painted[0] : painted[-1]] |= expected[painted[0] : painted[-1]]
    sizes = seen.sum(axis=(1, 2)).tolist()
    return SliceQuality(label, axis, low, tuple(values), tuple(sizes), frozenset(slices[axis]))


def next_slice(session: InteractiveSession, label: int, axis: int) -> tuple[int, int] | None:
    """(axis, index) of the slice of a label to paint next: the weakest, or else the largest along the axis.

    None where the label holds nothing, or where every slice is painted.
    """
    quality, mask = slice_quality(session, label), session.mask(label)
    if quality is not None:
        return None if quality.weakest is None else (quality.axis, quality.weakest)
    if not mask:
        return None
    sizes = mask.inside.sum(axis=tuple(a for a in range(3) if a != axis))
    return axis, mask.box[axis].start + int(sizes.argmax())


def plane(axis: int, index: int, shape: Shape3, stop: int | None = None) -> Box:
    """The box of a slice along an axis, or of those from `index` to before `stop`."""
    end = index + 1 if stop is None else stop
    z, y, x = (slice(index, end) if a == axis else slice(0, n) for a, n in enumerate(shape))
    return z, y, x


def _planes(slices: dict[int, list[int]], shape: Shape3) -> list[Box]:
    return [plane(axis, index, shape) for axis, indices in slices.items() for index in indices]


def _axis_of(slices: dict[int, list[int]]) -> int:
    return max(slices, key=lambda axis: len(slices[axis]))


def _expected(planes: Mask, painted: Sequence[int]) -> Mask:
    """The shape of each slice by the painted ones alone: mixed between two, that of the nearest one elsewhere."""
    only = np.zeros_like(planes)
    only[list(painted)] = planes[list(painted)]
    expected = interpolated(only, {0: painted})
    held = [index for index in painted if planes[index].any()]
    for k in range(len(planes)):
        if held and not expected[k].any():
            expected[k] = planes[min(held, key=lambda index: abs(index - k))]
    return expected


def _dice(a: Mask, b: Mask) -> float:
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0
