"""Cases for schemes that learn objects: their depths as labels, or their numbers beside the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.transforms.depths import DEPTHS, depth_label, depth_name, depths_of, objects_of
from napari_medseg.volume import Grid, Segmentation, label_dtype

Learns = Literal["labels", "depths", "objects"]
"""What a scheme learns of the labels: themselves, the depths of the objects in them, or the objects."""
OBJECT = "object"
"""Name of the one label where every id is an object."""


@runtime_checkable
class HasObjects(Protocol):
    """Labels that keep their objects apart, such as a mask for each."""

    def objects(self, grid: Grid | None) -> Segmentation:
        """The numbers of the objects, from 1 on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfObjects(Case):
    """A case whose labels hold objects."""

    inner: Case
    connected: bool
    """Whether an object is a connected part of a label, or what has one id."""
    ignore_label: int | None
    """The id of what is not annotated."""

    @property
    def _object_id(self) -> int:
        return 2 if self.ignore_label == 1 else 1

    def _numbers(self, labels: Segmentation) -> npt.NDArray[np.int32]:
        """The numbers (Z, Y, X) of the objects, on the grid of the labels of this case."""
        if self._source is not None:
            return np.asarray(self._source.objects(labels.grid).data[...], np.int32)
        ids = np.asarray(self.inner.segmentation(labels.grid).data[...])
        return objects_of(np.where(ids == self._ignored, 0, ids), connected=self.connected)

    @property
    def _source(self) -> HasObjects | None:
        """The labels, where they keep their objects apart themselves."""
        labels: object = self.inner.labels
        return labels if isinstance(labels, HasObjects) else None

    @property
    def _ignored(self) -> int:
        return -1 if self.ignore_label is None else self.ignore_label

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        """The labels; one label, "object", where every id is an object."""
        labels = self.inner.segmentation(grid)
        if self.connected or self._source is not None:
            return labels
        ids = np.asarray(labels.data[...])
        inside = (ids > 0) & (ids != self._ignored)
        return Segmentation(
            np.where(inside, self._object_id, ids), labels.grid, {self._object_id: OBJECT}, name=labels.name
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class WithObjects(_OfObjects):
    """A case whose objects are known one by one."""

    def numbers(self, labels: Segmentation) -> npt.NDArray[np.int32]:
        """See `training.cases.Numbered`."""
        return self._numbers(labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class WithDepths(_OfObjects):
    """A case whose labels are the depths of its objects."""

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        """The depths of each label, under names that `depths_in` knows."""
        labels = super().segmentation(grid)
        ids = np.asarray(labels.data[...])
        depths = depths_of(self._numbers(labels), labels.grid.spacing)
        after = self.ignore_label or 0
        inside = depths > 0
        there = np.unique(ids[inside]).tolist()
        made = np.where(ids == self._ignored, ids, 0).astype(
            label_dtype(depth_label(max(there, default=1), DEPTHS, after))
        )
        made[inside] = depth_label(ids[inside].astype(np.int64), depths[inside].astype(np.int64), after)
        names = {
            depth_label(label, depth, after): depth_name(labels.label_name(label), depth)
            for label in there
            for depth in range(1, DEPTHS + 1)
        }
        return Segmentation(made, labels.grid, names, name=labels.name)


_KINDS: dict[Learns, Callable[..., Case]] = {"depths": WithDepths, "objects": WithObjects}


def cases_for(learns: Learns, cases: Sequence[Case], config: TrainConfig) -> list[Case]:
    """The cases as a scheme learns them. Raises InputError for settings that do not go with objects."""
    if learns == "labels":
        return list(cases)
    if config.loss.weak != "none":
        raise InputError(f"scheme {config.scheme} learns from masks of objects: choose weak=none")
    if config.cascade != "none":
        raise InputError(f"scheme {config.scheme} trains one network: choose cascade=none")
    own = {"connected": config.objects == "components", "ignore_label": config.loss.ignore_label}
    return [
        _KINDS[learns](**{f.name: getattr(case, f.name) for f in fields(Case)}, inner=case, **own) for case in cases
    ]
