"""Training cases: where they come from, and what they look like on the model's grid.

Shapes: images (C, Z, Y, X) float32, normalised; classes (Z, Y, X) int16: 0 is background, k the k-th label id,
IGNORE what nobody annotated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.config import SegmentConfig, TrainConfig
from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.events import Work
from napari_medseg.geometry import AxisMap
from napari_medseg.inference.cascade import FirstStage, with_guides
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.planes import ModelPlanes, PlaneReader, measuring
from napari_medseg.io.folders import images_by_name
from napari_medseg.volume import Segmentation, Volume, require_same_grid

if TYPE_CHECKING:
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.spec import ModelSpec

IGNORE = -1
_PLANES_AT_ONCE = 32
_SPOTS_PER_CLASS = 4000
"""Voxels per class and case remembered as centres of patches: enough that each epoch draws others."""


@dataclass(frozen=True)
class Case:
    """An annotated volume by name, loaded when it is needed."""

    name: str
    load: Callable[[], tuple[Volume, Segmentation]]


def as_cases(cases: Iterable[Case | tuple[Volume, Segmentation]]) -> list[Case]:
    """Pairs of nouns and cases alike as cases; the first error in them is raised now, not in the training."""
    found = [c if isinstance(c, Case) else _case_of(*c, index) for index, c in enumerate(cases)]
    if not found:
        raise InputError("training needs at least one case, a pair of Volume and Segmentation; got none")
    return found


def _case_of(volume: Volume, segmentation: Segmentation, index: int) -> Case:
    return Case(volume.name or f"case {index}", lambda: (volume, segmentation))


def cases_from_folders(images: Sequence[str | Path], labels: str | Path) -> list[Case]:
    """Cases from folders of images (one folder per channel, in that order) and of labels, paired by file name.

    Names are compared without the format's suffix and sorted. What has no partner is named in one warning; InputError
    where nothing pairs.
    """
    if not images:
        raise InputError("training needs at least one folder of images; got none")
    folders = [images_by_name(Path(folder)) for folder in (*images, labels)]
    common = sorted(set.intersection(*(set(f) for f in folders)))
    alone = sorted(set.union(*(set(f) for f in folders)) - set(common))
    if not common:
        raise InputError(
            f"no file name in {', '.join(map(str, images))} has a partner in {labels}: images and labels are paired by "
            f"file name without the suffix"
        )
    if alone:
        shown = ", ".join(alone[:5]) + (" ..." if len(alone) > 5 else "")
        warnings.warn(f"{len(alone)} files without a partner are left out: {shown}", MedsegWarning, stacklevel=2)
    return [_file_case(name, [f[name] for f in folders[:-1]], folders[-1][name]) for name in common]


def _file_case(name: str, images: list[Path], labels: Path) -> Case:
    def load() -> tuple[Volume, Segmentation]:
        from napari_medseg.io import read, read_segmentation

        return replace(_stack([read(p) for p in images]), name=name), read_segmentation(labels)

    return Case(name, load)


def _stack(volumes: list[Volume]) -> Volume:
    first = volumes[0]
    if len(volumes) == 1:
        return first
    for other in volumes[1:]:
        require_same_grid(first, other, "channel", "channel")
    data = np.concatenate([np.asarray(v.data[...]) for v in volumes])
    return Volume(data, first.grid, tuple(c for v in volumes for c in v.channels))


def objects_of(case: Case, config: TrainConfig) -> Case:
    """The case with one label where it has any: what a detector learns. The ignored label stays."""
    object_id = 2 if config.ignore_label == 1 else 1

    def load() -> tuple[Volume, Segmentation]:
        volume, segmentation = case.load()
        ids = np.asarray(segmentation.data[...])
        objects = np.where((ids != 0) & (ids != config.ignore_label), object_id, ids)
        return volume, Segmentation(objects, segmentation.grid, {object_id: "object"}, name=segmentation.name)

    return Case(case.name, load)


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid, in memory or mapped from a scratch file, and where its classes lie."""

    name: str
    image: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    spots: dict[int, npt.NDArray[np.int64]]
    """Per class, background excluded, up to a few thousand of its voxels (n, 3)."""
    guides: int = 0
    """How many of the channels, the last ones, are probabilities of a stage before."""


def prepare(
    case: Case,
    spec: ModelSpec,
    config: TrainConfig,
    draw: np.random.Generator,
    scratch: Path | None,
    first: Predictor | None = None,
) -> Work[PreparedCase]:
    """The case as the network sees it. scratch: the folder for its arrays, None to keep them in memory.

    first: the network of the first stage, in a cascade. Yields a Progress while statistics of the image are measured.
    """
    volume, segmentation = case.load()
    plan = resolve(ImageFacts.of(volume), spec, SegmentConfig(), Machine())
    reader = PlaneReader(volume, plan.order)
    statistics = yield from measuring(reader, plan)
    planes = ModelPlanes(reader, plan, statistics)
    source = with_guides(planes, FirstStage.of(volume, plan, statistics, first))
    image = _new_array(scratch, f"{case.name}.image", (plan.inputs, *planes.shape), np.float32)
    for start in range(0, planes.shape[0], _PLANES_AT_ONCE):
        stop = min(planes.shape[0], start + _PLANES_AT_ONCE)
        image[:, start:stop] = source.read(start, stop).numpy()
    stored = plan.order.apply(class_indices(segmentation, spec, config))
    nearest = (AxisMap.between(a, b, mode="nearest").first for a, b in zip(stored.shape, planes.shape, strict=True))
    classes = _new_array(scratch, f"{case.name}.classes", planes.shape, np.int16)
    classes[...] = stored[np.ix_(*nearest)]
    return PreparedCase(case.name, image, classes, _spots(classes, len(spec.label_ids), draw), source.guides)


def class_indices(segmentation: Segmentation, spec: ModelSpec, config: TrainConfig) -> npt.NDArray[np.int16]:
    """The labels (Z, Y, X), stored order, as class indices; IGNORE where they are not annotated."""
    labels = np.asarray(segmentation.data[...])
    ids = np.asarray(spec.label_ids, dtype=np.int64)
    position = np.searchsorted(ids, labels).clip(max=len(ids) - 1)
    classes: npt.NDArray[np.int16] = np.where(ids[position] == labels, position, IGNORE).astype(np.int16)
    if config.unlabelled_slices == "ignore":
        empty = ~(labels != 0).any(axis=(1, 2))
        classes[empty] = IGNORE
    return classes


def _spots(classes: npt.NDArray[np.int16], count: int, draw: np.random.Generator) -> dict[int, npt.NDArray[np.int64]]:
    spots = {}
    for k in range(1, count):
        found = np.flatnonzero(classes == k)
        if len(found):
            some = draw.choice(found, min(len(found), _SPOTS_PER_CLASS), replace=False)
            spots[k] = np.stack(np.unravel_index(some, classes.shape), axis=1)
    return spots


def _new_array(scratch: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    if scratch is None:
        return np.zeros(shape, dtype)
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return np.lib.format.open_memmap(scratch / f"{safe}.npy", mode="w+", dtype=dtype, shape=shape)
