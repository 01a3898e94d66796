"""What a plan needs to know of the cases: each is read once, and its numbers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisOrder, Triple, triple_of
from napari_medseg.inference.suitability import Range, require_order, sampled
from napari_medseg.models.spec import Channel, Seen
from napari_medseg.transforms.intensity import CT_BELOW_HU, as_float32
from napari_medseg.volume import MAX_LABEL, Grid, Segmentation, is_named, require_same_grid

_SAMPLES_PER_CASE = 20_000
"""Intensities of a case from which those of all cases are judged."""


@dataclass(frozen=True)
class CaseFacts:
    """What the plan needs to know of one case."""

    name: str
    grid: Grid
    channels: tuple[str, ...]
    label_names: dict[int, str]
    label_voxels: dict[int, int]
    minima: tuple[float, ...]
    """Lowest intensity of each channel."""
    ranges: tuple[tuple[float, float], ...]
    """(C, 2) percentiles 1 and 99 of each channel."""
    halves: dict[int, Triple]
    """{label: its share in the first half of each axis}."""
    samples: npt.NDArray[np.float32] = field(repr=False)
    """(C, n) intensities of labelled voxels, of any voxels where nothing is labelled."""
    annotated: bool = True
    """Whether somebody annotated a voxel of it, if only as background."""


def facts_of(case: Case, loss: LossConfig, draw: np.random.Generator) -> CaseFacts:
    """Read a case once and keep its numbers. Raises GridMismatchError where image and labels lie apart."""
    volume, segmentation = case.load()
    image, labels = replace(volume, name=case.name), replace(segmentation, name=case.name)
    require_same_grid(image, labels, "the image of", "the labels of")
    image_data = np.asarray(volume.data[...])
    ids, counts, halves, samples, has_background = _label_facts(image_data, labels, loss, draw)
    names = {i: segmentation.label_name(i) for i in ids}
    ranges = [Range.of(sampled(image_data, c)) for c in range(len(image_data))]
    return CaseFacts(
        case.name,
        volume.grid,
        volume.channels,
        names,
        dict(zip(ids, counts, strict=True)),
        tuple(float(as_float32(channel).min()) for channel in image_data),
        tuple((found.low, found.high) for found in ranges),
        halves,
        samples,
        annotated=bool(ids) or (has_background and loss.unlabelled_slices == "background"),
    )


def _label_facts(
    image_data: npt.NDArray[np.generic], segmentation: Segmentation, loss: LossConfig, draw: np.random.Generator
) -> tuple[list[int], list[int], dict[int, Triple], npt.NDArray[np.float32], bool]:
    """Of a CaseFacts: the ids and voxels of the labels, halves and samples; last, whether a voxel has the id 0."""
    labels = np.asarray(segmentation.data[...])
    found, counts = np.unique(labels, return_counts=True)
    if found[0] < 0:
        raise InputError(
            f"{segmentation.name}: label ids are whole numbers from 0; got {found[0]}: give what is not annotated an "
            f"id above 0, such as 255, and say it as ignore_label"
        )
    keep = (found > 0) & (found != loss.ignore_label)
    inside = np.flatnonzero(np.isin(labels, found[keep]))
    where = inside if len(inside) else np.arange(labels.size)
    some = np.unravel_index(draw.choice(where, min(len(where), _SAMPLES_PER_CASE), replace=False), labels.shape)
    samples = np.stack([as_float32(channel[some]) for channel in image_data])
    ids, halves = found[keep].tolist(), _halves(labels, found[keep])
    return ids, counts[keep].tolist(), halves, samples, bool(found[0] == 0)


def _halves(labels: npt.NDArray[np.integer[Any]], ids: npt.NDArray[np.integer[Any]]) -> dict[int, Triple]:
    """The share of each label in the first half of each axis; a voxel in the middle counts half. ids: ascending."""
    of_z, of_y, of_x = ((1 - np.sign(2 * np.arange(n) + 1 - n)) / 2 for n in labels.shape)
    first, whole = np.zeros((len(ids), 3)), np.zeros((len(ids), 1))
    for z, plane in enumerate(labels):
        y, x = np.nonzero(np.isin(plane, ids))
        which = np.searchsorted(ids, plane[y, x])
        whole[:, 0] += np.bincount(which, minlength=len(ids))
        for axis, weights in ((0, np.full(len(y), of_z[z])), (1, of_y[y]), (2, of_x[x])):
            first[:, axis] += np.bincount(which, weights, len(ids))
    return {int(i): triple_of(share.tolist()) for i, share in zip(ids, first / np.maximum(whole, 1), strict=True)}


def require_same_channels(facts: Sequence[CaseFacts]) -> None:
    """Raise InputError unless all cases have the same number of channels."""
    count = len(facts[0].channels)
    for f in facts:
        if len(f.channels) != count:
            raise InputError(
                f"case {f.name} has {len(f.channels)} channels, case {facts[0].name} has {count}: all cases need the "
                f"same"
            )
        require_order(f"case {f.name}", f.channels, facts[0].channels)


def require_modalities(facts: Sequence[CaseFacts], config: TrainConfig) -> None:
    """Raise InputError for what joins or drops channels where there is one only."""
    asked = {"fusion": config.fusion != "input", "modality_dropout": config.augmentation.modality_dropout > 0}
    for name, wanted in asked.items():
        if wanted and len(facts[0].channels) == 1:
            raise InputError(f"{name} is for images of several channels; the cases have 1: leave it out")


def channels_of(facts: Sequence[CaseFacts]) -> tuple[Channel, ...]:
    """The channels of the cases; one whose intensities go as low as those of air in CT is CT."""
    is_ct = (np.median([f.minima for f in facts], axis=0) <= CT_BELOW_HU).tolist()
    return tuple(
        Channel(name=name, modality="CT" if ct else "other") for name, ct in zip(facts[0].channels, is_ct, strict=True)
    )


def grids_on(facts: Sequence[CaseFacts], orientation: str | None) -> list[Grid]:
    """The grids of the cases in an orientation; None: as stored."""
    return [f.grid.reordered(AxisOrder.between(f.grid.orientation, orientation or f.grid.orientation)) for f in facts]


def labels_of(facts: Sequence[CaseFacts]) -> dict[int, str]:
    """{id: name} of all labels in the cases; a name of its own goes before the "label 7" of a file without names."""
    labels: dict[int, str] = {}
    for f in facts:
        for i, name in f.label_names.items():
            if i not in labels or not is_named(i, labels[i]):
                labels[i] = name
    if not labels:
        raise InputError("no case holds a label above 0: annotate at least one structure")
    if max(labels) > MAX_LABEL:
        raise InputError(f"label ids go to {MAX_LABEL}; got {max(labels)}")
    return dict(sorted(labels.items()))


def seen_in(facts: Sequence[CaseFacts], orientation: str | None) -> Seen:
    """What the images of the cases are like, on axes of that orientation; None: as stored."""
    grids = grids_on(facts, orientation)
    spacings = np.array([grid.spacing for grid in grids])
    extents = spacings * [grid.shape for grid in grids]
    return Seen(
        intensity=tuple(
            (min(low for low, _ in of_cases), max(high for _, high in of_cases))
            for of_cases in zip(*(f.ranges for f in facts), strict=True)
        ),
        spacing_zyx_mm=(triple_of(spacings.min(axis=0).tolist()), triple_of(spacings.max(axis=0).tolist())),
        extent_zyx_mm=triple_of(extents.min(axis=0).tolist()),
    )
