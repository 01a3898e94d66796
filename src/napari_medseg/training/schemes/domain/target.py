"""Images of another domain without labels: what a model for them is, and what is refused before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_medseg.cases import Case
from napari_medseg.errors import InputError
from napari_medseg.models.spec import ModelSpec, Normalisation
from napari_medseg.training.planning.rules import CaseFacts, require_same_channels, seen_in
from napari_medseg.training.unlabelled import with_their_facts


def adapted_spec(spec: ModelSpec, labelled: Sequence[CaseFacts], target: Sequence[CaseFacts]) -> ModelSpec:
    """The spec of a model for both domains: each image is normalised by itself, and both count as seen.

    The numbers of one domain, such as Hounsfield units, say nothing of the other. Without a target, the spec itself.
    """
    if not target:
        return spec
    return replace(
        spec,
        channels=tuple(replace(channel, modality="other") for channel in spec.channels),
        normalisation=tuple(Normalisation(kind="zscore") for _ in spec.channels),
        training=replace(spec.training, seen=seen_in([*labelled, *target], spec.orientation)),
    )


def require_other_images(
    cases: Sequence[Case], facts: Sequence[CaseFacts], target: Sequence[Case], target_facts: Sequence[CaseFacts]
) -> None:
    """Raise InputError for target images with other channels, without a contrast, or that are labelled cases too."""
    count = len(facts[0].channels)
    for other in target_facts:
        if len(other.channels) != count:
            raise InputError(
                f"target {other.name} has {len(other.channels)} channels, the labelled cases have {count}: give the "
                f"same"
            )
        if all(low == high for low, high in other.ranges):
            raise InputError(f"target {other.name} is the same everywhere: leave it out")
    require_same_channels(target_facts)
    for labelled, own in with_their_facts(cases, facts):
        for case, other in zip(target, target_facts, strict=True):
            alike = (own.grid.shape, own.minima, own.ranges) == (other.grid.shape, other.minima, other.ranges)
            if alike and _same_voxels(labelled, case):
                raise InputError(f"target {other.name} is the labelled case {own.name}: leave it out of the target")


def _same_voxels(a: Case, b: Case) -> bool:
    return np.array_equal(np.asarray(a.volume().data[...]), np.asarray(b.volume().data[...]))
