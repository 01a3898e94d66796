"""What a folder in a known layout holds: its annotated cases, and what the ids of their labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_medseg.cases import Case
from napari_medseg.datasets.label_sources import Own
from napari_medseg.transforms.regions import only_pass

_NAMED = 20
"""Most labels that a description names."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The annotated cases of a data set, in natural order of their names."""

    layout: str
    """The layout that was recognised, such as "nnU-Net raw"."""
    folder: Path
    """The folder that has this layout: the given one, or one inside it."""
    cases: tuple[Case, ...]
    labels: Mapping[int, str] = field(default_factory=dict)
    """{id: what it means}, as far as the layout says it."""
    merge: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Regions that are learned as one label each, as `merge` of `iter_train`."""
    ignore_label: int | None = None
    """The id of voxels that nobody annotated."""
    notes: tuple[str, ...] = ()
    """What the user should know of the labels, a line each."""

    def describe(self) -> tuple[str, ...]:
        """The data set in a few lines: what was recognised, what the ids mean, what is odd."""
        channels = self.cases[0].channels
        seen = f" with channels {', '.join(channels)}" if channels else ""
        named = [f"{i} {name}" for i, name in sorted(self.labels.items())]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        meant = f"; labels: {', '.join(named[:_NAMED])}{more}" if named else ""
        unknown = f"; not annotated: id {self.ignore_label}" if self.ignore_label is not None else ""
        return (f"{self.folder}: {self.layout}, {len(self.cases)} cases{seen}{meant}{unknown}", *self.notes)


def own_cases(data: DataSet, ignore_label: int | None) -> tuple[Case, ...]:
    """The cases of a data set as they can stand beside others, where the same ids may mean something else.

    Its regions are one label each already, and what nobody annotated has the id `ignore_label`. Raises InputError for
    regions that share a label.
    """
    if not data.merge and data.ignore_label in (None, ignore_label):
        return data.cases
    regions = only_pass(data.merge)
    return tuple(replace(case, labels=Own(case, regions, data.ignore_label, ignore_label)) for case in data.cases)
