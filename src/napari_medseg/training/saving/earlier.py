"""What a training leaves beside its model, and how a later one of the same name keeps it: it may have taken a night.

Nothing here loads torch: a window asks it while the user types.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_medseg.io.disk.files import os_errors_as_file_errors
from napari_medseg.models.naming import SUFFIX, first_free

_LAST, _PREVIOUS = "state.safetensors", "state.previous.safetensors"


def folder_of(out: Path) -> Path:
    """The folder with the checkpoints of the training that makes the model `out`."""
    return out.with_suffix(".training")


def last_checkpoint(out: Path) -> Path:
    """The model file with the weights of the latest saved step."""
    return folder_of(out) / f"last{SUFFIX}"


def first_stage(out: Path) -> Path:
    """The model of the first stage of a cascade."""
    return folder_of(out) / f"first{SUFFIX}"


def states_in(folder: Path) -> tuple[Path, ...]:
    """Where the states of a training are, the newest first. A kill may leave the new one without its name."""
    return folder / f"new.{_LAST}", folder / _LAST, folder / _PREVIOUS


def is_unfinished(out: Path) -> bool:
    """Whether a training of the model `out`, or of its first stage, left a state to resume from."""
    stages = (out, first_stage(out))
    return any(path.exists() for stage in stages for path in states_in(folder_of(stage)))


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
