"""Channels that an image lacks: a model sees 0 in their place, which no channel that is there is normalised to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import BoxND
from napari_medseg.arrays.views import Array, BasicIndexed
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.models.spec import MISSING, ModelSpec, Normalisation
from napari_medseg.volume import LazyArray, Volume, places_of


class WithZeros(BasicIndexed):
    """An array (C, Z, Y, X) with further channels that are 0, read box by box; indexed like numpy."""

    def __init__(self, array: LazyArray, channels: Sequence[int | None]) -> None:
        """channels: for each channel of the view that of the array, None for one that is 0."""
        self._array, self._channels = array, tuple(channels)
        self.shape = (len(channels), *array.shape[1:])
        own: Any = getattr(array, "chunks", array.shape)
        first = (1,) * len(channels) if isinstance(own[0], tuple) else 1
        self.chunks: tuple[Any, ...] = (first, *own[1:])
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def _read(self, wanted: BoxND) -> Array:
        found = np.zeros([side.stop - side.start for side in wanted], self.dtype)
        for place, source in enumerate(self._channels[wanted[0]]):
            if source is not None:
                found[place] = np.asarray(self._array[(slice(source, source + 1), *wanted[1:])])[0]
        return found


def require_absent(spec: ModelSpec, missing: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the channels that are missing. Raises InputError for names that are not the model's, or for all.

    Raises NotSupportedError for a model that needs all channels.
    """
    names = [channel.name for channel in spec.channels]
    found = {name: places_of(name, names) for name in missing}
    for name, places in found.items():
        if len(places) != 1:
            several = "several such channels" if places else "no such channel"
            raise InputError(f"missing {name}: the model has {several}, its channels are {', '.join(names)}")
    absent = tuple(sorted({place for places in found.values() for place in places}))
    if len(absent) == len(names):
        raise InputError(f"missing {', '.join(missing)}: the image needs one channel of the model at least")
    if absent and (spec.first is not None or spec.has_pipeline):
        raise NotSupportedError("a cascade, and a model with steps of another program, need all channels of an image")
    return absent


def completed(volume: Volume, spec: ModelSpec, missing: Sequence[str]) -> tuple[Volume, ModelSpec]:
    """The volume with 0 in the channels that it lacks, and the spec that normalises these to 0."""
    absent = require_absent(spec, missing)
    if not absent:
        return volume, spec
    numbers = iter(range(len(volume.channels)))
    channels = [None if c in absent else next(numbers) for c in range(len(spec.channels))]
    names = [own.name if k is None else volume.channels[k] for own, k in zip(spec.channels, channels, strict=True)]
    whole: Any = WithZeros(volume.data, channels)
    data = whole[...] if isinstance(volume.data, np.ndarray) else whole
    rules = [Normalisation(kind="zscore") if c in absent else rule for c, rule in enumerate(spec.normalisation)]
    modalities = [replace(own, modality="other") if c in absent else own for c, own in enumerate(spec.channels)]
    return (
        replace(volume, data=data, channels=tuple(names)),
        replace(spec, normalisation=tuple(rules), channels=tuple(modalities)),
    )


def doubt_about_missing(spec: ModelSpec, missing: Sequence[str]) -> str | None:
    """What the user should know where channels are missing that the training always had."""
    if not missing or spec.training.fingerprint.get(MISSING):
        return None
    return (
        f"the model was trained with all channels: without {', '.join(missing)} its labels may be wrong; train it with "
        f"modality_dropout"
    )
