"""One writer for one target: a lock beside it that ends with its process, and the names of unfinished files.

While a target X is written, two things lie beside it: the lock ".x.lock" and the temporary file or folder
".medseg-1a2b3c4d-x", or ".medseg-partial-x" for work that can be resumed. A killed process leaves them behind, and they
block no one: the system frees the lock (flock(2); on Windows LockFileEx), and the next writer of X removes what it
finds, but for work that can be resumed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import FileError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_ASIDE = ".old"
_PARTIAL = "partial"
JOURNAL = ".journal"
"""The file in an unfinished store that says what in it is done: such a store can be resumed."""
_LONG_NAME = 100
"""Bytes. What lies beside a target has its name and more; a longer name is shortened there. Most systems take 255, an
encrypted folder of Linux 143."""
_SUFFIXES = re.compile(r"(\.[a-z0-9]{1,8}){1,2}$")
"""What a shortened name keeps: libraries choose a format by it."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""How a file system says that it has no locks."""


@contextmanager
def locked(path: Path, *, whole_process: bool = False) -> Iterator[None]:
    """Inside, no other run writes to `path`, whose folder exists. FileError names the process that already does.

    A lock within a lock is granted: to the same thread, or with whole_process to all threads. A file system without
    locks grants it to everyone.
    """
    # Names that differ by case only may be the same file.
    place = path.with_name(f".{_short_name(path)}.lock")
    try:
        _check_name(path)
        lock = _take(path, place, whole_process=whole_process)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    if lock is None:
        yield
        return
    try:
        _clear(path)
        yield
    finally:
        # Removed while it is locked: afterwards it may be the lock of another. Windows removes no open file; there
        # filelock removes it after the release.
        if sys.platform != "win32":
            place.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class Hold:
    """A file that is kept for one owner, until `release` or the end of the process."""

    path: Path
    _lock: BaseFileLock | None
    """None on a file system without locks."""

    def release(self) -> None:
        if self._lock is None or not self._lock.is_locked:
            return
        if sys.platform != "win32":  # see `locked`
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def hold(path: Path, place: Path) -> Hold | None:
    """Keep `path` by a lock at `place`, against owners in this process too; None where another has it.

    Unlike `locked` it says nothing about who writes. A file system without locks grants it to everyone. Raises
    FileError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(place, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise FileError(f"{path}: cannot be kept for one owner: {error.strerror or error}") from error
        place.unlink(missing_ok=True)
        return Hold(path, None)
    return Hold(path, lock)


def temporary_beside(path: Path) -> Path:
    """A new name beside `path`. Its suffixes are in lower case, for libraries that choose a format by the suffix."""
    return path.with_name(f".medseg-{secrets.token_hex(4)}-{_short_name(path)}")


def partial_beside(path: Path) -> Path:
    """The place beside `path` of work that can be resumed. The next writer leaves it there if it holds a JOURNAL."""
    return path.with_name(f".medseg-{_PARTIAL}-{_short_name(path)}")


def _short_name(path: Path) -> str:
    """The name in lower case; a digest and the suffixes of one that is long, or that libraries take for a pattern."""
    name = path.name.lower()
    if len(os.fsencode(name)) <= _LONG_NAME and "%" not in name:
        return name
    suffixes = _SUFFIXES.search(name)
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32] + (suffixes[0] if suffixes else "")


def _check_name(path: Path) -> None:
    """OSError if the system takes no file of this name, before anything is computed for it."""
    with suppress(FileNotFoundError):
        path.lstat()


def aside(temporary: Path) -> Path:
    """The name of an old folder while the new one, `temporary`, takes its place."""
    return temporary.with_name(temporary.name + _ASIDE)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _take(path: Path, place: Path, *, whole_process: bool) -> BaseFileLock | None:
    """The lock; None where it is already ours, or the file system has none. FileError where another has it."""
    from filelock import FileLock, Timeout

    # No fallback: the soft lock of filelock is a file, which would outlive a killed process.
    lock = FileLock(place, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=_sign)
    while True:
        try:
            lock.acquire()
            return lock
        except Timeout:
            try:
                holder = _signature(place)
            except FileNotFoundError:  # the other has just released it
                continue
            if holder[: 2 - whole_process] == _ourselves()[: 2 - whole_process]:
                return None
            raise _held(path, holder) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            place.unlink(missing_ok=True)
            return None


def _sign(handle: int) -> None:
    """Write our process and thread into the lock, behind its first byte: Windows lets no one else read that one."""
    with suppress(OSError):  # on a full disk the lock holds without a name
        os.truncate(handle, 0)
        os.write(handle, f" {' '.join(_ourselves())}".encode())


def _signature(place: Path) -> list[str]:
    """Process and thread of the holder; empty where it has not signed."""
    with place.open("rb") as file:
        file.seek(1)
        return file.read(64).decode().split()


def _ourselves() -> list[str]:
    return [str(os.getpid()), str(threading.get_ident())]


def _held(path: Path, holder: list[str]) -> FileError:
    who = f"process {holder[0]}" if holder else "another process"
    return FileError(f"{path}: {who} is writing it: wait until that has ended, or choose another name")


def _clear(path: Path) -> None:
    """Remove what killed writers of `path` left; an old folder that stepped aside for a new one comes back."""
    name = re.compile(rf"\.medseg-([0-9a-f]{{8}}|{_PARTIAL})-{re.escape(_short_name(path))}({re.escape(_ASIDE)})?")
    for left in sorted(path.parent.glob(".medseg-*")):
        match = name.fullmatch(left.name)
        if match and match[2] and not path.exists():
            left.replace(path)
        elif match and (match[2] or not (left / JOURNAL).is_file()):
            remove(left)
