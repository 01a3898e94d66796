"""What a parser that was taken over might try: each on a folder with one file in it, told by the error's name."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

FILE = "old.txt"
CONTENT = "a file that was here before"
WRITES = ("create", "append", "truncate", "delete", "rename", "make a folder", "link", "symlink", "execute")
ATTEMPTS = (*WRITES, "chmod", "age", "connect")


def outcomes(folder: Path) -> dict[str, str]:
    """{attempt: the name of its OSError, "" where it succeeds}; the file is read between them, which must succeed."""
    return {name: _outcome(attempt, folder / FILE) for name, attempt in _attempts(folder).items()}


def _attempts(folder: Path) -> dict[str, Callable[[], object]]:
    old = folder / FILE
    attempts: tuple[Callable[[], object], ...] = (
        (folder / "new").touch,
        lambda: old.open("a"),
        lambda: os.truncate(old, 0),
        old.unlink,
        lambda: old.rename(folder / "moved"),
        (folder / "made").mkdir,
        lambda: (folder / "linked").hardlink_to(old),
        lambda: (folder / "pointer").symlink_to(old),
        lambda: subprocess.run(["/bin/true"], check=False),
        lambda: old.chmod(0o777),
        lambda: os.utime(old, (0, 0)),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    )
    return dict(zip(ATTEMPTS, attempts, strict=True))


def _outcome(attempt: Callable[[], object], old: Path) -> str:
    assert old.read_text() == CONTENT
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""
