"""Where the results of a run go, and whether it continues an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_medseg.errors import InputError


@dataclass(frozen=True)
class Wanted:
    """Where results go: paths of stores, or None. Raises InputError for a path that comes twice."""

    out: Path | None = None
    """Labels; None for an array in memory."""
    probabilities: Path | None = None
    uncertainty: Path | None = None
    resume: bool = False
    """Whether to continue what is at `out`."""

    def __post_init__(self) -> None:
        given = self.paths
        if len({path.resolve() for path in given}) < len(given):
            raise InputError(f"{given[0]}: labels, probabilities and uncertainty need names of their own")

    @property
    def paths(self) -> list[Path]:
        """Those that are wanted, the labels first."""
        return [path for path in (self.out, self.probabilities, self.uncertainty) if path is not None]

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
            if path.suffix != ".zarr":
                raise InputError(
                    f"{path}: labels are streamed into a .zarr folder; for other formats use write(path, segment(...))"
                )
        if resume and out is None:
            raise InputError("resume needs out, the .zarr folder that an earlier run was filling")
        return wanted
