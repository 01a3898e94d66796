"""Which slice to annotate next for a volumetric memory network: by what its quality head says of its own masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_medseg.doubt.candidates import Candidate, Suggestion
from napari_medseg.errors import InputError
from napari_medseg.interactive.guided.memory import MemoryView, memory_network
from napari_medseg.models.file import Model
from napari_medseg.transforms.annotated import painted_slices
from napari_medseg.volume import Segmentation, Volume, require_same_grid


def slices_by_memory(case: str, volume: Volume, labels: Segmentation, model: Model) -> Iterator[Candidate]:
    """The slices of a volume in which the network finds an object, each with the worst quality of the labels there.

    labels: of some slices along one axis. Raises InputError where no slice, or every slice is painted.
    """
    require_same_grid(labels, volume, "labels", "volume")
    painted = painted_slices(labels)
    if painted is None:
        raise InputError(f"{case}: paint whole slices along one axis, and leave the others empty: they are filled")
    network, size = memory_network(model)
    ids, axis = np.asarray(labels.data[...]), painted.axis
    worst: dict[int, tuple[float, int]] = {}
    for label in sorted(set(np.unique(ids).tolist()) - {0}):
        masks = {k: np.take(ids, k, axis=axis) == label for k in painted.indices}
        found = MemoryView.of(network, size, volume, axis, masks).propagate(masks)
        there = (found.probability > 0.5).flatten(1).any(1).tolist()
        for index, quality in enumerate(found.quality.tolist()):
            if there[index] and index not in masks and 1 - quality > worst.get(index, (-1.0, 0))[0]:
                worst[index] = (1 - quality, label)
    for index, (doubt, label) in sorted(worst.items()):
        yield Candidate(_suggestion(case, volume, axis, index, doubt, labels.label_name(label)), ())


def _suggestion(case: str, volume: Volume, axis: int, index: int, doubt: float, name: str) -> Suggestion:
    middle = [n // 2 for n in volume.grid.shape]
    middle[axis] = index
    return Suggestion(
        case=case,
        kind="slice",
        axis=axis,
        index=index,
        centre=(middle[0], middle[1], middle[2]),
        score=doubt,
        reason=f"the network expects an overlap of {1 - doubt:.2f} for {name}",
    )
