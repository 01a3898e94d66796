"""Whether probabilities mean what they say: of voxels called 80 % sure, are 80 % right?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import BLOCK_VOXELS, Box, block_shape, blocks, chunks_of, whole
from napari_medseg.config import CalibrationConfig, configured
from napari_medseg.errors import InputError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.descriptive.intensity import channel_in
from napari_medseg.metrics.inputs import label_ids, require_segmentation, require_volume
from napari_medseg.volume import Segmentation, Volume, name_key, places_of

ALL_LABELS = (0, "all labels")
"""(label, name) of the row that judges the most probable label of each voxel."""
_ROUNDING = 0.02
"""Tolerance of probabilities outside 0 to 1, and of sums unequal to 1: rounding to 8 bits causes as much."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRow:
    """How well the probabilities of one label, or of the most probable one, are calibrated."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label; 0 for the most probable label of each voxel, whichever it is."""
    name: str
    """Name of the label."""
    voxels: int
    """Voxels that were judged."""
    ece: float
    """Expected calibration error: mean over voxels of their bin's |accuracy - confidence| (Guo et al. 2017)."""
    mce: float
    """Maximum calibration error: the largest |accuracy - confidence| of a bin (Guo et al. 2017)."""
    brier: float
    """Brier score: mean of (p - y)^2, y being 1 where the label is true; over all labels their sum (Brier 1950)."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityRow:
    """One bin of a reliability diagram."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label; 0 for the most probable label of each voxel, whichever it is."""
    name: str
    """Name of the label."""
    above: float
    """Voxels of the bin have a confidence above this (the first bin holds 0 too)."""
    upto: float
    """And up to this."""
    voxels: int
    """Voxels in the bin."""
    confidence: float
    """Their mean confidence: the probability of the label."""
    accuracy: float
    """The fraction of them that hold the label in the reference."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate` finds: for all labels together, then for each label id > 0."""

    rows: tuple[CalibrationRow, ...]
    reliability: tuple[ReliabilityRow, ...]
    config: CalibrationConfig


class _Bins:
    """Running sums of one row: per bin voxels, confidence and hits, and squared errors over all."""

    def __init__(self, bins: int) -> None:
        self.edges = np.linspace(0, 1, bins + 1)
        self.sums = np.zeros((3, bins))
        self.squared = 0.0

    def add(self, confidence: FloatArray, hit: npt.NDArray[np.bool_], squared: FloatArray) -> None:
        index = np.clip(np.searchsorted(self.edges, confidence, side="left") - 1, 0, len(self.edges) - 2)
        for total, weights in zip(self.sums, (None, confidence, hit), strict=True):
            total += np.bincount(index, weights=weights, minlength=len(total))
        self.squared += float(squared.sum())


def calibrate(
    *,
    probabilities: Volume,
    reference: Segmentation,
    labels: Sequence[int] | None = None,
    config: CalibrationConfig | None = None,
    **knobs: Any,
) -> Calibration:
    """Compare probabilities with a reference, block by block.

    probabilities: a channel per label, from 0 to 1, with sum 1 in every voxel (a softmax). A single channel is the
    probability of any label against background. labels: the id of each channel; by default that of the reference's
    label of the channel's name, or channel 2 is id 2 where no channel has the name of a label.
    Raises GridMismatchError unless both lie on the same grid, up to flips and permutations of the axes, InputError for
    values that are not probabilities, where channel k was taken for id k and the ids are others, and for bare arrays.
    Warns of ids of the reference that no channel stands for.
    """
    require_volume(probabilities, "the probabilities")
    require_segmentation(reference, "the reference")
    chosen = configured(CalibrationConfig, config, knobs)
    channels = len(probabilities.channels)
    ids = label_ids(labels) if labels is not None else channel_ids(probabilities.channels, reference)
    if channels > 1 and len(ids) != channels:
        raise InputError(f"probabilities need an id for each channel; got {channels} channels and the ids {ids}")
    names = {k: reference.label_name(k) for k in ids if k > 0}
    if channels == 1:
        names = {1: "any label"}
    judged = dict([ALL_LABELS, *names.items()])
    bins = {k: _Bins(chosen.bins) for k in judged}
    held = {0}
    for p, truth in _voxels(probabilities, reference, ids, chosen):
        _add(bins, p, truth, ids)
        held |= set(np.unique(truth).tolist())
    by_place = labels is None and not any(_id_of(name, reference.labels) for name in probabilities.channels)
    _tell_unknown(ids, held, by_place=by_place)
    return Calibration(
        rows=tuple(_row(bins[k], label=k, name=name) for k, name in judged.items()),
        reliability=tuple(row for k, name in judged.items() for row in _reliability(bins[k], label=k, name=name)),
        config=chosen,
    )


