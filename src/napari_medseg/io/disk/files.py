"""Files as such: whether one is there and whole, and how a new one takes the place of an old one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from napari_medseg.errors import FileError
from napari_medseg.io.disk import locks

_WANT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, of a user's full share of it, and of a file at its greatest size."""
_NO_ROOM_BYTES = 1 << 20
"""A disk with fewer free bytes is full."""
_REMOVALS, _BETWEEN_REMOVALS_S = 50, 0.1
"""How often what was left on a full disk is removed, while it comes back."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
"""An address such as https://... or s3://..., where a path keeps one slash; a drive has one letter."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _kind(status: os.stat_result) -> str:
    return next((text for test, text in _KINDS if test(status.st_mode)), "something else")


def check_name(path: Path) -> None:
    """FileError for a path that nothing can have."""
    if "\0" in str(path):
        raise FileError(f"no such file: {str(path)!r}: no file's name can hold a null byte")


def status_of(path: Path) -> os.stat_result:
    """The status of the file or folder at a path; FileError where nothing is there."""
    check_name(path)
    try:
        return path.stat()
    except FileNotFoundError:
        address = _ADDRESS.match(str(path))
        if address:
            raise FileError(f"{address[1]}://{address[2]}: addresses are not opened: download it first") from None
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
    """The size of a regular file, which may be empty; FileError for a pipe or a device: reading one may never end."""
    status = status_of(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path}: not a regular file but {_kind(status)}")
    return status.st_size


def check_no_folder(path: Path) -> None:
    """FileError where a folder, or a link to one, is at the path of a new file: a file never replaces a folder."""
    if os.path.isdir(path):  # unlike Path.is_dir it takes a name that is too long for one that is free
        what = "a link to a folder" if path.is_symlink() else "a folder"
        raise FileError(f"{path}: {what} of this name is there: choose another name, or the name of a file in it")


def check_no_file(path: Path) -> None:
    """FileError where something other than a folder is at the path of a folder to write in."""
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: a file of this name is there: choose another name or move it")


