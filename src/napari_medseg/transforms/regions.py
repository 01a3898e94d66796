"""Regions: several labels that are taken for one, such as the liver with the tumours in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.views import Mapped
from napari_medseg.config import RegionsConfig
from napari_medseg.errors import InputError
from napari_medseg.volume import LazyArray, Segmentation, label_dtype, same_name

Array = npt.NDArray[Any]
Merge = Mapping[str, Iterable[int]] | Sequence[tuple[str, tuple[int, ...]]]
"""{name: label ids} of regions, or such pairs."""

FOREGROUND = "foreground"
"""The name of all that is labelled, taken for one."""


@dataclass(frozen=True)
class Region:
    """Labels that become one."""

    name: str
    ids: tuple[int, ...]
    """The labels in it; empty for all above 0."""
    label: int
    """The id that its voxels get."""


@dataclass(frozen=True)
class Pass:
    """Regions that share no label, and so go into one segmentation."""

    regions: tuple[Region, ...]
    gone: frozenset[int] | None
    """Labels that become background where they are in none of these regions; None for all."""
    named: frozenset[int] = frozenset()
    """All labels that are in a region, of this pass or of another."""

    def of(self, labels: Segmentation) -> Segmentation:
        """The labels with each region in place of the labels in it: a lazy view where the labels are lazy.

        Raises InputError for a label of no region that has the id or the name of a region.
        """
        if not self.regions:
            return labels
        largest = max(region.label for region in self.regions)
        own = np.dtype(labels.data.dtype)
        dtype = np.promote_types(np.uint8 if own.kind == "b" else own, label_dtype(largest))
        data: LazyArray = Mapped(labels.data, self._mapped, dtype)
        if isinstance(labels.data, np.ndarray):
            data = data[...]
        kept = {i: name for i, name in labels.labels.items() if self._keeps(i)}
        names = {region.label: region.name for region in self.regions}
        for label, name in kept.items():
            for region in names.values():
                if same_name(region, name):
                    raise InputError(
                        f"{labels.name or 'labels'}: the region {region} has the name of label {label}, which is in no "
                        f"region: put {label} into it, or name the region differently"
                    )
        colours = {i: colour for i, colour in labels.colours.items() if i in names or self._keeps(i)}
        return replace(labels, data=data, labels={**kept, **names}, colours=colours)

    def _keeps(self, label: int) -> bool:
        """Whether a label stays as it is."""
        return self.gone is not None and label not in self.gone

    def _mapped(self, ids: Array) -> Array:
        """The ids of the regions in place of those in them."""
        if self.gone is None:
            found = np.zeros(ids.shape, np.int64)
        else:
            found = np.where(np.isin(ids, sorted(self.gone)), 0, ids.astype(np.int64))
        for region in self.regions:
            # In every pass: what is measured goes into one table, in which an id means one thing.
            if region.ids and region.label not in self.named and (ids == region.label).any():
                raise InputError(
                    f"the region {region.name} gets the id {region.label}, which a label of no region has: name that "
                    f"label in a region"
                )
        for region in self.regions:
            found[np.isin(ids, region.ids) if region.ids else ids > 0] = region.label
        return found


def passes(config: RegionsConfig) -> tuple[Pass, ...]:
    """What a config asks for, in as few passes as regions that share labels allow; at least one."""
    if config.foreground:
        return (Pass((Region(FOREGROUND, (), 1),), None),)
    groups: list[list[Region]] = [[]]
    for region in regions(config.merge):
        free = (g for g in groups if not any(set(region.ids) & set(other.ids) for other in g))
        group = next(free, None)
        if group is None:
            groups.append(group := [])
        group.append(region)
    named = frozenset(i for _, ids in config.merge for i in ids)
    return tuple(Pass(tuple(group), None if n else named, named) for n, group in enumerate(groups))


def regions(merge: Sequence[tuple[str, tuple[int, ...]]]) -> list[Region]:
    """The regions with their ids, in the order given: each gets its smallest label that no smaller region has taken.

    Of the regions {1, 2, 3}, {1, 3} and {3}, as in BraTS, the whole gets 2, the core 1 and the last one 3.
    """
    taken: dict[str, int] = {}
    spare = max((i for _, ids in merge for i in ids), default=0)
    for name, ids in sorted(merge, key=lambda region: len(region[1])):
        own = [i for i in ids if i not in taken.values()]
        spare += not own
        taken[name] = own[0] if own else spare
    return [Region(name, ids, taken[name]) for name, ids in merge]


def merged(labels: Segmentation, merge: Merge) -> Segmentation:
    """The labels with each region in place of the labels in it. merge: {name: ids}.

    Raises InputError where a label is in two regions: a voxel has one label.
    """
    return only_pass(merge).of(labels)


def only_pass(merge: Merge) -> Pass:
    """The pass of regions that share no label. Raises InputError for others."""
    config = RegionsConfig(merge=merge)  # type: ignore[arg-type]  # made a tuple there
    found = passes(config)
    if len(found) > 1:
        seen: dict[int, str] = {}
        for name, ids in config.merge:
            for i in ids:
                if i in seen:
                    raise InputError(
                        f"label {i} is in the regions {seen[i]} and {name}, and a voxel has one label: only evaluate "
                        f"takes regions that share labels"
                    )
                seen[i] = name
    return found[0]


def parsed(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """{name: ids} of texts such as "liver=1,2". Raises InputError for other texts."""
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, ids = text.partition("=")
        words = [word.strip() for word in ids.split(",")]
        if not name.strip() or not all(word.isdecimal() for word in words):
            raise InputError(f"--merge takes a name and label ids, such as liver=1,2; got {text!r}")
        if name.strip() in found:
            raise InputError(f"--merge names the region {name.strip()} twice: give all of its labels at once")
        found[name.strip()] = tuple(int(word) for word in words)
    return found
