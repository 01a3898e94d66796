"""The cases of a training, and what they look like on the model's grid.

Shapes: images (C, Z, Y, X) float32, normalised; classes (Z, Y, X) int16: 0 is background, k the k-th label id,
IGNORE what nobody annotated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import whole
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, Work
from napari_medseg.inference.cascade import FirstStage, with_guides
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.planes import BoxReader, ModelBoxes, measuring
from napari_medseg.training.sparse import places_on, shapes_between
from napari_medseg.transforms.annotated import unknown_slices
from napari_medseg.transforms.regions import Merge, Pass, only_pass
from napari_medseg.volume import Grid, Segmentation, Volume

if TYPE_CHECKING:
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.spec import ModelSpec

IGNORE = -1
"""Class index of voxels that nobody annotated."""
_PLANES_AT_ONCE = 32
"""Planes normalised and resampled at once."""
_SPOTS_PER_CLASS = 4000
"""Voxels per class and case that can be centres of patches: enough for each epoch to draw others."""


def as_cases(cases: Iterable[Case | tuple[Volume, Segmentation] | Segmentation]) -> list[Case]:
    """Pairs of nouns, labels alone and cases alike as cases; the first error is raised now, not in the training.

    No two have the same name: what is known of a case is kept under it. The second "a" becomes "a (2)".
    """
    found = told_apart([_case_of(c, index) for index, c in enumerate(cases)])
    if not found:
        raise InputError("training needs at least one case, a pair of Volume and Segmentation; got none")
    return found


def told_apart(cases: Sequence[Case]) -> list[Case]:
    """The cases, with a number behind a name that an earlier one has."""
    taken, found = {case.name for case in cases}, list[Case]()
    earlier: set[str] = set()
    for case in cases:
        name = case.name
        if name in earlier:
            name = next(new for k in count(2) if (new := f"{case.name} ({k})".strip()) not in taken)
            taken.add(name)
        earlier.add(name)
        found.append(case if name == case.name else replace(case, name=name))
    return found


def as_case(image: Case | Volume, number: int) -> Case:
    """An image without labels as a case. number: for its name where it has none."""
    if isinstance(image, Case):
        return image
    return Case(name=image.name or f"image {number}", images=(image,))


def _case_of(case: Case | tuple[Volume, Segmentation] | Segmentation, index: int) -> Case:
    if isinstance(case, Case):
        return case
    if isinstance(case, Segmentation):
        return Case(name=case.name or f"case {index}", labels=case)
    volume, segmentation = case
    return Case(name=volume.name or f"case {index}", images=(volume,), labels=segmentation)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectsCase(Case):
    """A case with one label where it has any: what a detector learns."""

    ignore_label: int | None
    """The id that stays as it is."""

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        object_id = 2 if self.ignore_label == 1 else 1
        labels = super().segmentation(grid)
        ids = np.asarray(labels.data[...])
        objects = np.where((ids != 0) & (ids != self.ignore_label), object_id, ids)
        return Segmentation(objects, labels.grid, {object_id: "object"}, name=labels.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionsCase(Case):
    """A case whose labels are merged into regions."""

    regions: Pass

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        return self.regions.of(super().segmentation(grid))


def in_regions(cases: list[Case], merge: Merge) -> list[Case]:
    """The cases with regions in place of the labels in them. Raises InputError for regions that share a label."""
    regions = only_pass(merge)
    if not regions.regions:
        return cases
    return [RegionsCase(**{f.name: getattr(case, f.name) for f in fields(Case)}, regions=regions) for case in cases]


def require_regions(cases: Sequence[Case], labels: Iterable[int]) -> None:
    """Raise InputError for a region that no case holds. labels: those of all cases."""
    there = set(labels)
    for region in cases[0].regions.regions if isinstance(cases[0], RegionsCase) else ():
        if region.label not in there:
            raise InputError(f"no case holds a label of the region {region.name}: {', '.join(map(str, region.ids))}")


def objects_of(case: Case, loss: LossConfig) -> Case:
    """The case with one label where it has any. The ignored label stays."""
    return ObjectsCase(
        name=case.name,
        images=case.images,
        channels=case.channels,
        labels=case.labels,
        beside=case.beside,
        group=case.group,
        ignore_label=loss.ignore_label,
    )


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid, in memory or mapped from a scratch file, and where its classes lie."""

    name: str
    image: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    spots: dict[int, npt.NDArray[np.int64]]
    """Per class up to a few thousand of its voxels (n, 3): of the background only where a part is not annotated."""
    guides: int = 0
    """How many of the channels, the last ones, are probabilities of a stage before, or labels that are given."""
    shapes: npt.NDArray[np.float32] | None = None
    """(K, Z, Y, X) probabilities of the classes between painted slices, 0 in these; None where all is annotated."""
    objects: npt.NDArray[np.int32] | None = None
    """(Z, Y, X) numbers of the objects, 0 outside; None for a scheme that does not learn them."""

    exact_guides: bool = False
    """Whether the guides are as wrong as they are in use, and not to be made worse."""


