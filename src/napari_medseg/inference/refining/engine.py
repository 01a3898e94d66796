"""Labels made better along their boundaries, streamed: boxes of image and labels in, planes of better labels out.

The boxes follow from the labels alone, and are run in reading order, one after the other. The result does not depend on
how image and labels are stored. Memory holds the planes that boxes still reach: it does not grow with the planes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import Box, whole
from napari_medseg.arrays.views import AxisView, Reordered
from napari_medseg.config import RefineConfig, SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Filled, Notice, Progress, Started, Work
from napari_medseg.geometry import Shape3
from napari_medseg.inference.device import Machine, choose_device
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.planes import BoxReader, ChannelStatistics, Normaliser, measuring
from napari_medseg.inference.refining.boxes import Mask, boundary, box_around, thinned
from napari_medseg.inference.refining.network import PatchNetwork, require_refiner
from napari_medseg.inference.refining.planes import RollingMeans
from napari_medseg.inference.results.rows import RowWriter
from napari_medseg.inference.suitability import require_channels
from napari_medseg.models.file import Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.volume import Segmentation, Volume, require_order_onto

_KEPT_BYTES = 1 << 27
"""Decoded chunks that a reader of boxes keeps, beside those of its last box."""


def require_refinable(volume: Volume, segmentation: Segmentation, model: Model, config: RefineConfig) -> None:
    """Raise InputError unless the model is a refiner of these channels, of one of these labels, and of those to change.

    Raises GridMismatchError where image and labels lie on grids that differ by more than flips and permutations.
    """
    require_refiner(model)
    require_order_onto(segmentation, volume, "the labels", "the image")
    require_channels(volume, model.spec, str(model.path))
    named = [label for label in segmentation.labels if label]
    if named and not set(named) & set(model.spec.labels):
        raise InputError(
            f"{segmentation.name or 'the labels'} has labels {', '.join(map(str, named))}, and the refiner "
            f"{model.path} knows {', '.join(map(str, model.spec.labels))}: give labels with these ids"
        )
    unknown = sorted(set(config.labels or ()) - set(model.spec.labels))
    if unknown:
        raise InputError(
            f"the refiner {model.path} has no label {unknown[0]}: it changes {', '.join(map(str, model.spec.labels))}"
        )


def refining(
    volume: Volume, segmentation: Segmentation, network: PatchNetwork, config: RefineConfig, result: Segmentation
) -> Work[None]:
    """Fill `result.data`, on the volume's grid, with the labels made better.

    Yields Started, a Progress per row of chunks where the image is measured, a Progress per box, counted in planes, and
    a Filled per box of labels that is in its array.
    """
    yield Started(_describe(network, volume), result)
    with closing(_Walk.of(volume, segmentation, network)) as walk:
        statistics = yield from measuring(walk.image, walk.plan)
        yield from _filling(walk, statistics, network, config, result.data)


@dataclass(frozen=True, eq=False)
class _Walk:
    """The readers of a run, and what of the image's grid they know."""

    plan: InferencePlan
    image: BoxReader
    labels: BoxReader
    """Labels in boxes; those along which boundaries are looked for have a reader of their own."""
    planes: BoxReader
    box: Shape3
    """Voxels of the image that the network's patch covers."""

    @classmethod
    def of(cls, volume: Volume, segmentation: Segmentation, network: PatchNetwork) -> _Walk:
        plan = resolve(ImageFacts.of(volume), network.spec, SegmentConfig(), Machine(str(network.device)))
        order = require_order_onto(segmentation, volume, "the labels", "the image")
        on_grid = segmentation.data if order.is_identity else Reordered(segmentation.data, order)
        labels = Volume(_with_channel(on_grid), volume.grid, name=segmentation.name)
        image = BoxReader(volume, plan.order, keep_bytes=_KEPT_BYTES)
        near, ahead = (BoxReader(labels, plan.order, keep_bytes=_KEPT_BYTES) for _ in range(2))
        return cls(plan, image, near, ahead, box_of(network.spec, plan.image_grid.spacing))

    def close(self) -> None:
        for reader in (self.image, self.labels, self.planes):
            reader.close()

    def boundaries(self, ids: list[int]) -> Iterator[Mask]:
        """The boundary of each plane."""
        depth, height, width = self.planes.shape
        for z in range(depth):
            low, high = max(0, z - 1), min(depth, z + 2)
            if self.plan.spec.mode == "2d":
                low, high = z, z + 1
            seen = self.planes.read((slice(low, high), slice(0, height), slice(0, width)))[0]
            yield boundary(seen, ids)[z - low]


