"""`propagate`: from some annotated slices to the whole volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError
from napari_medseg.geometry import Triple
from napari_medseg.interactive.engine import signed_distance
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.objects import Segmenter
from napari_medseg.prompts import SliceMask
from napari_medseg.volume import Segmentation, Volume, require_same_grid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medseg.models.file import Model

PropagationMethod = Literal["auto", "geodesic", "interpolation", "memory"]
"""How slices become a volume. interpolation: between shapes, without the image. geodesic: slices and their shapes as
prompts. memory: slice by slice, by the volumetric memory network that is given. auto: the best by figures, which is
geodesic; memory where a model is given."""

Labels = npt.NDArray[np.integer[Any]]
Slices = Mapping[int, Sequence[int]]
"""{axis: the indices of the slices along it that are annotated}."""


def propagate(
    volume: Volume,
    some_slices: Segmentation,
    *,
    method: PropagationMethod = "auto",
    slices: Slices | None = None,
    model: Model | str | Path | None = None,
) -> Segmentation:
    """Segment a volume of which some slices are annotated; the annotated slices come back as they are.

    some_slices: labels on the volume's grid, empty but for the annotated slices. slices: which they are; by default
    those that hold a label, along the axis that has the fewest. A label that an annotated slice does not hold is not
    there. model: a volumetric memory network ("mem3d"). Raises GridMismatchError, and InputError where nothing is
    annotated, a slice is not there, or method and model do not go together.
    """
    if method not in get_args(PropagationMethod):
        raise InputError(f"method is one of {', '.join(get_args(PropagationMethod))}; got {method!r}")
    if method not in ("auto", "memory") if model is not None else method == "memory":
        raise InputError(f"method='memory' and a model go together; got method={method!r} and model={model!r}")
    require_same_grid(volume, some_slices, "the volume", "the annotated slices")
    labels = np.asarray(some_slices.data[:, :, :])
    chosen = _chosen(labels, slices)
    if (method == "interpolation" or model is not None) and len(chosen) > 1:
        by = "interpolation" if model is None else "a memory network"
        raise InputError(f"{by} takes slices along one axis; got {len(chosen)}: use method='geodesic'")
    ids = [int(k) for k in np.unique(labels) if k]
    if not ids:
        raise InputError(f"{some_slices.name or 'the annotated slices'} hold no label: paint at least one slice")
    if model is not None:
        from napari_medseg.interactive.guided.memory import by_memory

        ((axis, indices),) = chosen.items()
        data = by_memory(volume, labels, ids, axis, indices, model)
    else:
        by_method = _by_shapes if method == "interpolation" else _by_prompts
        data = by_method(volume, labels, ids, chosen)
    for axis, indices in chosen.items():
        for index in indices:
            where = tuple(index if a == axis else slice(None) for a in range(3))
            data[where] = labels[where]
    names = {k: some_slices.label_name(k) for k in ids}
    return Segmentation(data, volume.grid, names, name=some_slices.name)


def annotated(labels: Labels) -> tuple[int, list[int]]:
    """(the axis, the slices along it) that hold the labels: those of the axis that has the fewest."""
    held = [np.flatnonzero((labels != 0).any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
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
    """Every annotated slice as a prompt. Each label is found by itself, and the likelier one takes a voxel."""
    segmenter = Segmenter(volume)
    data, likeliest = np.zeros_like(labels), np.full(labels.shape, 0.5, np.float32)
    numbers = count()
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
        prompts.sort(key=lambda prompt: not prompt.positive)
        shape = volume.grid.shape
        box, probability = segmenter.probability({next(numbers): marks_of(prompt, shape) for prompt in prompts})
        likelier = probability > likeliest[box]
        data[box][likelier], likeliest[box][likelier] = label, probability[likelier]
    return data


def _chosen(labels: Labels, slices: Slices | None) -> Slices:
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
