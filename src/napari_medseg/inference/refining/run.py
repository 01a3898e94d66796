"""The work of refining: labels of whatever made them, or of a model that has just segmented the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg._version import __version__
from napari_medseg.config import RefineConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Filled, Notice, Started, Work
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.suitability import require_channels
from napari_medseg.io import read_segmentation
from napari_medseg.io.disk import locks
from napari_medseg.io.zarr.format import filling_labels, is_unfinished
from napari_medseg.models.file import Model
from napari_medseg.models.refining import no_better
from napari_medseg.models.several import ModelSet
from napari_medseg.models.spec import ModelSpec
from napari_medseg.volume import Segmentation, Volume, label_dtype, same_name

MADE_BY = "model_sha256"
"""Where the provenance of labels says which model made them."""
PROVENANCE_KEY = "refined"
"""Where the provenance of refined labels says by what."""
Segment = Callable[[Wanted], Work[Segmentation]]
"""Segments the image, into a store or, without a path, into memory."""


def refining_labels(
    volume: Volume, segmentation: Segmentation, model: Model, config: RefineConfig, out: Path | None = None
) -> Work[Segmentation]:
    """Refine labels of a volume, into a store or, without `out`, into memory; see `iter_refine`."""
    from napari_medseg.inference.refining.engine import load_patch_network, refining, require_refinable

    require_refinable(volume, segmentation, model, config)
    network = load_patch_network(model, config)
    made_by = {**segmentation.provenance, PROVENANCE_KEY: made_with(model)}
    names = dict(model.spec.labels) | dict(segmentation.labels)
    dtype = np.promote_types(np.dtype(segmentation.data.dtype), label_dtype(max(model.spec.labels)))
    filling: AbstractContextManager[Any] = (
        nullcontext(np.zeros(volume.grid.shape, dtype))
        if out is None
        else filling_labels(out, volume.grid, names, dtype=dtype, provenance=made_by)
    )
    with filling as data:
        result = Segmentation(
            data, volume.grid, names, name=segmentation.name, colours=segmentation.colours, provenance=made_by
        )
        events = refining(volume, segmentation, network, config, result)
        yield next(events)
        yield from map(Notice, _doubts(segmentation, model.spec))
        yield from events
    return result


def _doubts(segmentation: Segmentation, spec: ModelSpec) -> list[str]:
    """What the user should know before the run: the refiner is no gain, or learned from another model's errors."""
    assert spec.refines is not None, "the caller looked"
    made_by = segmentation.provenance.get(MADE_BY)
    other = bool(made_by and spec.refines.model) and made_by != spec.refines.model
    told = (
        "the refiner was trained from the errors of another model than the one that made these labels: it may not "
        "better them; train one from that model (train --init)"
    )
    return [*no_better(spec), *([told] if other else [])]


def segmenting_and_refining(
    volume: Volume, segment: Segment, refiner: Model, device: str, wanted: Wanted
) -> Work[Segmentation]:
    """Segment the image, then refine the labels. Where labels go to a store, the first ones lie in a hidden one beside.

    That one is kept where the work is broken off, so that it can be resumed; the refining begins anew.
    """
    config = RefineConfig(device=device)
    if wanted.out is None:
        first = yield from _first(segment(wanted))
        return (yield from refining_labels(volume, first, refiner, config))
    store = locks.partial_beside(wanted.out.with_name(f"{wanted.out.name}.unrefined")).with_suffix(".unrefined.zarr")
    if not wanted.resume:
        locks.remove(store)
    try:
        if store.exists() and not is_unfinished(store):
            first = read_segmentation(store)
        else:
            first = yield from _first(segment(replace(wanted, out=store)))
        refined = yield from refining_labels(volume, first, refiner, config, wanted.out)
        locks.remove(store)
    finally:
        if is_unfinished(store) and not (store / locks.JOURNAL).is_file():
            locks.remove(store)
    return refined


def require_refiner_of(
    refiner: Model, model: Model | ModelSet, volume_or_outline: Any, missing: Sequence[str] = ()
) -> None:
    """Raise InputError unless a refiner knows labels of a model, and has the channels of the image.

    missing: names of channels that the image lacks; a refiner that knows them sees all of them, or nothing.
    """
    from napari_medseg.inference.refining.network import require_refiner

    require_refiner(refiner)
    lacking = [name for name in missing if any(same_name(name, own.name) for own in refiner.spec.channels)]
    if lacking:
        raise InputError(
            f"the refiner {refiner.path} needs the channel {lacking[0]}, which is missing: leave refine out, or give "
            f"the channel"
        )
    require_channels(volume_or_outline, refiner.spec, str(refiner.path))
    labels = model.labels if isinstance(model, ModelSet) else model.spec.labels
    if not set(labels) & set(refiner.spec.labels):
        raise InputError(
            f"the refiner {refiner.path} knows labels {', '.join(map(str, refiner.spec.labels))}, and the model makes "
            f"{', '.join(map(str, labels))}: give the refiner that was trained from this model"
        )


def made_with(model: Model) -> dict[str, object]:
    """What a label file records of a refiner."""
    assert model.spec.refines is not None, "the caller looked"
    return {
        "model_sha256": model.sha256,
        "method": model.spec.refines.method,
        "network": model.spec.network,
        "napari_medseg": __version__,
    }


def described_by(refiner: Model | None) -> Mapping[str, object]:
    """What the provenance of a run says of its refiner; None where there is none."""
    return {PROVENANCE_KEY: None if refiner is None else made_with(refiner)}


def _first(work: Work[Segmentation]) -> Work[Segmentation]:
    """The work of the segmentation, whose labels are not yet those of the run: nothing of them is shown."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            first: Segmentation = end.value
            return first
        if isinstance(event, Started):
            yield Notice(event.message)
        elif not isinstance(event, Filled):
            yield event
