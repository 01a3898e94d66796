"""The steps, label by label, and the list of them that a model file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, block_shape, blocks, chunks_of, shape_of, whole
from napari_medseg.config import CleanConfig, knobs_of
from napari_medseg.events import Filled, Progress, Work
from napari_medseg.inference.cleaning import masks
from napari_medseg.inference.cleaning.masks import Mask
from napari_medseg.inference.cleaning.smoothing import smooth_in_steps
from napari_medseg.metrics.pairwise.overlap import tally_in_steps
from napari_medseg.metrics.pairwise.surface import with_margin
from napari_medseg.volume import Grid, Segmentation

Labels = npt.NDArray[np.integer[Any]]
Step = Callable[[Labels, Mapping[int, Box], Grid, CleanConfig], Work[None]]
"""Changes the labels whose boxes it gets, in place."""


def cleaning_labels(result: Segmentation, steps: Sequence[CleanConfig]) -> Work[None]:
    """Do the steps that a model asks for to labels that are all there, in place. The labels are loaded as a whole.

    Yields the steps' Progress, and a Filled per block that has changed.
    """
    if not steps:
        return
    data = np.array(result.data[:, :, :])
    for config in steps:
        for name in steps_asked_for(config, STEPS):
            boxes = (yield from tally_in_steps(data, data)).boxes
            chosen = boxes if config.labels is None else {k: boxes[k] for k in config.labels if k in boxes}
            yield from STEPS[name](data, chosen, result.grid, config)
    target: Any = result.data
    for box in blocks(whole(shape_of(target)), block_shape(shape_of(target), chunks_of(target))):
        if not np.array_equal(np.asarray(target[box]), data[box]):
            target[box] = data[box]
            yield Filled(box)


def changed_knobs(config: CleanConfig) -> dict[str, Any]:
    """{knob: value} of those that differ from the defaults, as a script would give them."""
    values = {name: (getattr(config, name), knob.default) for name, knob in knobs_of(CleanConfig).items()}
    return {name: value for name, (value, default) in values.items() if value != default}


def steps_asked_for(config: CleanConfig, steps: Mapping[str, Step]) -> list[str]:
    """Those of the steps that a config asks for, in their order."""
    changed = changed_knobs(config)
    return [name for name in steps if name in changed]


def each(
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


def _filled(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.without_holes(mask)


def _smoothed(data: Labels, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig) -> Work[None]:
    if not config.keep_topology:
        yield from smooth_in_steps(data, boxes, config.smooth_mm, grid.spacing)
        return
    from napari_medseg.inference.cleaning.topology import towards

    smooth = data.copy()
    yield from smooth_in_steps(smooth, boxes, config.smooth_mm, grid.spacing)
    for done, label in enumerate(boxes, start=1):
        before = data == label
        after = towards(before, smooth == label, (data != 0) & ~before)
        data[before & ~after] = 0
        data[after & ~before] = label
        yield Progress(done, len(boxes), "labels smoothed")


def _without_islands(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.without_islands(mask, config.islands_ml, grid.voxel_volume_mm3 / 1000, config.connectivity)


def _largest(mask: Mask, grid: Grid, config: CleanConfig) -> Mask:
    return masks.largest_part(mask, config.connectivity)


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "fill_holes": partial(each, _filled),
        "smooth_mm": _smoothed,
        "islands_ml": partial(each, _without_islands),
        "largest": partial(each, _largest),
    }
)
"""{knob that asks for it: step}, in the order in which they are done."""
