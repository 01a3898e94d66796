"""The steps, and the list of them that a model file holds. Labels are changed in place, block by block.

Arrays are numpy or zarr, (Z, Y, X). Memory holds some blocks and planes of them, and what is known of their connected
parts: it does not grow with the planes of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from napari_medseg.arrays.boxes import BLOCK_VOXELS, Box
from napari_medseg.arrays.label_boxes import finding_boxes
from napari_medseg.config import CleanConfig, knobs_of
from napari_medseg.events import Progress, Work
from napari_medseg.inference.cleaning.parts import all_but_largest, filling_holes, islands, removing
from napari_medseg.inference.cleaning.smoothing import reached, smoothing
from napari_medseg.volume import Grid, Segmentation

Step = Callable[[Any, Mapping[int, Box], Grid, CleanConfig, int], Work[None]]
"""(array, {label to change: a box that holds it}, grid, knobs, voxels of a block): changes the array in place.

Yields a Filled per box that was written, and Progress."""


_DOES = {
    "interpolate": "interpolate",
    "fill_holes": "fill holes",
    "smooth_mm": "smooth",
    "islands_ml": "remove islands",
    "largest": "keep the largest part",
}
"""{knob: what its step does}, for the progress."""


def cleaning_labels(result: Segmentation, steps: Sequence[CleanConfig], voxels: int = BLOCK_VOXELS) -> Work[None]:
    """Do the steps that a model asks for to labels that are all there, in place. voxels: of a block.

    Yields the steps' Progress, and a Filled per block that has changed.
    """
    for config in steps:
        yield from cleaning(result.data, result.grid, config, STEPS, voxels=voxels)


def cleaning(
    labels: Any, grid: Grid, config: CleanConfig, steps: Mapping[str, Step], *, voxels: int = BLOCK_VOXELS
) -> Work[None]:
    """Do those of some steps that a config asks for, in their order; the labels of a step in ascending order."""
    for name in steps_asked_for(config, steps):
        boxes = yield from finding_boxes(labels, voxels, _DOES[name])
        chosen = {k: boxes[k] for k in sorted(boxes.keys() & (config.labels or boxes.keys()))}
        yield from steps[name](labels, chosen, grid, config, voxels)


def changed_knobs(config: CleanConfig) -> dict[str, Any]:
    """{knob: value} of those that differ from the defaults, as a script would give them."""
    values = {name: (getattr(config, name), knob.default) for name, knob in knobs_of(CleanConfig).items()}
    return {name: value for name, (value, default) in values.items() if value != default}


def steps_asked_for(config: CleanConfig, steps: Mapping[str, Step]) -> list[str]:
    """Those of the steps that a config asks for, in their order."""
    changed = changed_knobs(config)
    return [name for name in steps if name in changed]


def _filled(labels: Any, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig, voxels: int) -> Work[None]:
    yield from filling_holes(labels, boxes, voxels)


def _smoothed(labels: Any, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig, voxels: int) -> Work[None]:
    if not config.keep_topology:
        yield from smoothing(labels, boxes, config.smooth_mm, grid.spacing, voxels)
        return
    from napari_medseg.inference.cleaning.topology import towards
    from napari_medseg.io.zarr.format import scratch_like

    with scratch_like(labels) as smooth:
        yield from smoothing(labels, boxes, config.smooth_mm, grid.spacing, voxels, into=smooth)
        for done, (label, box) in enumerate(boxes.items(), start=1):
            area = reached(box, config.smooth_mm, grid.spacing, grid.shape)
            yield from towards(labels, label, smooth, area, voxels)
            yield Progress(done, len(boxes), "labels smoothed")


def _without_islands(labels: Any, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig, voxels: int) -> Work[None]:
    least = config.islands_ml / (grid.voxel_volume_mm3 / 1000)
    yield from removing(labels, boxes, partial(islands, least_voxels=least), config.connectivity, voxels)


def _largest(labels: Any, boxes: Mapping[int, Box], grid: Grid, config: CleanConfig, voxels: int) -> Work[None]:
    yield from removing(labels, boxes, all_but_largest, config.connectivity, voxels)


STEPS: Mapping[str, Step] = MappingProxyType(
    {"fill_holes": _filled, "smooth_mm": _smoothed, "islands_ml": _without_islands, "largest": _largest}
)
"""{knob that asks for it: step}, in the order in which they are done."""
