"""`propagate`: a volume of which some slices are painted is filled, at once or by a network that learns the slices."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, with_margin
from napari_medseg.arrays.views import onto
from napari_medseg.config import PropagateConfig, configured
from napari_medseg.errors import InputError, warn
from napari_medseg.events import Event, Finished, Notice, Progress, Work, finishing, result_of
from napari_medseg.geometry import Triple
from napari_medseg.interactive import propagation
from napari_medseg.interactive.propagation import PaintedSlices, Slices
from napari_medseg.transforms.annotated import only_annotated
from napari_medseg.volume import MAX_LABEL, Grid, Segmentation, Volume, require_same_grid

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

Train = Callable[..., Iterator[Event]]
"""`iter_train`, or what has its arguments and its events."""

FEWEST = 3
"""Painted slices that hold a label, which a network needs to learn from."""
_MARGIN = 0.5
"""Of the painted structures' longest extent: what lies farther from them is neither learned from nor filled."""
_LEAST_MARGIN = 12
"""In voxels."""
_MOST_VOXELS = 2**21
"""Of the part that is learned, at the spacing of the network: larger ones are seen more coarsely."""
_NO_CHECKPOINT = 10_000.0
"""In minutes: nobody resumes such a training."""


def propagate(
    volume: Volume,
    some_slices: Segmentation,
    *,
    slices: Slices | None = None,
    model: Model | str | Path | None = None,
    config: PropagateConfig | None = None,
    **knobs: Any,
) -> Segmentation:
    """Segment a volume of which some slices are annotated; the annotated slices come back as they are.

    some_slices: labels on the volume's grid, empty but for the annotated slices. slices: {axis: indices} of these; by
    default those that hold a label, along the axis that has the fewest, or along several axes where they look painted
    so. A label that an annotated slice does not hold is not there. model: a volumetric memory network ("mem3d").
    config, or knobs: the fields of PropagateConfig, above all method. With method="learn" a small network learns the
    annotated slices alone and fills the part around them; with fewer than three slices that hold a label, "auto" fills
    the volume instead, with a warning.

    Raises GridMismatchError, and InputError where nothing is annotated, a slice is not there, a label crosses a slice
    that was painted for others along another axis, or method and model do not go together.
    """
    events = iter_propagate(volume, some_slices, slices=slices, model=model, config=config, **knobs)
    found: Segmentation = result_of(_with_warnings(events))
    return found


