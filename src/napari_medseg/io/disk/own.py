"""What a process of our own sets for all of itself: a command's, a worker's or a training's, and not napari's.

torch takes a thread for each core that it sees. A container that is granted two of sixty-four sees them all, and its
threads wait for each other. They wait by counting, for milliseconds: where a core has other work too, as beside napari
or another worker, that makes a network two to four times slower (`benchmarks/bench_threads.py`).
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
WAITING = {"GOMP_SPINCOUNT": "10000"}
"""How long a thread of torch counts before it sleeps, on Linux: some 10 microseconds, in place of milliseconds."""
_may_choose: list[bool] = []
"""Whether the user left the number of threads open; empty in a process that is not ours."""


def begin_own_process() -> None:
    """Keep freed memory, and let threads be as many as cores are granted, and wait briefly.

    It is called before the first library that has threads. What the user has set in the environment stays.
    """
    keep_freed()
    _may_choose.append(_THREADS not in os.environ)
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    if granted_cores() < (os.cpu_count() or 1):
        os.environ.setdefault(_THREADS, str(granted_cores()))


def may_choose_threads() -> bool:
    """Whether this process is ours, and the user left its number of threads open."""
    return _may_choose[-1:] == [True]


def let_choose_threads(may: bool) -> None:
    """Say of a worker whether it may: as the process that it works for."""
    _may_choose.append(may)


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
