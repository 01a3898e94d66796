"""One writer for one target: a lock beside it that dies with its process, and the names of what is not finished yet.

Beside a target X lie, while it is written, the lock ".x.lock" and the temporary file or folder ".medseg-1a2b3c4d-x".
A process that is killed leaves them behind. They block no one: the lock is one of the system (flock(2); on Windows
LockFile), which ends with the process, and the next writer of X removes what it finds.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_medseg.errors import FileError

_ASIDE = ".old"
#: where Windows locks a byte, which no one else can read then: far behind what is written
_LOCKED_BYTE = 1 << 30


@contextmanager
def claimed(path: Path, *, whole_process: bool = False) -> Iterator[None]:
    """Inside, no other run writes to `path`, whose folder exists; FileError names the process that does already.

    A claim is granted again within itself: to the same thread, or with whole_process to all threads. Where the file
    system has no locks, it is granted to everyone.
    """
    # Names that differ by case only may be the same file.
    lock = path.with_name(f".{path.name.lower()}.lock")
    try:
        handle = _take(path, lock, whole_process=whole_process)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    if handle is None:
        yield
        return
    try:
        _clear(path)
        yield
    finally:
        _release(handle, lock)


def temporary_beside(path: Path) -> Path:
    """A new name beside `path`, with its suffixes in lower case, which libraries that go by the suffix know."""
    return path.with_name(f".medseg-{secrets.token_hex(4)}-{path.name.lower()}")


def aside(temporary: Path) -> Path:
    """The name of an old folder while the new one, `temporary`, takes its place."""
    return temporary.with_name(temporary.name + _ASIDE)


def remove(path: Path) -> None:
    """Remove a file or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _take(path: Path, lock: Path, *, whole_process: bool) -> int | None:
    """The open lock; None where the claim is ours already, or no locks are to be had. Raises FileError where held."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(handle)
        except BlockingIOError:
            holder = os.read(handle, 64).decode().split()
            os.close(handle)
            if holder[: 2 - whole_process] == _ourselves()[: 2 - whole_process]:
                return None
            raise _held(path, holder) from None
        except OSError:
            _release(handle, lock)
            return None
        if _is_at(handle, lock):
            with suppress(OSError):  # on a full disk it holds all the same, and names no one
                os.truncate(handle, 0)
                os.write(handle, " ".join(_ourselves()).encode())
            return handle
        os.close(handle)  # its holder has just removed it: it locks nothing any more


def _ourselves() -> list[str]:
    return [str(os.getpid()), str(threading.get_ident())]


def _held(path: Path, holder: list[str]) -> FileError:
    who = f"process {holder[0]}" if holder else "another process"
    return FileError(f"{path}: {who} is writing it: wait until that has ended, or choose another name")


def _lock(handle: int) -> None:
    """Lock an open file for this opening of it. BlockingIOError where another has it, OSError without locks."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(handle: int, lock: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), lock.stat())
    return False


def _release(handle: int, lock: Path) -> None:
    if sys.platform == "win32":  # which removes no open file
        os.close(handle)
        with suppress(OSError):
            lock.unlink()
    else:  # while it is locked: afterwards it may be another's
        lock.unlink(missing_ok=True)
        os.close(handle)


def _clear(path: Path) -> None:
    """Remove what killed writers of `path` left; an old folder that had made place for a new one comes back."""
    name = re.compile(rf"\.medseg-[0-9a-f]{{8}}-{re.escape(path.name.lower())}({re.escape(_ASIDE)})?")
    for left in sorted(path.parent.glob(".medseg-*")):
        match = name.fullmatch(left.name)
        if match and match[1] and not path.exists():
            left.replace(path)
        elif match:
            remove(left)
