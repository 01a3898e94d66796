"""`clean`: steps that make each label of a segmentation better, without an image and without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import Box, with_margin
from napari_medseg.arrays.label_boxes import finding_boxes
from napari_medseg.config import CleanConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Progress, Work, finishing, run_to_end
from napari_medseg.inference.cleaning.steps import STEPS, Step, changed_knobs, cleaning
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.refinement.masks import between_slices
from napari_medseg.transforms.annotated import sparse_axis
from napari_medseg.volume import Grid, Segmentation

PROVENANCE_KEY = "clean"
"""Where the provenance of cleaned labels holds the steps that were done."""


def clean(segmentation: Segmentation, *, config: CleanConfig | None = None, **knobs: Any) -> Segmentation:
    """Labels with small islands removed, holes filled, borders smoothed, or slices filled in between painted ones.

    The steps that are asked for are done in this order: interpolate, fill_holes, smooth_mm, islands_ml, largest. A
    label grows into the background only; smooth_mm also moves voxels between the labels that it changes. Sizes are in
    ml and mm, by the grid. The whole array is loaded. config, or knobs: the fields of CleanConfig.

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
    _require_there(segmentation, (yield from finding_boxes(data)), config)
    for event in cleaning(data, segmentation.grid, config, _STEPS):
        if isinstance(event, Progress):
            yield event
    return replace(segmentation, data=data, provenance={**segmentation.provenance, PROVENANCE_KEY: changed})


def _require_there(segmentation: Segmentation, there: Mapping[int, Box], config: CleanConfig) -> None:
    """Raise InputError for a label that is to be changed and is not there."""
    missing = [label for label in config.labels or () if label not in there]
    if missing:
        held = ", ".join(map(str, sorted(there))) or "none"
        raise InputError(f"{segmentation.name or 'the segmentation'} has no label {missing[0]}: it has {held}")


def _interpolated(data: Any, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig, voxels: int) -> Work[None]:
    for done, (label, box) in enumerate(boxes.items(), start=1):
        part = data[with_margin(box, grid.shape)]
        mask = part == label
        axis = sparse_axis(mask) if config.interpolate == "auto" else "zyx".index(config.interpolate)
        if axis is not None:
            part[between_slices(mask, axis, grid.spacing) & (part == 0)] = label
        yield Progress(done, len(boxes), "labels done")


_STEPS: Mapping[str, Step] = MappingProxyType({"interpolate": _interpolated, **STEPS})
"""{knob that asks for it: step}, in the order in which they are done."""