def channel_ids(channels: Sequence[str], *named: Segmentation) -> list[int]:
    """The id that each channel stands for: of the label of its name in the first segmentation that names all, or k of
    channel k.

    Raises InputError where only some channels have the name of a label, and their places are not the ids.
    """
    places = list(range(max(2, len(channels))))
    misplaced = False
    for segmentation in named if len(channels) > 1 else ():
        found = [_id_of(name, segmentation.labels) for name in channels]
        known = [k for k in found if k is not None]
        if len(set(known)) == len(channels):
            return known
        misplaced |= any(k not in (None, place) for k, place in zip(found, places, strict=True))
    if misplaced:
        raise InputError(
            f"of the probabilities' channels {', '.join(channels)} some are named as labels and some not: name each "
            "as the label that it stands for, the first one background"
        )
    return places


def _id_of(name: str, labels: Mapping[int, str]) -> int | None:
    """The label that a name means; None where it is none, or several."""
    if name_key(name) == "background":
        return 0
    ids = list(labels)
    found = [ids[place] for place in places_of(name, list(labels.values()))]
    return found[0] if len(found) == 1 else None


def _voxels(
    probabilities: Volume, reference: Segmentation, ids: Sequence[int], config: CalibrationConfig
) -> Iterator[tuple[FloatArray, npt.NDArray[Any]]]:
    """Yield, block by block, (labels, voxels) probabilities and (voxels,) reference ids of the chosen region."""
    shape = reference.grid.shape
    block = block_shape(shape, chunks_of(reference.data), max(1, BLOCK_VOXELS // len(ids)))
    for box in blocks(whole(shape), block):
        p = _checked(_read(probabilities, reference, box), probabilities)
        truth = np.asarray(reference.data[box]).ravel()
        if len(probabilities.channels) == 1:
            truth = (truth > 0).astype(np.uint8)
        if config.region == "foreground":
            kept = (truth > 0) | (np.asarray(ids)[p.argmax(axis=0)] > 0)
            p, truth = p[:, kept], truth[kept]
        yield p, truth


def _read(probabilities: Volume, reference: Segmentation, box: Box) -> FloatArray:
    """(labels, voxels). For a single channel, the first row is its complement."""
    count = len(probabilities.channels)
    p = np.stack([channel_in(probabilities, c, reference, box).ravel() for c in range(count)]).astype(np.float64)
    return p if count > 1 else np.concatenate([1 - p, p])


def _checked(p: FloatArray, probabilities: Volume) -> FloatArray:
    total = p.sum(axis=0)
    inside = p.min() >= -_ROUNDING and p.max() <= 1 + _ROUNDING  # false for NaN
    if not (inside and np.abs(total - 1).max() <= _ROUNDING):
        raise InputError(
            f"probabilities {probabilities.name!r} need values from 0 to 1 that add up to 1; got {p.min():.4g} "
            f"to {p.max():.4g}, sums from {total.min():.4g} to {total.max():.4g}: apply softmax to logits first"
        )
    return p.clip(0, 1)


def _add(bins: dict[int, _Bins], p: FloatArray, truth: npt.NDArray[Any], ids: Sequence[int]) -> None:
    top = p.argmax(axis=0)
    hits = np.stack([truth == k for k in ids])
    squared = (p - hits) ** 2
    everywhere = np.arange(p.shape[1])
    bins[ALL_LABELS[0]].add(p[top, everywhere], hits[top, everywhere], squared.sum(axis=0))
    for place, k in enumerate(ids):
        if k > 0:
            bins[k].add(p[place], hits[place], squared[place])


def _tell_unknown(ids: Sequence[int], held: set[int], *, by_place: bool) -> None:
    """Warn of ids that a reference holds and no channel stands for.

    by_place: channel k was taken for id k. Raises InputError where that was so, and the reference lacks other ids.
    """
    unknown = sorted(held.difference(ids))
    if not unknown:
        return
    which = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
    if by_place and not held.issuperset(ids):
        raise InputError(
            f"probabilities need a channel for each label of the reference; none stands for {which}: they are of the "
            f"labels {', '.join(map(str, ids))}. Name the channels as the reference's labels are named"
        )
    warn(f"of the reference's labels no channel stands for {which}: whatever is said of their voxels counts as wrong")


def _row(bins: _Bins, *, label: int, name: str) -> CalibrationRow:
    count, confidence, hits = bins.sums
    voxels = int(count.sum())
    gap = np.abs(hits - confidence)[count > 0]
    return CalibrationRow(
        label=label,
        name=name,
        voxels=voxels,
        ece=float(gap.sum()) / voxels if voxels else float("nan"),
        mce=float((gap / count[count > 0]).max()) if voxels else float("nan"),
        brier=bins.squared / voxels if voxels else float("nan"),
    )


def _reliability(bins: _Bins, *, label: int, name: str) -> Iterator[ReliabilityRow]:
    for (above, upto), (count, confidence, hits) in zip(
        zip(bins.edges[:-1].tolist(), bins.edges[1:].tolist(), strict=True), bins.sums.T.tolist(), strict=True
    ):
        yield ReliabilityRow(
            label=label,
            name=name,
            above=above,
            upto=upto,
            voxels=int(count),
            confidence=confidence / count if count else float("nan"),
            accuracy=hits / count if count else float("nan"),
        )
