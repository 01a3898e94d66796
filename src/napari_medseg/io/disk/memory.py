"""How much memory a file may take: judged by its header, before anything of that size is allocated."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from napari_medseg.errors import FileError, InputError

SETTING = "MEDSEG_MEMORY_GIB"
"""The environment variable with the GiB that one image may take in memory; by default, what the system has left."""
GIB = 1 << 30
_LARGE = 2 * GIB
"""Bytes. An array of this size or more is refused if its file is suspiciously small."""
_PLAUSIBLE_INFLATION = 500
"""Bytes out of one. Images shrink to a half or a tenth, labels to a hundredth; only zeros reach deflate's 1032."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt, as malloc.h numbers them."""
_KEPT_ARRAY = 1 << 27
"""Bytes of an array from which on its memory is not kept: holes of that size would add to the peak of a run."""


def check(where: object, needed: int, stored: int | None = None, *, allowed: int | None = None) -> None:
    """Raise FileError, naming the setting, for an array of `needed` bytes that is too large for the memory.

    stored: the bytes on the disk that it is inflated from, for compressed ones. allowed: bytes; by default
    `limit_bytes`.
    """
    limit = limit_bytes() if allowed is None else allowed
    way_out = f"set {SETTING} to the GiB that it may take, or convert it to OME-Zarr elsewhere"
    if needed > limit:
        raise FileError(
            f"{where}: too large for the memory: {needed / GIB:.1f} GiB needed, {limit / GIB:.1f} GiB allowed: "
            f"{way_out}"
        )
    inflation = needed / max(stored, 1) if stored is not None else 1.0
    if needed > _LARGE and inflation > _PLAUSIBLE_INFLATION and SETTING not in os.environ:
        raise FileError(
            f"{where}: a large image ({needed / GIB:.1f} GiB in memory) in a suspiciously small file (1 : "
            f"{inflation:.0f}) is not inflated: if you trust it, {way_out}"
        )


def limit_bytes() -> int:
    """The bytes that one array may take: the setting, else the available memory. InputError for a wrong setting."""
    setting = os.environ.get(SETTING)
    if setting is None:
        return available_bytes()
    try:
        gib = float(setting)
    except ValueError:
        gib = float("nan")
    if not 0 < gib < float("inf"):
        raise InputError(f"the environment variable {SETTING} must be a number of GiB; got {setting!r}")
    return int(gib * GIB)


def available_bytes() -> int:
    """The memory that the system can still give (Linux), else all that it has; no limit if it tells neither."""
    known = [2**63 - 1]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        known.append(int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024)
    with suppress(OSError, ValueError):  # it holds "max" if a container has no limit
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if len(known) == 1 and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known)


def keep_freed() -> None:
    """Have this process keep up to 1 GiB that it frees, for what it allocates next. Call it before threads are started.

    For processes of our own alone: the setting holds for all of one. By default glibc gives the memory of a large array
    back at once, and the system hands out zeroed pages for the next one: that took up to 40 % of a run's time.
    Nothing happens where another library allocates, or where the environment sets glibc's MALLOC_ variables.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_TRIM_THRESHOLD, GIB)
    # The memory of threads grows in steps of 64 MiB at most: all take that of the first one.
    mallopt(_ARENA_MAX, 1)
    if not mallopt(_MMAP_THRESHOLD, _KEPT_ARRAY):
        mallopt(_MMAP_THRESHOLD, 1 << 25)  # the most before glibc 2.35
