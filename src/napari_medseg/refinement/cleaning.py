"""`clean`: steps that make each label of a segmentation better, without an image and without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.config import CleanConfig, configured, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Progress, Work, finishing, run_to_end
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.metrics.pairwise.overlap import tally_in_steps
from napari_medseg.metrics.pairwise.surface import with_margin
from napari_medseg.refinement import masks
from napari_medseg.refinement.masks import Mask
from napari_medseg.refinement.smoothing import smooth_in_steps
from napari_medseg.transforms.annotated import sparse_axis
from napari_medseg.volume import Grid, Segmentation

Labels = npt.NDArray[np.integer[Any]]
Step = Callable[[Labels, Mapping[int, Box], Grid, CleanConfig], Work[None]]
"""Changes the labels whose boxes it gets, in place."""

PROVENANCE_KEY = "clean"
"""Where the provenance of cleaned labels holds the steps that were done."""


def clean(segmentation: Segmentation, *, config: CleanConfig | None = None, **knobs: Any) -> Segmentation:
    """Labels with small islands removed, holes filled, borders smoothed, or slices filled in between painted ones.

    The steps that are asked for are done in this order: interpolate, fill_holes, smooth_mm, islands_ml, largest. A
    label grows into the background only, never into another label. Sizes are in ml and mm, by the grid. The whole
    array is loaded. config, or knobs: the fields of CleanConfig.

    Raises InputError where no step is asked for, where a label of `labels` is not there, and for values out of bounds.
    """
    return run_to_end(clean_in_steps(segmentation, configured(CleanConfig, config, knobs)))


def iter_clean(segmentation: Segmentation, *, config: CleanConfig | None = None, **knobs: Any) -> Iterator[Event]:
    """`clean`, step by step: progress, and `Finished` with the Segmentation at the end."""
    return finishing(clean_in_steps(segmentation, configured(CleanConfig, config, knobs)))


def clean_in_steps(segmentation: Segmentation, config: CleanConfig) -> Work[Segmentation]:
    """`clean`, label by label."""
    require_segmentation(segmentation, "the segmentation")
    changed = changed_knobs(config)
    if not changed.keys() & _STEPS.keys():
        raise InputError(f"nothing to do: ask for one or more of {', '.join(_STEPS)}")
    data = np.array(segmentation.data[:, :, :])
    boxes = (yield from tally_in_steps(data, data)).boxes
    labels = _chosen(segmentation, boxes, config)
    for name in [name for name in _STEPS if name in changed]:
        # After a step a label may be larger, or gone.
        boxes = (yield from tally_in_steps(data, data)).boxes
        yield from _STEPS[name](data, {k: boxes[k] for k in labels if k in boxes}, segmentation.grid, config)
    return replace(segmentation, data=data, provenance={**segmentation.provenance, PROVENANCE_KEY: changed})


def changed_knobs(config: CleanConfig) -> dict[str, Any]:
    """{knob: value} of those that differ from the defaults, as a script would give them."""
    values = {name: (getattr(config, name), knob.default) for name, knob in knobs_of(CleanConfig).items()}
    return {name: value for name, (value, default) in values.items() if value != default}


def _chosen(segmentation: Segmentation, boxes: Mapping[int, Box], config: CleanConfig) -> list[int]:
    """The labels to change, ascending."""
    if not config.labels:
        return sorted(boxes)
    missing = [label for label in config.labels if label not in boxes]
    if missing:
        held = ", ".join(map(str, sorted(boxes))) or "none"
        raise InputError(f"{segmentation.name or 'the segmentation'} has no label {missing[0]}: it has {held}")
    return sorted(set(config.labels))


def _each(
    change: Callable[[Mask, Grid, CleanConfig], Mask],
    data: Labels,
    boxes: Mapping[int, Box],
    grid: Grid,
    config: CleanConfig,
) -> Work[None]:
    """A step that looks at the mask of one label after the other."""
    for done, (label, box) in enumerate(boxes.items(), start=1):
        part = data[with_margin(box, grid.shape)]
        before = part == label
        after = change(before, grid, config)
        part[before & ~after] = 0
        part[after & (part == 0)] = label
        yield Progress(done, len(boxes), "labels done")


def _interpolated(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    axis = sparse_axis(mask) if config.interpolate == "auto" else "zyx".index(config.interpolate)
    return mask if axis is None else masks.between_slices(mask, axis, grid.spacing)


def _filled(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.without_holes(mask)


def _smoothed(data: Labels, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig) -> Work[None]:
    yield from smooth_in_steps(data, boxes, config.smooth_mm, grid.spacing)


def _without_islands(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.without_islands(mask, config.islands_ml, grid.voxel_volume_mm3 / 1000, config.connectivity)


def _largest(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.largest_part(mask, config.connectivity)


_STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "interpolate": partial(_each, _interpolated),
        "fill_holes": partial(_each, _filled),
        "smooth_mm": _smoothed,
        "islands_ml": partial(_each, _without_islands),
        "largest": partial(_each, _largest),
    }
)
"""{knob that asks for it: step}, in the order in which they are done."""
