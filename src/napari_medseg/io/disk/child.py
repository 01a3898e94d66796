"""How a module of this package is started as a process of its own."""

from __future__ import annotations

import os
import sys


def command_of(module: str, *arguments: str) -> list[str]:
    """The command that runs a module by this Python. Nothing is imported from the folder that the user is in (-P)."""
    return [sys.executable, "-P", "-W", "ignore", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """The environment of that process: it imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
