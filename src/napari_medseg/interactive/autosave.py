"""Where the logs of unfinished sessions lie: one file for each volume, found again by the volume's fingerprint.

A session that goes on claims its log: two windows on one volume write two logs. A claim ends with its process, so that
the log of a window that crashed is free.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

import msgspec

from napari_medseg.interactive.log import fingerprint
from napari_medseg.io.disk import files, locks
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
    """The logs of a volume on which no window works now, the newest first. log: see `log_path`."""
    found = [path for path in (log, *log.parent.glob(f"{log.stem}.*.json")) if path.is_file() and not is_claimed(path)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def claim_new(log: Path) -> locks.Hold:
    """Claim a log's name for a new session; an earlier log of that name is set aside under a number.

    Where another window has the name, the session gets the first free number. Raises FileError.
    """
    files.make_folder(log.parent)
    hold = next(hold for path in chain([log], _numbered(log)) if (hold := claim(path)) is not None)
    if hold.path.is_file():
        aside = next(path for path in _numbered(log) if not path.exists() and not is_claimed(path))
        with files.os_errors_as_file_errors(aside, aside):
            hold.path.rename(aside)
    return hold


def claim(log: Path) -> locks.Hold | None:
    """Keep a log for one session until the claim is released; None where another window has it. Raises FileError."""
    return locks.hold(log, log.with_name(f".{log.stem}.open"))


def is_claimed(log: Path) -> bool:
    """Whether a window works on a log."""
    hold = claim(log)
    if hold is not None:
        hold.release()
    return hold is None


def _numbered(log: Path) -> Iterator[Path]:
    return (log.with_name(f"{log.stem}.{n}.json") for n in count(1))
