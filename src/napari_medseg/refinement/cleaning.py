"""`clean`: steps that make each label of a segmentation better, without an image and without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import Box
from napari_medseg.config import CleanConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Work, finishing, run_to_end
from napari_medseg.inference.cleaning.masks import Mask
from napari_medseg.inference.cleaning.steps import STEPS, Step, changed_knobs, each, steps_asked_for
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.metrics.pairwise.overlap import tally_in_steps
from napari_medseg.refinement.masks import between_slices
from napari_medseg.transforms.annotated import sparse_axis
from napari_medseg.volume import Grid, Segmentation

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
    for name in steps_asked_for(config, _STEPS):
        # After a step a label may be larger, or gone.
        boxes = (yield from tally_in_steps(data, data)).boxes
        yield from _STEPS[name](data, {k: boxes[k] for k in labels if k in boxes}, segmentation.grid, config)
    return replace(segmentation, data=data, provenance={**segmentation.provenance, PROVENANCE_KEY: changed})


def _chosen(segmentation: Segmentation, boxes: Mapping[int, Box], config: CleanConfig) -> list[int]:
    """The labels to change, ascending."""
    if not config.labels:
        return sorted(boxes)
    missing = [label for label in config.labels if label not in boxes]
    if missing:
        held = ", ".join(map(str, sorted(boxes))) or "none"
        raise InputError(f"{segmentation.name or 'the segmentation'} has no label {missing[0]}: it has {held}")
    return sorted(set(config.labels))


def _interpolated(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    axis = sparse_axis(mask) if config.interpolate == "auto" else "zyx".index(config.interpolate)
    return mask if axis is None else between_slices(mask, axis, grid.spacing)


_STEPS: Mapping[str, Step] = MappingProxyType({"interpolate": partial(each, _interpolated), **STEPS})
"""{knob that asks for it: step}, in the order in which they are done."""
