"""A timer in the window's thread that tells how long the window was held up, and in which part of a walk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from qtpy.QtCore import QTimer

INTERVAL_MS = 20


class Heartbeat:
    """Ticks every 20 ms while the window is free to."""

    def __init__(self) -> None:
        self.gaps: dict[str, list[float]] = {}
        self._part = ""
        self._last = 0.0
        self._timer = QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Count the gaps between ticks, in seconds, as those of `part`."""
        self._part, self._last = part, time.perf_counter()
        self.gaps[part] = []
        self._timer.start()
        try:
            yield
            self._tick()
        finally:
            self._timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps[self._part].append(now - self._last)
        self._last = now

    @property
    def longest(self) -> float:
        """Seconds of the longest gap of all parts."""
        return max(max(gaps) for gaps in self.gaps.values())

    def report(self) -> list[str]:
        """A line per part: seconds, ticks, and the longest gap."""
        return [
            f"{part}: {sum(gaps):.1f} s, {len(gaps)} ticks, longest gap {1000 * max(gaps):.0f} ms"
            for part, gaps in self.gaps.items()
        ]
