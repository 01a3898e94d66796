"""Files as such: is it there, is it whole, and how a new one takes the place of an old one."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_medseg.errors import FileError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _kind(status: os.stat_result) -> str:
    return next((text for test, text in _KINDS if test(status.st_mode)), "something else")


def status_of(path: Path) -> os.stat_result:
    """The status of what a path leads to; FileError where it leads nowhere."""
    try:
        return path.stat()
    except FileNotFoundError:
        raise FileError(f"no such file: {path}" + (" (a link to nothing)" if path.is_symlink() else "")) from None
    except OSError as error:
        raise FileError(f"{path}: cannot be opened: {error.strerror}") from error


def check_regular(path: Path) -> int:
    """The size in bytes of a regular, readable file that is not empty; FileError otherwise. Nothing is opened."""
    if check_file(path) == 0:
        raise FileError(f"{path}: the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: cannot be opened: no permission to read it")
    return path.stat().st_size


def check_file(path: Path) -> int:
    """The size of a regular file that may be empty; FileError for a pipe or a device, which would be waited for."""
    status = status_of(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path}: not a regular file but {_kind(status)}")
    return status.st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffixes; what was written there takes the place of `path` at the end.

    On any fault the temporary file or folder is removed and `path` is as it was. Raises FileError where the system
    refuses to write.
    """
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: no such folder: {path.parent}")
    # Lower case, for the libraries that go by the suffix and know no other.
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name.lower()}")
    try:
        yield temporary
        _flush(temporary)
        _rename(temporary, path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(temporary)


@contextmanager
def replacing_parts(path: Path, *, named_by_suffix: bool) -> Iterator[Path]:
    """As `replacing`, for a header whose voxels lie in files beside it: the path to write to, in a folder of its own.

    At the end all files written there are put beside `path`, the header last. named_by_suffix: the header does not
    name them, they are found by their suffix, which is upper case where that of `path` is.
    """
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: no such folder: {path.parent}")
    folder = path.with_name(f".{secrets.token_hex(4)}-parts")
    try:
        folder.mkdir()
        # Lower case, for the libraries that go by the suffix and know no other.
        header = folder / (path.stem + path.suffix.lower())
        yield header
        for part in sorted(folder.iterdir(), key=lambda part: part == header):
            _flush(part)
            upper = part == header or named_by_suffix
            suffix = part.suffix.upper() if upper and path.suffix.isupper() else part.suffix
            _rename(part, path.with_name(part.stem + suffix))
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(folder)


def _flush(path: Path) -> None:
    """Have the system put a file's bytes on the disk; a folder's files are many, small and rewritten, and are left."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _rename(temporary: Path, path: Path) -> None:
    """Put the new file or folder in place; a folder cannot be renamed over another, so the old one steps aside."""
    if not path.is_dir() or path.is_symlink():
        temporary.replace(path)
        return
    aside = temporary.with_name(temporary.name + ".old")
    path.replace(aside)
    try:
        temporary.replace(path)
    except OSError:
        aside.replace(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
