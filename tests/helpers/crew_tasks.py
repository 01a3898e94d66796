"""Work for processes of their own: what they run must lie in a module that they can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def process_of(number: int) -> int:
    """The process that this runs in."""
    return os.getpid()


def killed_once(folder: Path) -> str:
    """The name of a folder; the first time, the process that runs this is killed."""
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return folder.name


def always_killed(_: int) -> None:
    """The process that runs this is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def faults_again(mib: int) -> int:
    """The pages that the system hands out for the second of two large arrays, of which the first is freed before."""
    import resource  # not on Windows

    def fill() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert len(b"\1" * (mib << 20))  # numpy would ask for pages of 2 MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    fill()
    return fill()
