"""`propagate`: from some annotated slices to the whole volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, intersection, overlaps, within
from napari_medseg.arrays.views import onto
from napari_medseg.errors import InputError, warn
from napari_medseg.geometry import Triple
from napari_medseg.interactive.engine import signed_distance
from napari_medseg.interactive.kernels import Map
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.objects import Segmenter
from napari_medseg.prompts import SliceMask
from napari_medseg.transforms.annotated import crossing_slices, sparse_axis
from napari_medseg.volume import Segmentation, Volume, require_same_grid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medseg.models.file import Model

PropagationMethod = Literal["auto", "geodesic", "interpolation", "memory"]
"""How slices become a volume. interpolation: between shapes, without the image. geodesic: slices and their shapes as
prompts. memory: slice by slice, by the volumetric memory network that is given. auto: the best by figures, which is
geodesic; memory where a model is given."""

_MANY, _MOST = 50, 500
"""More labels in slices are told, and more are refused: each takes the time of one."""

Labels = npt.NDArray[np.integer[Any]]
Slices = Mapping[int, Sequence[int]]
"""{axis: the indices of the slices along it that are annotated}."""


@dataclass(frozen=True, eq=False)
class PaintedSlices:
    """What somebody painted in some slices of a volume."""

    labels: Labels
    """(Z, Y, X), empty elsewhere."""
    slices: Slices
    names: Mapping[int, str]
    """{label that a slice holds: its name}"""

    @classmethod
    def of(cls, some_slices: Segmentation, slices: Slices | None) -> PaintedSlices:
        """slices: see `propagate`. InputError where a slice is not there, or no label is."""
        labels = np.asarray(some_slices.data[:, :, :])
        chosen = _chosen(labels, slices)
        ids = [int(k) for k in np.unique(labels) if k]
        if not ids:
            name = f" {some_slices.name!r}" if some_slices.name else ""
            raise InputError(f"the annotated slices{name} hold no label: paint at least one slice")
        _check_count(some_slices.name or "the annotated slices", len(ids))
        return cls(labels, chosen, {k: some_slices.label_name(k) for k in ids})

    @property
    def ids(self) -> list[int]:
        return list(self.names)

    @property
    def planes(self) -> list[tuple[int | slice, ...]]:
        """The index of each slice."""
        places = [(axis, index) for axis, indices in self.slices.items() for index in indices]
        return [tuple(index if a == axis else slice(None) for a in range(3)) for axis, index in places]

    def put_into(self, data: Labels) -> None:
        """Make the slices of other labels (Z, Y, X) what they are here."""
        for plane in self.planes:
            data[plane] = self.labels[plane]


def propagate(
    volume: Volume,
    some_slices: Segmentation,
    *,
    method: PropagationMethod = "auto",
    slices: Slices | None = None,
    model: Model | str | Path | None = None,
) -> Segmentation:
    """Segment a volume of which some slices are annotated; the annotated slices come back as they are.

    some_slices: labels on the volume's grid, empty but for the annotated slices; their axes may be stored in another
    order. slices: which they are, along the axes of the volume; by default those that hold a label, along the axis that
    has the fewest, or along several axes where they look painted so. A label that an annotated slice does not hold is
    not there. model: a volumetric memory network ("mem3d"). Raises GridMismatchError, and InputError where nothing is
    annotated, a slice is not there, a label crosses a slice that was painted for others along another axis, or method
    and model do not go together.
    """
    if method not in get_args(PropagationMethod):
        raise InputError(f"method is one of {', '.join(get_args(PropagationMethod))}; got {method!r}")
    if method not in ("auto", "memory") if model is not None else method == "memory":
        raise InputError(f"method='memory' and a model go together; got method={method!r} and model={model!r}")
    some_slices = onto(some_slices, volume.grid)
    require_same_grid(volume, some_slices, "the volume", "the annotated slices")
    painted = PaintedSlices.of(some_slices, slices)
    labels, chosen, ids = painted.labels, painted.slices, painted.ids
    if (method == "interpolation" or model is not None) and len(chosen) > 1:
        by = "interpolation" if model is None else "a memory network"
        raise InputError(f"{by} takes slices along one axis; got {len(chosen)}: use method='geodesic'")
    if model is not None:
        from napari_medseg.interactive.guided.memory import by_memory

        ((axis, indices),) = chosen.items()
        data = by_memory(volume, labels, ids, axis, indices, model)
    else:
        by_method = _by_shapes if method == "interpolation" else _by_prompts
        data = by_method(volume, labels, ids, chosen)
    painted.put_into(data)
    return Segmentation(data, volume.grid, painted.names, name=some_slices.name)


def _check_count(name: str, count: int) -> None:
    """Raise InputError for more labels than can be filled in bearable time. Warns of many."""
    doubt = f"{name}: {count} different labels are many to fill one by one: is it a map of instances?"
    if count > _MOST:
        raise InputError(
            f"{doubt} {_MOST} are the most: give its objects one label, and number them afterwards (`instances`)"
        )
    if count > _MANY:
        warn(doubt)


def annotated(labels: Labels) -> tuple[int, list[int]]:
    """(the axis, the slices along it) that hold the labels.

    The axis is that on which they look painted in single slices; where there is none, that which has the fewest.
    """
    held = [np.flatnonzero((labels != 0).any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    axis = sparse_axis(labels != 0)
    if axis is None:
        axis = min(range(3), key=lambda a: len(held[a]))
    return axis, held[axis].tolist()


def interpolated(
    mask: npt.NDArray[np.bool_], slices: Slices, spacing_zyx: Triple = (1.0, 1.0, 1.0)
) -> npt.NDArray[np.bool_]:
    """Shapes between annotated slices of one axis, from their signed distances (Raya and Udupa, IEEE TMI 1990)."""
    ((axis, indices),) = slices.items()
    steps = tuple(step for a, step in enumerate(spacing_zyx) if a != axis)
    planes = np.moveaxis(mask, axis, 0)
    out = np.zeros_like(planes)
    painted = sorted(indices)
    for index in painted:
        out[index] = planes[index]
    for a, b in pairwise(painted):
        if not planes[a].any() or not planes[b].any():
            continue
        below, above = signed_distance(planes[a], steps), signed_distance(planes[b], steps)
        for k in range(a + 1, b):
            out[k] = (below * (b - k) + above * (k - a)) / (b - a) < 0
    return np.moveaxis(out, 0, axis)


def _by_shapes(volume: Volume, labels: Labels, ids: Sequence[int], slices: Slices) -> Labels:
    """Interpolation, a label at a time."""
    data = np.zeros_like(labels)
    for label in ids:
        data[interpolated(labels == label, slices)] = label
    return data


def _by_prompts(volume: Volume, labels: Labels, ids: Sequence[int], slices: Slices) -> Labels:
    """Every annotated slice as a prompt. Each label is found by itself, and the likelier one takes a voxel.

    Labels that touch are found together as well, and share what is found: alone, each of them ends too early between a
    slice that holds it and one that holds its neighbour in its place.
    """
    segmenter = Segmenter(volume)
    data, likeliest = np.zeros_like(labels), np.full(labels.shape, 0.5, np.float32)
    numbers = count()

    def found(some: Sequence[int]) -> tuple[Box, Map]:
        prompts = sorted(_prompts(labels, some, slices), key=lambda prompt: not prompt.positive)
        return segmenter.probability({next(numbers): marks_of(prompt, volume.grid.shape) for prompt in prompts})

    for group in neighbours(labels, ids, slices):
        each = {label: found((label,)) for label in group}
        box, probability = found(group) if len(group) > 1 else each[group[0]]
        owners = _owners(box, each)
        likelier = (probability > likeliest[box]) & (owners > 0)
        data[box][likelier], likeliest[box][likelier] = owners[likelier], probability[likelier]
    return data


def _prompts(labels: Labels, some: Sequence[int], slices: Slices) -> Iterator[SliceMask]:
    """What annotated slices say of some labels as one; a slice without them says that they are not there."""
    for axis, indices in slices.items():
        for index in indices:
            plane = np.isin(labels.take(index, axis), some)
            if plane.any():
                yield SliceMask(plane, axis, index, label=1)
            else:
                yield SliceMask(np.ones_like(plane), axis, index, label=1, positive=False)


def _owners(box: Box, each: Mapping[int, tuple[Box, Map]]) -> npt.NDArray[np.int64]:
    """The likeliest label of each voxel of a box; where none is known of, that of the nearest voxel that has one."""
    size = [side.stop - side.start for side in box]
    owners, best = np.zeros(size, np.int64), np.zeros(size, np.float32)
    for label, (place, probability) in each.items():
        if not overlaps(box, place):
            continue
        here = intersection(box, place)
        inner, own = within(here, box), within(here, place)
        likelier = probability[own] > best[inner]
        owners[inner][likelier], best[inner][likelier] = label, probability[own][likelier]
    if not owners.any() or owners.all():
        return owners
    nearest = ndimage.distance_transform_edt(owners == 0, return_distances=False, return_indices=True)
    filled: npt.NDArray[np.int64] = owners[tuple(nearest)]
    return filled


def neighbours(labels: Labels, ids: Sequence[int], slices: Slices) -> list[tuple[int, ...]]:
    """The labels in groups. Those are of one that touch in an annotated slice, or take each other's place in the next.

    A label takes the place of another one where the other ends between two slices, it begins there, and their masks
    share half of the smaller one.
    """
    group = {label: {label} for label in ids}
    for axis, indices in slices.items():
        planes: list[Labels] = [np.take(labels, index, axis=axis) for index in sorted(indices)]
        pairs = [pair for plane in planes for pair in _touching(plane)]
        pairs += [pair for a, b in pairwise(planes) for pair in _following(a, b)]
        for one, other in pairs:
            joined = group[one] | group[other]
            group.update(dict.fromkeys(joined, joined))
    return sorted({tuple(sorted(members)) for members in group.values()})


def _touching(plane: Labels) -> list[tuple[int, int]]:
    """The pairs of labels that touch in a slice, over corners as well."""
    beside = (
        (plane[1:], plane[:-1]),
        (plane[:, 1:], plane[:, :-1]),
        (plane[1:, 1:], plane[:-1, :-1]),
        (plane[1:, :-1], plane[:-1, 1:]),
    )
    met = [np.stack([a[here], b[here]]) for a, b in beside for here in [(a != b) & (a != 0) & (b != 0)]]
    return [(a, b) for a, b in np.unique(np.concatenate(met, axis=1), axis=1).T.tolist()]


def _following(before: Labels, after: Labels) -> list[tuple[int, int]]:
    """The pairs of labels of which one takes the place of the other from a slice to the next."""
    ends, begins = (np.setdiff1d(a[a != 0], b) for a, b in ((before, after), (after, before)))
    sizes = {(a, b): (before == a, after == b) for a in ends.tolist() for b in begins.tolist()}
    return [pair for pair, (a, b) in sizes.items() if 2 * (a & b).sum() >= min(a.sum(), b.sum())]


def _chosen(labels: Labels, slices: Slices | None) -> Slices:
    if slices is None:
        fewest, held = annotated(labels)
        return crossing_slices(labels) or {fewest: held}
    for axis, indices in slices.items():
        if axis not in (0, 1, 2):
            raise InputError(f"slices are along axis 0 (z), 1 (y) or 2 (x); got axis {axis!r}")
        wrong = [k for k in indices if not 0 <= k < labels.shape[axis]]
        if wrong:
            raise InputError(f"there is no slice {wrong[0]} along axis {axis}: the volume has {labels.shape[axis]}")
    return slices