@contextmanager
def replacing(path: Path, needed_bytes: int | None = None, *, by_folder: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffixes. At the end the file written there takes the place of `path`.

    On any fault the temporary file or folder is removed and `path` is as it was. needed_bytes: its size if it does not
    compress, for the message of a full disk. by_folder: the caller writes a folder, and has checked that one at `path`
    may be replaced. A link at `path` is replaced, and its target stays. Raises FileError where a folder is in the way
    of a file, the system refuses to write, or another process writes there.
    """
    if not by_folder:
        check_no_folder(path)
    with _placing(path, needed_bytes) as temporary:
        yield temporary
        _flush(temporary)
        put(temporary, path)


@contextmanager
def replacing_parts(
    path: Path, needed_bytes: int | None = None, *, named_by_suffix: bool, stem: str = ""
) -> Iterator[Path]:
    """As `replacing`, for a header whose voxels lie in files beside it: a path to write to, in a folder of its own.

    At the end all files written there move beside `path`, the header last. named_by_suffix: the header does not name
    its files; readers find them by their suffix, which is upper case if that of `path` is. stem: what the files are
    called by, if not by the stem of `path`. Raises as `replacing`.
    """
    check_no_folder(path)
    with _placing(path, needed_bytes) as folder:
        folder.mkdir()
        # In lower case: libraries that choose a format by the suffix know no other.
        header = folder / ((stem or path.stem) + path.suffix.lower())
        yield header
        places = {}
        for part in sorted(folder.iterdir(), key=lambda part: part == header):
            _flush(part)
            upper = part == header or named_by_suffix
            suffix = part.suffix.upper() if upper and path.suffix.isupper() else part.suffix
            places[part] = path.with_name((path.stem if part == header else part.stem) + suffix)
            check_no_folder(places[part])
        for part, place in places.items():
            put(part, place)


def make_folder(path: Path) -> None:
    """Make a folder and the missing ones above it; FileError where the system refuses."""
    check_no_file(path)
    if path.is_dir():  # whatever a full disk says of it, it is not ours to remove
        return
    with os_errors_as_file_errors(path, path):
        path.mkdir(parents=True, exist_ok=True)


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in one piece, as `replacing`."""
    replace_all({path: content})


def replace_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files, as `replacing`; all are written before the first takes its place."""
    with ExitStack() as places:
        for path, content in contents.items():
            places.enter_context(replacing(path, len(content))).write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file; FileError where the system refuses."""
    try:
        path.unlink()
    except OSError as error:
        raise FileError(f"{path}: cannot be removed: {error.strerror or error}") from error


@contextmanager
def _placing(path: Path, needed_bytes: int | None) -> Iterator[Path]:
    """A locked path beside `path` for what is unfinished. It is gone at the end; each OSError becomes a FileError."""
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: no such folder: {path.parent}")
    temporary = locks.temporary_beside(path)
    with locks.locked(path, whole_process=True):
        try:
            with os_errors_as_file_errors(path, temporary, needed_bytes):
                yield temporary
        finally:
            locks.remove(temporary)


def require_room(folder: Path, needed_bytes: int) -> None:
    """FileError unless a folder of scratch files has room for `needed_bytes`.

    Without room, writing to a file that is mapped into memory ends the process.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise FileError(
            f"{folder}: {needed_bytes} bytes of scratch files are needed and {free} are free: make room there, or set "
            f"TMPDIR to another folder"
        )


@contextmanager
def os_errors_as_file_errors(path: Path, place: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Inside, an OSError of the system becomes a FileError that names `path`, whose new content is written at `place`.

    On a full disk the message says how much is free and how much is needed, and the content at `place` is removed,
    unless it has a journal: then it can be resumed once there is room.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        reason = f"{path}: cannot be written: {error.strerror or error}"
        if error.errno not in _WANT_OF_ROOM:
            raise FileError(reason) from error
        written = size_of(place)
        if not (place / locks.JOURNAL).is_file():
            _remove_all(place)
        needed = f"more than {written}" if needed_bytes is None else f"about {needed_bytes}"
        raise _no_room(path, reason, needed) from error


def _remove_all(place: Path) -> None:
    """Remove a file, or a folder into which threads of a library that failed may still put files for a while."""
    for _ in range(_REMOVALS):
        for file in _files_in(place):
            with suppress(OSError):
                os.truncate(file, 0)  # who holds the file open keeps its bytes on the disk
        locks.remove(place)
        time.sleep(_BETWEEN_REMOVALS_S)
        if not os.path.lexists(place):
            return


def _no_room(path: Path, reason: str, needed: str) -> FileError:
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    return FileError(
        f"{reason}: it needs {needed} bytes, and {shutil.disk_usage(folder).free} are free in {folder}: make room, or "
        f"choose another folder"
    )


def is_full(folder: Path) -> bool:
    """Whether a disk has next to no room: for libraries that do not say why they cannot write."""
    return shutil.disk_usage(folder).free < _NO_ROOM_BYTES


def size_of(path: Path) -> int:
    """The bytes in a file, or in all files of a folder; 0 where nothing is there."""
    return sum(file.stat().st_size for file in _files_in(path))


def _files_in(path: Path) -> list[Path]:
    return [file for file in (path, *path.rglob("*")) if file.is_file() and not file.is_symlink()]


def put(temporary: Path, path: Path) -> None:
    """Put a new file or folder in place. A folder cannot be renamed over another, so the old one steps aside.

    Raises FileError where a file would take the place of a folder; the folder stays as it is.
    """
    if not temporary.is_dir():
        check_no_folder(path)
    if not path.is_dir() or path.is_symlink():
        temporary.replace(path)
        return
    aside = locks.aside(temporary)
    path.replace(aside)
    try:
        temporary.replace(path)
    except OSError:
        aside.replace(path)
        raise
    locks.remove(aside)


def _flush(path: Path) -> None:
    """Have the system put a file's bytes on the disk. Folders are left: their files are many, small and rewritten."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