def _filling(
    walk: _Walk, statistics: ChannelStatistics, network: PatchNetwork, config: RefineConfig, target: Any
) -> Work[None]:
    """Run the boxes, and write the planes that no later box reaches."""
    spec, shape = network.spec, walk.image.shape
    chosen = [label for label in spec.labels if config.labels is None or label in config.labels]
    refines = spec.refines
    assert refines is not None, "the caller looked"
    normalisers = [Normaliser.of(*pair) for pair in zip(spec.normalisation, statistics, strict=True)]
    means = RollingMeans(spec.outputs, shape)
    warned = False
    planes = _Planes(walk, means, RowWriter(target, walk.plan.order, whole(shape)), np.array(spec.label_ids), chosen)
    for z, kept in enumerate(thinned(walk.boundaries(chosen), walk.box, refines.overlap)):
        boxes = [box_around((z, y, x), walk.box, shape) for y, x in kept]
        for box in boxes:
            image = _inside(walk.image, box)
            if not warned and image.dtype.kind == "f" and not np.isfinite(image).all():
                warned = True
                yield Notice(
                    "the image has voxels beside the labels that are no numbers (NaN or infinite): they count as 0"
                )
            values = torch.from_numpy(_padded(np.stack([f(image[c]) for c, f in enumerate(normalisers)]), box))
            given = _padded(_inside(walk.labels, box), box)[0]
            means.add(box, network(values, one_hot(given, spec.label_ids)).numpy())
            yield Progress(z, shape[0], "planes refined")
        last = box_around((z + 1, 0, 0), walk.box, shape)[0].start if z + 1 < shape[0] else shape[0]
        written = planes.write_before(last)
        if written is not None:
            yield Filled(written)
        yield Progress(z + 1, shape[0], "planes refined")


@dataclass(eq=False)
class _Planes:
    """Writes planes, one after the other."""

    walk: _Walk
    means: RollingMeans
    writer: RowWriter
    ids: npt.NDArray[np.int64]
    chosen: list[int]
    done: int = 0

    def write_before(self, stop: int) -> Box | None:
        """Write the planes before `stop`; the box, in stored order, that is in its array now."""
        _, height, width = self.walk.labels.shape
        for z in range(self.done, stop):
            box = (slice(z, z + 1), slice(0, height), slice(0, width))
            given = self.walk.labels.read(box)[0, 0]
            found = self.means.take(z, given, self.ids)
            may = np.isin(found, [0, *self.chosen]) & np.isin(given, [0, *self.chosen])
            self.writer.put(box, np.where(may, found, given)[None])
        self.done = max(self.done, stop)
        return self.writer.advance(self.done)


def box_of(spec: ModelSpec, spacing_zyx_mm: tuple[float, float, float]) -> Shape3:
    """The voxels of an image of this spacing that the patch of a refiner covers: as many mm, and one at least."""
    stated = spec.spacing_zyx_mm or spacing_zyx_mm
    sizes = [max(1, round(n * own / here)) for n, own, here in zip(spec.patch_zyx, stated, spacing_zyx_mm, strict=True)]
    return (1 if spec.mode == "2d" else sizes[0]), sizes[1], sizes[2]


def one_hot(labels_zyx: npt.NDArray[Any], label_ids: tuple[int, ...]) -> torch.Tensor:
    """(K - 1, z, y, x) float32: 1 where a voxel has the label; label_ids: the background first."""
    return torch.from_numpy(np.stack([labels_zyx == label for label in label_ids[1:]]).astype(np.float32))


def _inside(reader: BoxReader, box: Box) -> npt.NDArray[Any]:
    """The part (C, z, y, x) of a box that lies in the image: it may end behind it."""
    z, y, x = (slice(side.start, min(side.stop, n)) for side, n in zip(box, reader.shape, strict=True))
    return reader.read((z, y, x))


def _padded(values: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """The box whose part in the image holds these values; 0 behind it, as in training (the mean, the background)."""
    missing = [side.stop - side.start - n for side, n in zip(box, values.shape[1:], strict=True)]
    return np.pad(values, [(0, 0), *((0, n) for n in missing)]) if any(missing) else values


def _with_channel(labels: Any) -> Any:
    """Labels (Z, Y, X) as (1, Z, Y, X), without a copy."""
    return labels[None] if isinstance(labels, np.ndarray) else AxisView(labels, (None, 0, 1, 2))


def _describe(network: PatchNetwork, volume: Volume) -> str:
    spec = network.spec
    assert spec.refines is not None, "the caller looked"
    size = "x".join(map(str, spec.patch_zyx))
    return (
        f"{network.device} fp32: {spec.refines.method} with {spec.network}, boxes of {size} along the boundaries in "
        f"{'x'.join(map(str, volume.grid.shape))} voxels; about {_megabytes(spec, volume):.0f} MiB beside the network"
    )


def _megabytes(spec: ModelSpec, volume: Volume) -> float:
    """Memory of the sums."""
    box = box_of(spec, volume.grid.spacing)
    return box[0] * math.prod(volume.grid.shape[1:]) * 4 * (spec.outputs + 1) / 2**20


def load_patch_network(model: Model, config: RefineConfig) -> PatchNetwork:
    """The network of a refiner on the device of a config."""
    return PatchNetwork.of(model, choose_device(config.device))
