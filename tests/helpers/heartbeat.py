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
        self.busy: dict[str, list[float]] = {}
        """Seconds of processor time that the window's thread took in each gap: what other programs do is not in it."""
        self._part = ""
        self._last = self._last_busy = 0.0
        self._timer = QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Count the gaps between ticks, in seconds, as those of `part`."""
        self._part, self._last, self._last_busy = part, time.perf_counter(), time.thread_time()
        self.gaps[part], self.busy[part] = [], []
        self._timer.start()
        try:
            yield
            self._tick()
        finally:
            self._timer.stop()

    def _tick(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        self.gaps[self._part].append(now - self._last)
        self.busy[self._part].append(busy - self._last_busy)
        self._last, self._last_busy = now, busy

    @property
    def longest(self) -> float:
        """Seconds of the longest gap of all parts."""
        return max(max(gaps) for gaps in self.gaps.values())

    @property
    def longest_busy(self) -> float:
        """Seconds of processor time of the longest piece of work in the window's thread, of all parts."""
        return max(max(busy) for busy in self.busy.values())

    def report(self) -> list[str]:
        """A line per part: seconds, ticks, the longest gap, and the longest work of the window's thread in a gap."""
        return [
            f"{part}: {sum(gaps):.1f} s, {len(gaps)} ticks, longest gap {1000 * max(gaps):.0f} ms, "
            f"of work {1000 * max(self.busy[part]):.0f} ms"
            for part, gaps in self.gaps.items()
        ]