@runtime_checkable
class Numbered(Protocol):
    """A case whose objects are known one by one."""

    def numbers(self, labels: Segmentation) -> npt.NDArray[np.int32]:
        """The numbers (Z, Y, X) of the objects, on the grid of the labels of the case; 0 outside."""


def prepare(
    case: Case,
    spec: ModelSpec,
    loss: LossConfig,
    draw: np.random.Generator,
    scratch: Path | None,
    first: Predictor | None = None,
) -> Work[PreparedCase]:
    """The case as the network sees it. scratch: the folder for its arrays, None to keep them in memory.

    first: the network of the first stage, in a cascade. Yields a Progress while statistics of the image are measured,
    and a Notice where the image has voxels that are no numbers.
    """
    volume, segmentation = case.load()
    volume = replace(volume, name=volume.name or case.name)
    plan = resolve(ImageFacts.of(volume), spec, SegmentConfig(), Machine())
    reader = BoxReader(volume, plan.order)
    statistics = yield from measuring(reader, plan)
    boxes = ModelBoxes(reader, plan, statistics)
    source = with_guides(boxes, FirstStage.of(volume, plan, statistics, first))
    _, rows, columns = whole(boxes.shape)
    image = new_array(scratch, f"{case.name}.image", (plan.inputs, *boxes.shape), np.float32)
    for start in range(0, boxes.shape[0], _PLANES_AT_ONCE):
        stop = min(boxes.shape[0], start + _PLANES_AT_ONCE)
        image[:, start:stop] = source.read((slice(start, stop), rows, columns)).numpy()
    yield from map(Notice, reader.doubts)
    found = class_indices(segmentation, spec, loss)
    shapes = shapes_between(volume, found, len(spec.label_ids)) if loss.shapes else None
    stored = plan.order.apply(found)
    classes = new_array(scratch, f"{case.name}.classes", boxes.shape, np.int16)
    places = places_on(boxes.shape, stored)
    classes[...] = stored[places]
    guesses = None if shapes is None else np.stack([plan.order.apply(shape)[places] for shape in shapes])
    spots = spots_of(classes, len(spec.label_ids), draw)
    numbers = None
    if isinstance(case, Numbered):
        numbers = new_array(scratch, f"{case.name}.objects", boxes.shape, np.int32)
        numbers[...] = plan.order.apply(case.numbers(segmentation))[places]
    return PreparedCase(case.name, image, classes, spots, source.guides, shapes=guesses, objects=numbers)


def class_indices(segmentation: Segmentation, spec: ModelSpec, loss: LossConfig) -> npt.NDArray[np.int16]:
    """The labels (Z, Y, X), stored order, as class indices; IGNORE where they are not annotated."""
    labels = np.asarray(segmentation.data[...])
    ids = np.asarray(spec.label_ids, dtype=np.int64)
    position = np.searchsorted(ids, labels).clip(max=len(ids) - 1)
    classes: npt.NDArray[np.int16] = np.where(ids[position] == labels, position, IGNORE).astype(np.int16)
    if loss.unlabelled_slices == "ignore":
        classes[unknown_slices(labels, loss.ignore_label)] = IGNORE
    return classes


def spots_of(classes: npt.NDArray[np.int16], count: int, draw: np.random.Generator) -> dict[int, npt.NDArray[np.int64]]:
    """The spots of a PreparedCase, from its classes (Z, Y, X), of which there are `count`."""
    spots = {}
    for k in range(0 if (classes == IGNORE).any() else 1, count):
        found = np.flatnonzero(classes == k)
        if len(found):
            some = draw.choice(found, min(len(found), _SPOTS_PER_CLASS), replace=False)
            spots[k] = np.stack(np.unravel_index(some, classes.shape), axis=1)
    return spots


def new_array(scratch: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    """An array of zeros, in memory or, where there is a folder for scratch files, in a new one there."""
    if scratch is None:
        return np.zeros(shape, dtype)
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    # The number keeps names apart that differ in other letters only, or by case.
    path = scratch / f"{sum(1 for _ in scratch.iterdir())}-{safe}.npy"
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
