"""Zip archives of unknown origin: the whole table of contents is checked before a byte is inflated."""

from __future__ import annotations

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from napari_medseg.errors import ModelFileError
from napari_medseg.io.disk.files import os_errors_as_file_errors

MAX_MEMBERS = 20_000
MAX_BYTES = 16 * 2**30
MAX_RATIO = 100
"""Inflated bytes per compressed byte: weights hardly shrink, JSON shrinks to a tenth or a twentieth."""
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ValueError, RuntimeError, OverflowError),
)
"""The exceptions that zipfile can raise on a damaged archive; OSError for an offset before the start of the file."""
_MIN_SUSPECT = 2**20
_BLOCK = 2**20


def checked_members(path: Path) -> Mapping[str, zipfile.ZipInfo]:
    """{name: entry} of the files in a zip archive; nothing is inflated.

    Raises ModelFileError for an archive that is damaged, and one whose members are links, lie outside of it, share a
    name, are encrypted, or would inflate to far more than is there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGE as error:
        raise ModelFileError(f"{path}: corrupt or incomplete zip archive: {error}") from None
    if len(entries) > MAX_MEMBERS:
        raise ModelFileError(f"{path}: a zip archive of {len(entries)} members: at most {MAX_MEMBERS}")
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        if entry.filename in members:
            raise ModelFileError(f"{path}: duplicate member {_shown(entry)}: what is in the archive is ambiguous")
        members[entry.filename] = entry
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES:
        raise ModelFileError(f"{path}: its members have a size of {total} bytes: at most {MAX_BYTES}, too large")
    return {name: entry for name, entry in members.items() if not entry.is_dir()}


def extract(path: Path, entry: zipfile.ZipInfo, target: Path) -> Path:
    """Write one checked member to `target`: no more than its stated size, and its CRC must agree.

    Raises ModelFileError for a damaged member.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as member, target.open("xb") as file:
            while block := member.read(_BLOCK):
                file.write(block)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of the target: no room, no permission
            with os_errors_as_file_errors(target, target, entry.file_size):
                raise
        raise ModelFileError(f"{path}: member {_shown(entry)} is corrupt: {error}") from None
    return target


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
        raise ModelFileError(f"{path}: unsafe member {_shown(entry)}: its path leads outside of the archive")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ModelFileError(f"{path}: unsafe member {_shown(entry)}: it is a link")
    if entry.flag_bits & 0x1:
        raise ModelFileError(f"{path}: member {_shown(entry)} is encrypted")
    if entry.file_size > max(_MIN_SUSPECT, MAX_RATIO * entry.compress_size):
        raise ModelFileError(
            f"{path}: member {_shown(entry)} would inflate from {entry.compress_size} bytes to a size of "
            f"{entry.file_size}: a ratio over {MAX_RATIO} is taken for an attack"
        )


def _shown(entry: zipfile.ZipInfo) -> str:
    return ascii(entry.orig_filename[:80])
