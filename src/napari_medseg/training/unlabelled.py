"""Images without labels, beside the labelled cases of a training: whether they fit together.

What cannot be learned from is refused before the first step. What may be meant is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import LossConfig
from napari_medseg.errors import InputError
from napari_medseg.inference.suitability import require_order
from napari_medseg.training.planning.facts import CaseFacts
from napari_medseg.transforms.intensity import CT_BELOW_HU
from napari_medseg.volume import Segmentation, plain_channels, same_name


def without_labels(case: Case) -> Case:
    """The case with labels that are empty: all of it is unknown where unlabelled slices are ignored."""
    outline = case.peek()
    return replace(case, labels=Segmentation(np.zeros(outline.grid.shape, np.uint8), outline.grid, {}))


def ignoring(loss: LossConfig) -> LossConfig:
    """The settings with which such cases are read."""
    return replace(loss, unlabelled_slices="ignore", shapes=0.0)


def require_alike(found: Sequence[CaseFacts], labelled: Sequence[CaseFacts]) -> None:
    """Raise InputError for unlabelled images with other channels than the labelled cases, or of another modality."""
    wanted = labelled[0].channels
    plain = plain_channels(len(wanted))
    for f in found:
        if len(f.channels) != len(wanted):
            raise InputError(
                f"unlabelled image {f.name} has {len(f.channels)} channels, the labelled cases have {len(wanted)}: "
                f"give images with the same channels"
            )
        require_order(f"unlabelled image {f.name}", f.channels, wanted)
        for own, other in zip(f.channels, wanted, strict=True):
            if not {own, other} & set(plain) and not same_name(own, other):
                raise InputError(
                    f"unlabelled image {f.name} has the channel {own}, the labelled cases have {other}: give images of "
                    f"the same modality"
                )
    for channel, name in enumerate(wanted):
        lows = [float(np.median([f.minima[channel] for f in facts])) for facts in (found, labelled)]
        if (lows[0] <= CT_BELOW_HU) != (lows[1] <= CT_BELOW_HU):
            ct, other = ("unlabelled", "labelled") if lows[0] <= CT_BELOW_HU else ("labelled", "unlabelled")
            raise InputError(
                f"channel {name}: the {ct} images look like CT, the {other} ones do not (their lowest intensities are "
                f"{lows[0]:g} without labels, {lows[1]:g} with): give images of the same modality"
            )


def doubts(found: Sequence[CaseFacts], labelled: Sequence[CaseFacts]) -> Iterator[str]:
    """A line for each channel in which unlabelled images share no intensity with the labelled ones."""
    for channel, name in enumerate(labelled[0].channels):
        low = min(f.ranges[channel][0] for f in labelled)
        high = max(f.ranges[channel][1] for f in labelled)
        apart = [f for f in found if f.ranges[channel][1] < low or f.ranges[channel][0] > high]
        if apart:
            own = apart[0].ranges[channel]
            yield (
                f"channel {name}: {len(apart)} of {len(found)} unlabelled images share no intensity with the labelled "
                f"ones ({apart[0].name} has {own[0]:g} to {own[1]:g}, they have {low:g} to {high:g}): are they of the "
                f"same kind?"
            )


def with_their_facts(cases: Sequence[Case], facts: Sequence[CaseFacts]) -> list[tuple[Case, CaseFacts]]:
    """The cases of which there are facts: a validation case without a label has none."""
    of = {f.name: f for f in facts}
    return [(case, of[case.name]) for case in cases if case.name in of]


def without_labelled(
    cases: Sequence[Case], found: Sequence[CaseFacts], labelled: Sequence[Case], facts: Sequence[CaseFacts]
) -> tuple[list[int], str]:
    """Which unlabelled images are not among the labelled ones, and a line about those that are; empty for none.

    Raises InputError where all of them are.
    """
    known = with_their_facts(labelled, facts)
    same = {i: twin_of(case, f, known) for i, (case, f) in enumerate(zip(cases, found, strict=True))}
    twins = {i: twin for i, twin in same.items() if twin}
    if not twins:
        return list(same), ""
    (first, its_twin), more = next(iter(twins.items())), len(twins) - 1
    told = f"{cases[first].name} is the labelled case {its_twin}" + (f", and {more} more are labelled" if more else "")
    if len(twins) == len(cases):
        raise InputError(f"all unlabelled images are labelled ones too ({told}): give others")
    return [i for i in same if i not in twins], f"unlabelled images that are labelled ones too are left out: {told}"


def twin_of(case: Case, found: CaseFacts, labelled: Sequence[tuple[Case, CaseFacts]]) -> str:
    """The name of the labelled case that is the same scan; empty where none is. Only numbers that agree are read."""
    for other, its in labelled:
        numbers = [(f.grid.shape, f.minima, f.ranges) for f in (found, its)]
        if numbers[0] == numbers[1] and np.array_equal(_voxels(case), _voxels(other)):
            return other.name
    return ""


def _voxels(case: Case) -> npt.NDArray[np.generic]:
    return np.asarray(case.volume().data[...])
