"""`doubts`: an image with a channel for each measure of doubt, window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseg._version import __version__
from napari_medseg.config import DoubtConfig, configured
from napari_medseg.doubt.passes import Look, Passes, looks_of
from napari_medseg.doubt.streaming import Seen, opened, streamed
from napari_medseg.errors import InputError, NotSupportedError, UnknownNameError, did_you_mean
from napari_medseg.events import Event, Started, Work, finishing, result_of
from napari_medseg.inference.plan import InferencePlan
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.results.sink import DOUBTS, doubts_of
from napari_medseg.io.stored import Stored
from napari_medseg.io.zarr.format import filling
from napari_medseg.models.file import Model
from napari_medseg.models.several import AnyModel, ModelSet, as_models
from napari_medseg.registry import shown
from napari_medseg.volume import Volume

KINDS = {
    "entropy": "Entropy of the probabilities, over that of a guess: 0 sure, 1 as good as a guess.",
    "margin": "How far the likeliest class is ahead of the next: 1 sure, 0 a toss.",
    "tta": "Variance of the probabilities over mirror images, summed over the classes.",
    "dropout": "Variance of the probabilities over passes with drop-out, summed over the classes.",
    "ensemble": "Variance of the probabilities over several models, summed over the classes.",
}
"""{measure of doubt: what it is}, in the order of the channels."""


def iter_doubts(
    volume: Volume,
    model: AnyModel | Sequence[AnyModel],
    *,
    kinds: Sequence[str] | None = None,
    out: str | Path | None = None,
    config: DoubtConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Measure the doubts of a model on a volume.

    volume: (C, Z, Y, X), read box by box. model: one, or several of the same labels. kinds: names of KINDS; by default
    all that the model can do. out: a ".zarr" path; without it the image is an array in memory.

    Yields `Started` (with the Volume being filled), a Progress per window, and `Finished` with the Volume: float32, a
    channel for each kind in the order of KINDS, on the volume's grid. The probabilities are those of the model's
    temperature. config, or knobs: the fields of DoubtConfig.
    Raises InputError, UnknownNameError for a kind that does not exist, NotSupportedError for one that the model cannot
    do, ModelFileError or FileError.
    """
    config = configured(DoubtConfig, config, knobs)
    yield from finishing(measuring(volume, model, kinds, None if out is None else Path(out), config))


def doubts(volume: Volume, model: AnyModel | Sequence[AnyModel], **options: Any) -> Volume:
    """The doubts of a model on a volume; the options are those of `iter_doubts`."""
    result: Volume = result_of(iter_doubts(volume, model, **options))
    return result


def measuring(
    volume: Volume,
    model: AnyModel | Sequence[AnyModel],
    kinds: Sequence[str] | None,
    out: Path | None,
    config: DoubtConfig,
) -> Work[Volume]:
    """The work of `iter_doubts`."""
    if out is not None and out.suffix.lower() != ".zarr":
        raise InputError(f"{out}: doubts are streamed into a .zarr folder: end it in .zarr, or write the result")
    chosen = as_models(model)
    if isinstance(chosen, ModelSet):
        raise NotSupportedError("a set of models has no doubts of its own: ask each model by itself")
    names = _named(kinds)
    plan, predictor = opened(volume, chosen, config.device, config.overlap)
    names, looks = (
        _able(names, chosen, plan, predictor, config)
        if kinds is None
        else (names, looks_of(names, chosen, plan, predictor, config))
    )
    network = Passes(predictor, looks, chosen.spec.trust.temperature)
    with _new_image(volume, chosen, names, out) as result:
        yield Started(f"{', '.join(names)}: {plan.describe()}", result, plan)
        yield from _fill(volume, plan, network, names, result.data)
    return result


def _named(kinds: Sequence[str] | None) -> list[str]:
    """The kinds in the order of KINDS."""
    for kind in kinds or ():
        if kind not in KINDS:
            raise UnknownNameError(
                f"unknown kind of doubt {shown(kind)}: {did_you_mean(kind, KINDS)}choose some of {', '.join(KINDS)}"
            )
    if kinds is not None and not kinds:
        raise InputError(f"no kind of doubt is given: choose some of {', '.join(KINDS)}")
    return [kind for kind in KINDS if kinds is None or kind in kinds]


def _able(
    names: Sequence[str], model: Model, plan: InferencePlan, predictor: Predictor, config: DoubtConfig
) -> tuple[list[str], tuple[Look, ...]]:
    """Those of the kinds that the model can do."""
    able, looks = list[str](), tuple[Look, ...]()
    for name in names:
        try:
            looks += looks_of([name], model, plan, predictor, config)
        except NotSupportedError:
            continue
        able.append(name)
    return able, looks


def _fill(
    volume: Volume, plan: InferencePlan, network: Passes, names: Sequence[str], data: Any
) -> Generator[Event, None, None]:
    """Fill an array (C, Z, Y, X)."""
    places = [k for k, name in enumerate(DOUBTS) if name in names]
    for event in streamed(volume, plan, network.predictor, network, len(network.looks)):
        if isinstance(event, Seen):
            of_probabilities = doubts_of(event.logits / network.temperature)[places]
            # Rounding of the blend may leave a variance a little below 0.
            values = torch.cat([of_probabilities, event.further.clamp_min(0)]).cpu().numpy()
            data[(slice(None), *event.box)] = values
        else:
            yield event


@contextmanager
def _new_image(volume: Volume, model: Model, names: Sequence[str], out: Path | None) -> Iterator[Volume]:
    """The image to be filled inside, in memory or in a store, which is marked complete at the end."""
    made_by = {
        "model_sha256": model.sha256,
        "network": model.spec.network,
        "temperature": model.spec.trust.temperature,
        "napari_medseg": __version__,
        "torch": torch.__version__,
    }
    name, channels = f"{volume.name} doubts".strip(), tuple(names)
    shape = (len(names), *volume.grid.shape)
    if out is None:
        yield Volume(np.zeros(shape, np.float32), volume.grid, channels, name=name, provenance=made_by)
        return
    stored = Stored(
        np.broadcast_to(np.zeros((), np.float32), shape), volume.grid, channels, {}, made_by, is_labels=False
    )
    with filling(out, stored) as array:
        yield Volume(array, volume.grid, channels, name=name, provenance=made_by)