def iter_propagate(
    volume: Volume,
    some_slices: Segmentation,
    *,
    slices: Slices | None = None,
    model: Model | str | Path | None = None,
    config: PropagateConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """`propagate`, step by step: Progress, a Notice where learn gives way, Finished with the Segmentation.

    `close()` cancels before the next step.
    """
    return finishing(filling(volume, some_slices, configured(PropagateConfig, config, knobs), slices, model))


def filling(
    volume: Volume,
    some_slices: Segmentation,
    config: PropagateConfig,
    slices: Slices | None = None,
    model: Model | str | Path | None = None,
    train: Train | None = None,
) -> Work[Segmentation]:
    """The work of `iter_propagate`. train: by default `iter_train`."""
    if config.method != "learn":
        yield from ()
        return propagation.propagate(volume, some_slices, method=config.method, slices=slices, model=model)
    if model is not None:
        raise InputError(f"method='learn' trains a network of its own: leave model={model!r} out")
    some_slices = onto(some_slices, volume.grid)
    require_same_grid(volume, some_slices, "the volume", "the annotated slices")
    painted = PaintedSlices.of(some_slices, slices)
    held = sum(bool(painted.labels[plane].any()) for plane in painted.planes)
    if held < FEWEST:
        yield Notice(f"learn needs {FEWEST} painted slices that hold a label, and got {held}: filled at once instead")
        return propagation.propagate(volume, some_slices, slices=slices)
    box = _around(painted, volume.grid)
    part = _part(volume, box)
    found = yield from _learning(part, _known(painted, box, part.grid), set(painted.slices), config, train)
    data = np.zeros_like(painted.labels)
    data[box] = np.asarray(found.data[...])
    painted.put_into(data)
    return Segmentation(data, volume.grid, painted.names, name=some_slices.name)


def _around(painted: PaintedSlices, grid: Grid) -> Box:
    """The box of the painted labels, with a margin."""
    (box,) = ndimage.find_objects((painted.labels > 0).astype(np.int8))
    longest = max((side.stop - side.start) * step for side, step in zip(box, grid.spacing, strict=True))
    margin = [max(_LEAST_MARGIN, math.ceil(_MARGIN * longest / step)) for step in grid.spacing]
    return with_margin(box, grid.shape, margin)


def _part(volume: Volume, box: Box) -> Volume:
    """The box of a volume as a volume of its own, in memory."""
    data = np.asarray(volume.data[(slice(None), *box)])
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.index_to_world([side.start for side in box])
    return replace(volume, data=data, grid=Grid((data.shape[1], data.shape[2], data.shape[3]), affine))


def _known(painted: PaintedSlices, box: Box, grid: Grid) -> Segmentation:
    """The labels of a box; what is not in a painted slice is not annotated."""
    slices = {
        axis: [k - box[axis].start for k in indices if box[axis].start <= k < box[axis].stop]
        for axis, indices in painted.slices.items()
    }
    labels = Segmentation(painted.labels[box], grid, painted.names)
    return only_annotated(labels, ignore_label=MAX_LABEL, slices=slices)


def _learning(
    part: Volume, known: Segmentation, painted_along: Collection[int], config: PropagateConfig, train: Train | None
) -> Work[Segmentation]:
    """Train a network on the part, and segment the part by it. painted_along: the axes of the painted slices."""
    from napari_medseg.inference.engine import iter_segment
    from napari_medseg.training.fit import iter_train

    budget = {"minutes": config.minutes} if config.epochs is None else {"epochs": config.epochs}
    options: dict[str, Any] = {
        **budget,
        "ignore_label": MAX_LABEL,
        "spacing_zyx_mm": _coarse_enough(part.grid, painted_along),
        "val": 0,
        "seed": config.seed,
        "device": config.device,
        "checkpoint_minutes": _NO_CHECKPOINT,
        "report": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        events = (train or iter_train)([(part, known)], out=Path(folder) / "learned.safetensors", **options)
        model = yield from _progress(events)
        found: Segmentation = yield from _progress(iter_segment(part, model, device=config.device, instances="none"))
        return found


def _progress(events: Iterator[Event]) -> Work[Any]:
    """The progress of a public generator; returns its result. What it starts and fills is no news here."""
    with closing(_closable(events)) as running:  # a training that is cancelled writes its model before its folder goes
        for event in running:
            if isinstance(event, Progress):
                yield event
            elif isinstance(event, Finished):
                return event.result
    raise AssertionError("public generators end with Finished")


def _closable(events: Iterator[Event]) -> Generator[Event, None, None]:
    yield from events


def _with_warnings(events: Iterator[Event]) -> Iterator[Event]:
    """The events, whose notices are warnings too: who calls `propagate` sees no events."""
    for event in events:
        if isinstance(event, Notice):
            warn(event.message)
        yield event


def _coarse_enough(grid: Grid, painted_along: Collection[int]) -> Triple | None:
    """The spacing at which a part has few enough voxels, the finest axes made coarser first; None for its own.

    Painted slices stay where they are: the axes that they lie along keep their spacing.
    """
    spacing = np.array(grid.spacing)
    free = np.array([axis not in painted_along for axis in range(3)])
    if not free.any():
        free[:] = True
    extent = spacing * grid.shape
    if math.prod(grid.shape) <= _MOST_VOXELS:
        return None
    coarsest = np.geomspace(spacing.min(), extent.max(), 256)
    coarser = (np.where(free, np.maximum(spacing, step), spacing) for step in coarsest)
    z, y, x = next(some for some in coarser if np.prod(extent / some) <= _MOST_VOXELS).tolist()
    return z, y, x
