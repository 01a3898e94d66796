"""The processes that trainings run in."""

from __future__ import annotations

import subprocess
from typing import IO

import pytest

from napari_medseg.training.apart import parent


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Those that are started from now on."""
    found: list[subprocess.Popen[bytes]] = []
    start = parent._started

    def started(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        found.append(start(complaints))
        return found[-1]

    monkeypatch.setattr(parent, "_started", started)
    return found
