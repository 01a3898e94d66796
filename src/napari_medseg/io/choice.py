"""A path that chooses a part of what it names: `FOLDER#SERIES`, `FILE#SEGMENTS`, `FILE#TIME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseg.errors import InputError


class ChoiceError(InputError):
    """A path names several things, and one must be chosen.

    `choices` holds a path for each of them; `words` says what each is, where the file says it.
    """

    def __init__(self, message: str, choices: Sequence[str], words: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)
        self.words = tuple(words) or ("",) * len(self.choices)


class PointError(InputError):
    """A path names a whole time series. `points` holds a path for each time point, in order."""

    def __init__(self, message: str, points: Sequence[str]) -> None:
        super().__init__(message)
        self.points = tuple(points)


def split(path: Path) -> tuple[Path, str]:
    """The path before the last "#", and the choice after it. The choice is empty where the whole path exists."""
    name, mark, choice = path.name.rpartition("#")
    if not mark or not name or path.exists():
        return path, ""
    return path.with_name(name), choice


def point(path: Path, part: str, count: int, what: str, *others: str) -> int:
    """The time point that `part` chooses, from 0 to `count` - 1.

    what: the image in words, for the message. others: further choices. Raises PointError where `part` is empty, and
    InputError where it is no time point; both list the choices.
    """
    if part.isdecimal() and int(part) < count:
        return int(part)
    chosen = f"#{part} is none of them" if part else "which time point or channel is meant is not guessed"
    choices = ", or ".join((f"{path.name}#0 to {path.name}#{count - 1}", *others))
    message = f"{path}: {what}; {chosen}: name {choices}"
    raise InputError(message) if part else PointError(message, [f"{path}#{n}" for n in range(count)])


def refuse_part(path: Path, part: str) -> None:
    """Raise InputError unless `part` is empty: the file holds one volume, and there is nothing to choose."""
    if part:
        raise InputError(f"{path}: #{part} chooses nothing: the file holds one volume only: name {path.name} alone")
