"""How a module of this package is started as a process of its own, and how its end is told."""

from __future__ import annotations

import os
import sys
from typing import IO


def command_of(module: str, *arguments: str) -> list[str]:
    """The command that runs a module by this Python. Nothing is imported from the folder that the user is in (-P)."""
    return [sys.executable, "-P", "-W", "ignore", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """The environment of that process: it imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def how_it_ended(status: int, complaints: IO[bytes]) -> str:
    """How a process ended by itself, such as "ended with status 1: no memory". complaints: what it wrote to stderr."""
    if status == -9:  # SIGKILL, which Windows does not know
        return "was ended by the system, most likely for want of memory"
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return f"ended with status {status}" + (f": {lines[-1]}" if lines else "")
