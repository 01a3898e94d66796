"""A path that chooses a part of what it names: `FOLDER#SERIES`, `FILE#SEGMENTS`."""

from __future__ import annotations

from pathlib import Path


def split(path: Path) -> tuple[Path, str]:
    """The path in front of the last "#" and the choice behind it; the choice is empty where the whole path exists."""
    name, mark, choice = path.name.rpartition("#")
    if not mark or not name or path.exists():
        return path, ""
    return path.with_name(name), choice
