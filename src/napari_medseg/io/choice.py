"""A path that chooses a part of what it names: `FOLDER#SERIES`, `FILE#SEGMENTS`, `FILE#TIME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseg.errors import InputError


class ChoiceError(InputError):
    """A path names several things of which one must be chosen; `choices` are the paths that name one each."""

    def __init__(self, message: str, choices: Sequence[str]) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class PointError(InputError):
    """A path names a time series, and none of its points; `points` are the paths that name one each, in order."""

    def __init__(self, message: str, points: Sequence[str]) -> None:
        super().__init__(message)
        self.points = tuple(points)


def split(path: Path) -> tuple[Path, str]:
    """The path in front of the last "#" and the choice behind it; the choice is empty where the whole path exists."""
    name, mark, choice = path.name.rpartition("#")
    if not mark or not name or path.exists():
        return path, ""
    return path.with_name(name), choice


def point(path: Path, part: str, count: int, what: str, *others: str) -> int:
    """Which of `count` time points `part` chooses, counted from 0.

    what: the image in words, for the message; others: further choices that there are. Raises InputError, with the
    choices, where `part` chooses none: a PointError where it is empty.
    """
    if part.isdecimal() and int(part) < count:
        return int(part)
    chosen = f"#{part} is none of them" if part else "which time point or channel is meant is not guessed"
    choices = ", or ".join((f"{path.name}#0 to {path.name}#{count - 1}", *others))
    message = f"{path}: {what}; {chosen}: name {choices}"
    raise InputError(message) if part else PointError(message, [f"{path}#{n}" for n in range(count)])


def refuse_part(path: Path, part: str) -> None:
    """Raise InputError where `part` chooses although there is nothing to choose from."""
    if part:
        raise InputError(f"{path}: #{part} chooses nothing, for there is one volume only: name {path.name} alone")
