"""A path that chooses a part of what it names: `FOLDER#SERIES`, `FILE#SEGMENTS`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseg.errors import InputError


class ChoiceError(InputError):
    """A path names several things of which one must be chosen; `choices` are the paths that name one each."""

    def __init__(self, message: str, choices: Sequence[str]) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


def split(path: Path) -> tuple[Path, str]:
    """The path in front of the last "#" and the choice behind it; the choice is empty where the whole path exists."""
    name, mark, choice = path.name.rpartition("#")
    if not mark or not name or path.exists():
        return path, ""
    return path.with_name(name), choice
