"""Images of another domain without labels: what a model for them is, and what is refused before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from napari_medseg.cases import Case
from napari_medseg.errors import InputError
from napari_medseg.models.spec import ModelSpec, Normalisation
from napari_medseg.training.planning.facts import CaseFacts, require_same_channels, seen_in
from napari_medseg.training.unlabelled import with_their_facts
from napari_medseg.transforms.intensity import CT_BELOW_HU


def adapted_spec(spec: ModelSpec, labelled: Sequence[CaseFacts], target: Sequence[CaseFacts]) -> ModelSpec:
    """The spec of a model for both domains, which both count as seen. Without a target, the spec itself.

    A channel that is CT in both keeps its rule. In others each image is normalised by itself: the numbers of one
    domain, such as Hounsfield units, say nothing of the other.
    """
    if not target:
        return spec
    lows = [np.median([f.minima for f in facts], axis=0) for facts in (labelled, target)]
    seen = seen_in([*labelled, *target], spec.orientation)
    adapted = by_itself(spec, (np.maximum(*lows) > CT_BELOW_HU).tolist())
    return replace(adapted, training=replace(spec.training, seen=seen))


def by_itself(spec: ModelSpec, which: Sequence[bool]) -> ModelSpec:
    """The spec with these of its channels of any modality, and normalised by each image itself."""
    return replace(
        spec,
        channels=tuple(replace(c, modality="other") if new else c for c, new in zip(spec.channels, which, strict=True)),
        normalisation=tuple(
            Normalisation(kind="zscore") if new else rule for rule, new in zip(spec.normalisation, which, strict=True)
        ),
    )


def renormalised(before: ModelSpec, after: ModelSpec) -> Iterator[str]:
    """A line for each channel that is normalised by another rule than in the model, or plan, to start from."""
    for channel, old, new in zip(after.channels, before.normalisation, after.normalisation, strict=True):
        if old != new:
            yield (
                f"in channel {channel.name} each image is normalised by itself, not by {old.kind} as in the model or "
                f"plan to start from: the images share no scale"
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
