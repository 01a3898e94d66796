"""What a process of our own sets for all of itself: a command's, a worker's or a training's, and not napari's.

torch takes a thread for each core that it sees. A container that is granted two of sixty-four sees them all, and its
threads wait for each other. They wait by counting, for milliseconds, and hold a core meanwhile: beside another process,
such as a worker or napari, a network takes half as long again (`benchmarks/bench_threads.py`).
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from napari_medseg.io.disk.memory import keep_freed

_CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux tells what a container is granted."""
_THREADS = "OMP_NUM_THREADS"
WAITING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""How long a thread of torch counts before it sleeps: some ten microseconds on Linux, a millisecond elsewhere."""


def begin_own_process() -> None:
    """Keep freed memory, and let threads be no more than the cores that are granted, and wait briefly.

    It is called before the first library that has threads. What the user has set in the environment stays.
    """
    keep_freed()
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    if granted_cores() < (os.cpu_count() or 1):
        os.environ.setdefault(_THREADS, str(granted_cores()))


def granted_cores(cgroups: Path = _CGROUPS) -> int:
    """The cores that this process may use: those it is bound to, and no more than its container is granted."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(bound, _quota(cgroups) or bound))


def _quota(cgroups: Path) -> int | None:
    """The cores that a container is granted, a part of one as a whole one; None where nothing is said."""
    try:
        if (cgroups / "cpu.max").exists():
            most, period = (cgroups / "cpu.max").read_text().split()
        else:
            most, period = ((cgroups / f"cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.ceil(int(most) / int(period)) if int(most) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # not Linux, or "max": no limit
        return None
