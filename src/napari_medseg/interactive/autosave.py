"""Where the logs of unfinished sessions lie: one file for each volume, found again by the volume's fingerprint."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from napari_medseg.interactive.log import fingerprint
from napari_medseg.volume import Volume


def sessions_folder() -> Path:
    """Where sessions are saved while they go on: $MEDSEG_SESSIONS, else the user's data folder. May not exist."""
    import platformdirs

    named = os.environ.get("MEDSEG_SESSIONS")
    return Path(named) if named else platformdirs.user_data_path("napari-medseg") / "sessions"


def log_path(volume: Volume) -> Path:
    """The file of a volume's session; it may not exist. Reads some blocks of the volume."""
    digest = hashlib.sha256(msgspec.json.encode(fingerprint(volume))).hexdigest()
    return sessions_folder() / f"{digest[:32]}.json"
