"""Names: the suffix of model files, a name that is free, and when two labels or channels have the same name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_medseg.errors import InputError, MedsegError

SUFFIX = ".safetensors"
"""As we write it; files from elsewhere may have it in capitals."""


def is_model_path(path: str | Path) -> bool:
    """Whether a path has the suffix of a model file, in any case of letters."""
    return Path(path).suffix.lower() == SUFFIX


def require_model_path(path: Path, error: type[MedsegError] = InputError) -> None:
    """Raise `error` unless a model can be written under that name."""
    if not is_model_path(path):
        raise error(f"{path}: a model is written as *{SUFFIX}; got suffix {path.suffix!r}")


def first_free(paths: Iterable[Path]) -> Path:
    """The first of the paths at which nothing lies."""
    return next(path for path in paths if not path.exists())


def is_named(label: int, name: str) -> bool:
    """Whether a label has a name of its own: files without names give "label 7" to 7."""
    return name_key(name) != f"label {label}"


def same_name(a: str, b: str) -> bool:
    """Whether two names mean the same: the case of letters, blanks and underscores do not count."""
    return name_key(a) == name_key(b)


def called(label: int, names: Mapping[int, str]) -> str:
    """A label as messages name it: its id, and its name where it has one of its own."""
    return f"{label} ({names[label]})" if is_named(label, names[label]) else str(label)


def name_key(name: str) -> str:
    """What two names that mean the same have in common."""
    return " ".join(name.replace("_", " ").casefold().split())
