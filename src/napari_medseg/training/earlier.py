"""Files that an earlier training left under the same name: they may have taken a night, so they are kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_medseg.io.disk.files import os_errors_as_file_errors
from napari_medseg.models.naming import first_free


def name_to_keep(path: Path) -> Path:
    """The first free name beside `path` of NAME.previous, NAME.previous-2 and so on, with the suffix of `path`."""
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return first_free(path.with_name(f"{path.stem}.previous{ending}{path.suffix}") for ending in endings)


def step_aside(path: Path) -> Path | None:
    """Rename what is at `path`, and return the new name; None where nothing is there. Raises FileError."""
    if not path.exists():
        return None
    kept = name_to_keep(path)
    with os_errors_as_file_errors(path, kept):
        path.replace(kept)
    return kept


@contextmanager
def stepping_aside(path: Path) -> Iterator[None]:
    """Inside, the file at `path` lies beside it under another name; it comes back where the work inside fails."""
    kept = step_aside(path)
    try:
        yield
    except BaseException:
        if kept is not None:
            kept.replace(path)
        raise
