"""Where the results of a run go, and whether it continues an earlier one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import InputError, NotSupportedError

if TYPE_CHECKING:
    from napari_medseg.models.file import Model
    from napari_medseg.models.several import ModelSet


@dataclass(frozen=True)
class Wanted:
    """Where results go: paths of stores, or None. Raises InputError for a path that comes twice."""

    out: Path | None = None
    """Labels; None for an array in memory."""
    probabilities: Path | None = None
    uncertainty: Path | None = None
    resume: bool = False
    """Whether to continue what is at `out`."""
    regions: Mapping[str, Path] | None = None
    """{region that overlaps: labels of it alone}; one without a path is an array in memory. None: no regions."""

    def __post_init__(self) -> None:
        given = self.paths
        if len({path.resolve() for path in given}) < len(given):
            raise InputError(f"{given[0]}: labels, probabilities, uncertainty and regions need names of their own")

    @property
    def paths(self) -> list[Path]:
        """Those that are wanted, the labels first."""
        return [*self.labels, *(path for path in (self.probabilities, self.uncertainty) if path is not None)]

    @property
    def labels(self) -> list[Path]:
        """Those that hold labels."""
        return [*([] if self.out is None else [self.out]), *(self.regions or {}).values()]

    @classmethod
    def of(
        cls,
        out: str | Path | None,
        probabilities: str | Path | None = None,
        uncertainty: str | Path | None = None,
        *,
        resume: bool = False,
    ) -> Wanted:
        """The paths of a request. Raises InputError for paths that are not stores, and for one that comes twice."""
        labels, *more = (None if path is None else Path(path) for path in (out, probabilities, uncertainty))
        wanted = cls(labels, more[0], more[1], resume)
        for path in wanted.paths:
            if path.suffix.lower() != ".zarr":
                raise InputError(
                    f"{path}: labels are streamed into a .zarr folder; for other formats use write(path, segment(...))"
                )
        if resume and out is None:
            raise InputError("resume needs out, the .zarr folder that an earlier run was filling")
        return wanted


def region_names(model: Model | ModelSet) -> tuple[str, ...]:
    """The names of a model's regions, in the order of its outputs; equal names are numbered.

    Raises InputError for a model that gives one label per voxel, NotSupportedError for a set of models.
    """
    from napari_medseg.models.several import ModelSet

    if isinstance(model, ModelSet):
        raise NotSupportedError("a set of models gives one label per voxel: for regions that overlap give one model")
    if not model.spec.output.regions:
        raise InputError(f"{model.path}: the model has no regions that overlap: leave regions out")
    names: list[str] = []
    for region in model.spec.output.regions:
        numbered = (f"{region.name} {n}" if n > 1 else region.name for n in itertools.count(1))
        names.append(next(name for name in numbered if name not in names))
    return tuple(names)


def region_paths(model: Model | ModelSet, pattern: str) -> dict[str, Path]:
    """{region: path} of a pattern with "{region}" in it. Letters that not every system takes become "_".

    Raises as `region_names`, and InputError for regions whose files would be one.
    """
    paths = {name: Path(pattern.replace("{region}", _as_file_name(name))) for name in region_names(model)}
    Wanted(regions=paths)
    return paths


def _as_file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
