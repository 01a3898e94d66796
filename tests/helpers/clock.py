"""A clock for tests of what depends on time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Stands still until the test moves it; calling it gives the seconds."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds
