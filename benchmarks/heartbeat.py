"""A timer in the window's thread: how long the window was held up, in which part of a walk, and by what."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest.mock import patch

from qtpy.QtCore import QTimer

INTERVAL_MS = 20


@dataclass(frozen=True)
class Gap:
    """The time between two ticks, in seconds; the rest says what of it was taken by whom."""

    seconds: float
    work: float
    """Processor time of the window's thread; other programs are not in it."""
    collector: float
    """Python's search for cyclic garbage, which holds up every thread."""
    painting: float
    """napari's drawing of the canvas (paintGL), which compiles its shaders the first time."""


class Heartbeat:
    """Ticks every 20 ms while the window is free to."""

    def __init__(self) -> None:
        self.gaps: dict[str, list[Gap]] = {}
        self._part = ""
        self._last = self._last_work = self._collecting = 0.0
        self._collector = self._painting = 0.0
        self._timer = QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure inside what Python's collector and napari's canvas take."""
        from vispy.app.backends._qt import CanvasBackendDesktop

        gc.callbacks.append(self._on_collector)
        try:
            with patch.object(CanvasBackendDesktop, "paintGL", self._painted(CanvasBackendDesktop.paintGL)):
                yield
        finally:
            gc.callbacks.remove(self._on_collector)

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Count the gaps between ticks as those of `part`."""
        self._part = part
        self.gaps[part] = []
        self._begin()
        self._timer.start()
        try:
            yield
            self._tick()
        finally:
            self._timer.stop()

    @property
    def longest(self) -> dict[str, Gap]:
        """{part: its longest gap}"""
        return {part: max(gaps, key=lambda gap: gap.seconds) for part, gaps in self.gaps.items()}

    def _begin(self) -> None:
        self._last, self._last_work = time.perf_counter(), time.thread_time()
        self._collector = self._painting = 0.0

    def _tick(self) -> None:
        now, work = time.perf_counter(), time.thread_time()
        self.gaps[self._part].append(Gap(now - self._last, work - self._last_work, self._collector, self._painting))
        self._begin()

    def _on_collector(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collector += time.perf_counter() - self._collecting

    def _painted(self, paint: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(paint)
        def timed(canvas: Any) -> None:
            began = time.perf_counter()
            paint(canvas)
            self._painting += time.perf_counter() - began

        return timed
