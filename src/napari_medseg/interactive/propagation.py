"""`propagate`: from some annotated slices to the whole volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3
from napari_medseg.interactive.engine import signed_distance
from napari_medseg.interactive.masks import LabelView, SparseMask
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import SliceMask
from napari_medseg.volume import Segmentation, Volume, require_same_grid

PropagationMethod = Literal["auto", "geodesic", "interpolation"]
"""How slices become a volume. interpolation: between shapes, without the image. geodesic: slices and their shapes as
prompts. auto: the best by figures, which is geodesic."""

Slices = Mapping[int, Sequence[int]]
"""{axis: the indices of the slices along it that are annotated}."""


def propagate(
    volume: Volume, some_slices: Segmentation, *, method: PropagationMethod = "auto", slices: Slices | None = None
) -> Segmentation:
    """Segment a volume of which some slices are annotated; the annotated slices come back as they are.

    some_slices: labels on the volume's grid, empty but for the annotated slices. slices: which they are; by default
    those that hold a label, along the axis that has the fewest. A label that an annotated slice does not hold is not
    there. Raises GridMismatchError, and InputError where nothing is annotated or a slice is not there.
    """
    if method not in get_args(PropagationMethod):
        raise InputError(f"method is one of {', '.join(get_args(PropagationMethod))}; got {method!r}")
    require_same_grid(volume, some_slices, "the volume", "the annotated slices")
    labels = np.asarray(some_slices.data[:, :, :])
    chosen = _chosen(labels, slices)
    ids = [int(k) for k in np.unique(labels) if k]
    if not ids:
        raise InputError(f"{some_slices.name or 'the annotated slices'} hold no label: paint at least one slice")
    masks = (
        {k: SparseMask.of(_everything(labels.shape), interpolated(labels == k, chosen)) for k in ids}
        if method == "interpolation"
        else _by_prompts(volume, labels, ids, chosen)
    )
    kept = {k: _as_painted(masks.get(k, SparseMask.empty()), labels, k, chosen) for k in ids}
    data = np.asarray(LabelView(volume.grid.shape, kept)[...])
    names = {k: some_slices.label_name(k) for k in ids}
    return Segmentation(data, volume.grid, names, name=some_slices.name)


def annotated(labels: npt.NDArray[np.integer]) -> tuple[int, list[int]]:
    """(the axis, the slices along it) that hold the labels: those of the axis that has the fewest."""
    held = [np.flatnonzero((labels != 0).any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    axis = min(range(3), key=lambda a: len(held[a]))
    return axis, held[axis].tolist()


def interpolated(mask: npt.NDArray[np.bool_], slices: Slices) -> npt.NDArray[np.bool_]:
    """Shapes between annotated slices of one axis, from their signed distances (Raya and Udupa, IEEE TMI 1990)."""
    ((axis, indices),) = slices.items()
    planes = np.moveaxis(mask, axis, 0)
    out = np.zeros_like(planes)
    painted = sorted(indices)
    for index in painted:
        out[index] = planes[index]
    for a, b in pairwise(painted):
        if not planes[a].any() or not planes[b].any():
            continue
        below, above = signed_distance(planes[a]), signed_distance(planes[b])
        for k in range(a + 1, b):
            out[k] = (below * (b - k) + above * (k - a)) / (b - a) < 0
    return np.moveaxis(out, 0, axis)


def _by_prompts(
    volume: Volume, labels: npt.NDArray[np.integer], ids: Sequence[int], slices: Slices
) -> dict[int, SparseMask]:
    """Every annotated slice as a prompt, a label at a time; all prompts of a label count at once."""
    session = InteractiveSession(volume)
    for label in ids:
        prompts = []
        for axis, indices in slices.items():
            for index in indices:
                mask = np.take(labels, index, axis=axis) == label
                # A slice without the label says that it is not there.
                prompts.append(
                    SliceMask(mask, axis, index, label=label)
                    if mask.any()
                    else SliceMask(np.ones_like(mask), axis, index, label=label, positive=False)
                )
        session.add_all(sorted(prompts, key=lambda prompt: not prompt.positive))
    return {label: session.mask(label) for label in ids}


def _as_painted(mask: SparseMask, labels: npt.NDArray[np.integer], label: int, slices: Slices) -> SparseMask:
    """The mask, with the annotated slices as they are."""
    box = _everything(labels.shape)
    full = mask.within(box)
    for axis, indices in slices.items():
        for index in indices:
            where = tuple(index if a == axis else slice(None) for a in range(3))
            full[where] = labels[where] == label
    return SparseMask.of(box, full)


def _chosen(labels: npt.NDArray[np.integer], slices: Slices | None) -> Slices:
    if slices is None:
        fewest, held = annotated(labels)
        return {fewest: held}
    for axis, indices in slices.items():
        if axis not in (0, 1, 2):
            raise InputError(f"slices are along axis 0 (z), 1 (y) or 2 (x); got axis {axis!r}")
        wrong = [k for k in indices if not 0 <= k < labels.shape[axis]]
        if wrong:
            raise InputError(f"there is no slice {wrong[0]} along axis {axis}: the volume has {labels.shape[axis]}")
    return slices


def _everything(shape: tuple[int, ...] | Shape3) -> tuple[slice, slice, slice]:
    z, y, x = (slice(0, n) for n in shape)
    return z, y, x
