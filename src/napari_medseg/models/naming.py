"""Names of files: the suffix of models, and a name that is free."""

from __future__ import annotations

from collections.abc import Iterable
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
