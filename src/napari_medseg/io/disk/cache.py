"""What is worth keeping from run to run, and may be lost: the user's cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of the cache: below $MEDSEG_CACHE, else below the system's place for it. It may not exist."""
    import platformdirs

    named = os.environ.get("MEDSEG_CACHE")
    return (Path(named) if named else platformdirs.user_cache_path("napari-medseg")) / name
