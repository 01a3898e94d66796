"""A run that somebody looks on: a large image's labels go into a store that survives everything, and into the view."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Filled, Finished, Notice, Started
from napari_medseg.io.zarr.format import has_begun, is_unfinished
from napari_medseg.models.file import Model
from napari_medseg.models.several import ModelSet, models_of
from napari_medseg.volume import Outline, Segmentation, Volume

LARGE_VOXELS = 1 << 26
"""Voxels from which on a run is long enough to be worth resuming: 512 x 512 x 256."""
_SHOWN_BYTES = 2 << 30
"""Labels up to this size are copied into memory to be shown: a view must not decode chunks while it is drawn."""


def is_large(image: Volume | Outline) -> bool:
    """Whether the labels of an image go into a store while they are made."""
    return math.prod(image.grid.shape) >= LARGE_VOXELS


def store_for(image: Path | None, name: str, model: Model | ModelSet) -> Path:
    """Where the labels of a large image go: beside its file, or among temporary files; what is complete there stays.

    image: the file; None for an image that has none. A run that was broken off is found again.
    """
    beside = image is not None and os.access(image.parent, os.W_OK)
    folder = image.parent if image is not None and beside else Path(tempfile.gettempdir())
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{name}-{_path(model).stem}")
    number, path = 1, folder / f"{stem}.labels.zarr"
    while path.exists() and not is_unfinished(path):
        number += 1
        path = folder / f"{stem}-{number}.labels.zarr"
    return path


def iter_segment_into(volume: Volume, model: Model | ModelSet, out: Path, config: SegmentConfig) -> Iterator[Event]:
    """`iter_segment` into a store, with labels that can be shown: of up to 2 GiB, in memory.

    What an earlier run of the same kind left at `out` is continued; what another left is replaced. The array in
    `Started` fills with each `Filled`.
    """
    from napari_medseg.inference.engine import iter_segment

    is_resumable = isinstance(model, Model)  # the models of a set run one after the other, from the first on
    events = iter_segment(volume, model, out=out, resume=is_resumable and has_begun(out), config=config)
    try:
        first = next(events)
    except InputError:  # the image, the model or an option is another: what is wrong with this run is told again
        events = iter_segment(volume, model, out=out, config=config)
        first = next(events)
    assert isinstance(first, Started), "a run begins with its plan"
    stored: Segmentation = first.result
    shown = stored
    if math.prod(stored.grid.shape) * stored.data.dtype.itemsize <= _SHOWN_BYTES:
        shown = replace(stored, data=np.asarray(stored.data[...]))
    yield replace(first, result=shown)
    later = "continues when it is started again" if is_resumable else "begins anew"
    yield Notice(f"the labels go into {out}; a run that is cancelled {later}")
    for event in events:
        if isinstance(event, Filled) and shown is not stored:
            shown.data[event.box] = stored.data[event.box]  # type: ignore[index]
        yield Finished(shown) if isinstance(event, Finished) else event


def _path(model: Model | ModelSet) -> Path:
    """The file that stands for a model or a set."""
    return model.path or models_of(model)[0].path
