"""What a training leaves beside its model, and where.

Nothing here loads torch: a window asks it while the user types.
"""

from __future__ import annotations

from pathlib import Path

from napari_medseg.models.naming import SUFFIX

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
