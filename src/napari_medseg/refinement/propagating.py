"""`propagate`, whose slices are found where they are not given: along one axis, or along several at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseg.config import PropagateConfig
from napari_medseg.events import Event
from napari_medseg.interactive.propagation import Slices
from napari_medseg.refinement import filling
from napari_medseg.transforms.annotated import crossing_slices
from napari_medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medseg.models.file import Model


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
    slices = _found(some_slices) if slices is None else slices
    return filling.propagate(volume, some_slices, slices=slices, model=model, config=config, **knobs)


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
    slices = _found(some_slices) if slices is None else slices
    return filling.iter_propagate(volume, some_slices, slices=slices, model=model, config=config, **knobs)


def _found(some_slices: Segmentation) -> Slices | None:
    """The slices along several axes; None leaves the one axis to be found."""
    return crossing_slices(np.asarray(some_slices.data[...]))
