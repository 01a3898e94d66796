"""What a new file would replace, kept beside it under another name: it may have taken a night, or a day by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_medseg.errors import warn
from napari_medseg.io.disk.files import os_errors_as_file_errors


def name_to_keep(path: Path, suffix: str | None = None) -> Path:
    """The first free name beside `path` of NAME.previous, NAME.previous-2 and so on, with the suffix of `path`.

    suffix: one of several parts, such as ".nii.gz"; by default what follows the last dot.
    """
    stem = path.name[: len(path.name) - len(path.suffix if suffix is None else suffix)]
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f"{stem}.previous{ending}{path.name[len(stem) :]}" for ending in endings)
    return next(place for place in map(path.with_name, names) if not place.exists())


def step_aside(path: Path, suffix: str | None = None) -> Path | None:
    """Rename what is at `path`, and return the new name; None where nothing is there. Raises FileError.

    suffix: as that of `name_to_keep`.
    """
    if not path.exists():
        return None
    kept = name_to_keep(path, suffix)
    with os_errors_as_file_errors(path, kept):
        path.replace(kept)
    return kept


def warn_if_kept(path: Path) -> None:
    """Warn where a model of this name is there: it is kept, and under which name."""
    if path.exists():
        warn(f"{path.name}: a model of this name is there: it is kept as {name_to_keep(path).name}")


@contextmanager
def stepping_aside(path: Path, suffix: str | None = None) -> Iterator[None]:
    """Inside, the file at `path` lies beside it under another name; it comes back where the work inside fails and
    leaves nothing there.

    suffix: as that of `name_to_keep`.
    """
    kept = step_aside(path, suffix)
    try:
        yield
    except BaseException:
        if kept is not None and not path.exists():
            kept.replace(path)
        raise
