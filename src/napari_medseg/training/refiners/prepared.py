"""Cases from which a refiner learns: the image, the labels to better as further channels, and where their boundary is.

Shapes: images (C + K - 1, Z, Y, X) float32, the last channels 1 in the labels of a voxel.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, SegmentConfig
from napari_medseg.events import Work
from napari_medseg.geometry import AxisMap
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.refining.boxes import boundary, thinned
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.cases import PreparedCase, new_array, prepare
from napari_medseg.training.refiners.plan import TRAIN_OVERLAP
from napari_medseg.volume import Segmentation

BOUNDARY = 1
"""The key of `PreparedCase.spots` under which the centres of boxes lie."""


def prepare_errors(
    case: Case, given: Segmentation, spec: ModelSpec, loss: LossConfig, draw: np.random.Generator, scratch: Path | None
) -> Work[PreparedCase]:
    """The case as `prepare` makes it, with the labels `given` for it as channels, and boxes along their boundary.

    A case in which nothing is given keeps its spots: what was missed altogether is learned there.
    """
    plain = yield from prepare(case, spec, loss, draw, scratch)
    plan = resolve(ImageFacts(given.grid, tuple(c.name for c in spec.channels)), spec, SegmentConfig(), Machine())
    shape = plain.classes.shape
    stored = plan.order.apply(np.asarray(given.data[...]))
    nearest = (AxisMap.between(a, b, mode="nearest").first for a, b in zip(stored.shape, shape, strict=True))
    labels = stored[np.ix_(*nearest)]
    count = len(plain.image)
    image = new_array(scratch, f"{case.name}.given", (count + len(spec.labels), *shape), np.float32)
    image[:count] = plain.image
    for channel, label in enumerate(spec.labels, start=count):
        image[channel] = labels == label
    centres = _centres(labels, spec)
    spots = {BOUNDARY: centres} if len(centres) else plain.spots
    return replace(plain, image=image, spots=spots, guides=len(spec.labels), exact_guides=True)


def _centres(labels: npt.NDArray[np.generic], spec: ModelSpec) -> npt.NDArray[np.int64]:
    """(n, 3) the centres of boxes along the boundary."""
    flat = spec.mode == "2d"
    edges = (
        [boundary(labels[z : z + 1], spec.labels)[0] for z in range(len(labels))]  # type: ignore[arg-type]
        if flat
        else list(boundary(labels, spec.labels))  # type: ignore[arg-type]
    )
    found = [(z, y, x) for z, kept in enumerate(thinned(edges, spec.patch_zyx, TRAIN_OVERLAP)) for y, x in kept]
    return np.array(found, dtype=np.int64).reshape(-1, 3)
