"""Where the logs of unfinished sessions lie: one file for each volume, found again by the volume's fingerprint."""

from __future__ import annotations

import hashlib
import os
from itertools import count
from pathlib import Path

import msgspec

from napari_medseg.interactive.log import fingerprint
from napari_medseg.io.disk import files
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


def earlier_logs(log: Path) -> list[Path]:
    """The log of a volume and those that were set aside for later ones, the newest first."""
    found = [path for path in (log, *log.parent.glob(f"{log.stem}.*.json")) if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def set_aside(log: Path) -> Path | None:
    """Give a log a name with the first free number, so that another one can be written; None where there is none.

    Raises FileError.
    """
    if not log.is_file():
        return None
    aside = next(path for n in count(1) if not (path := log.with_name(f"{log.stem}.{n}.json")).exists())
    with files.os_errors_as_file_errors(aside, log.parent):
        log.rename(aside)
    return aside
