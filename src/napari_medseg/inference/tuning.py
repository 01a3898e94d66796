"""How a network is fastest on this CPU: the layout of its weights, and the number of threads. Measured, and remembered.

The layout depends on the network, the number format and the processor: of 103 networks on a Xeon with AVX-512 and
bf16, channels last took 0.69 to 1.81 of the time in fp32, and 0.59 to 1.17 in bf16 (`benchmarks/bench_layout.py`). Sums
differ in the last bits, so that a run keeps one layout: its workers get it in their plan, and its journal tells it to a
run that continues. Exact labels in fp32 are those of MONAI, and computed as torch lays the weights.

torch takes a thread for each core that it sees. That is too many where a container grants fewer, and where two of them
share the units of one core. The threads are one pool of the process: they are chosen where that is our own, and where
the user set none.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medseg._version import __version__
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.errors import FileError
from napari_medseg.events import Progress
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.io.disk.own import is_own_process

if TYPE_CHECKING:
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

FEWEST_WINDOWS = 64
"""Of a run that is worth a measurement, which takes some of them."""
SHORTEST_S = 5.0
"""Of such a run, as torch would do it."""
WORTH = 0.9
"""Of the time that another way may take at most, so that it is taken."""
LAYOUTS: tuple[Layout, Layout] = ("contiguous", "channels last")


@dataclass(frozen=True)
class Tuning:
    """How a network runs."""

    layout: Layout = "contiguous"
    threads: int | None = None
    """Of torch; None for as many as it has."""

    def apply(self, predictor: Predictor) -> None:
        """Lay the weights out, and take so many threads where the process is our own."""
        lay(predictor.network, self.layout)
        if self.threads is not None and _chooses_threads():
            torch.set_num_threads(self.threads)


def tuning(
    predictor: Predictor, model: Model, plan: InferencePlan, clock: Callable[[], float] = time.perf_counter
) -> Generator[Progress, None, Tuning]:
    """How a run is fastest: what an earlier one found, or measured now where the run is long. It is applied.

    Yields a Progress between the windows that it measures. clock: in seconds.
    """
    found = remembered(model, plan)
    if found is None and _is_open(plan) and len(plan.windows) >= FEWEST_WINDOWS:
        found = yield from _Trial.of(predictor, plan, clock).measuring(_layouts(plan), len(plan.windows))
        if found is not None:
            _remember(_place(model, plan), found)
    found = found or Tuning()
    found.apply(predictor)
    return found


def remembered(model: Model, plan: InferencePlan) -> Tuning | None:
    """What an earlier run found; None where none measured it."""
    if not _is_open(plan):
        return None
    try:
        found = json.loads(_place(model, plan).read_bytes())
        layout, threads = found["layout"], found["threads"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if layout not in _layouts(plan) or not (threads is None or (isinstance(threads, int) and threads > 0)):
        return None
    return Tuning(layout, threads)


def _is_open(plan: InferencePlan) -> bool:
    """Whether there is a choice."""
    chosen = len(_layouts(plan)) > 1 or _chooses_threads()
    return plan.device == "cpu" and plan.backend == "torch" and chosen


def _layouts(plan: InferencePlan) -> tuple[Layout, ...]:
    return LAYOUTS[:1] if (plan.precision, plan.preset) == ("fp32", "exact") else LAYOUTS


def _chooses_threads() -> bool:
    return is_own_process() and "OMP_NUM_THREADS" not in os.environ


@dataclass(frozen=True)
class _Trial:
    """Runs of a network on a window of noise."""

    predictor: Predictor
    noise: torch.Tensor
    clock: Callable[[], float]

    @classmethod
    def of(cls, predictor: Predictor, plan: InferencePlan, clock: Callable[[], float]) -> _Trial:
        z, y, x = plan.windows.window
        size = (1, plan.inputs, z + 2 * plan.halo, y, x)
        noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return cls(replace(predictor, mirrors=(), mirrors_told=None), noise, clock)

    def seconds(self, layout: Layout, threads: int | None = None) -> float:
        """Of one window."""
        lay(self.predictor.network, layout)
        if threads is not None:
            torch.set_num_threads(threads)
        start = self.clock()
        self.predictor(self.noise)
        return self.clock() - start

    def measuring(self, layouts: tuple[Layout, ...], windows: int) -> Generator[Progress, None, Tuning | None]:
        """The fastest way; None for a run too short to tell."""
        turns = 2 * layouts
        seconds: dict[Layout, list[float]] = {layout: [] for layout in layouts}
        for done, layout in enumerate(turns):
            if done:
                yield Progress(done, len(turns), "windows, to find the faster layout of the network")
            seconds[layout].append(self.seconds(layout))
            if seconds[layout][0] * windows < SHORTEST_S:
                return None
        best = {layout: min(some) for layout, some in seconds.items()}
        usual, other = layouts[0], layouts[-1]
        layout = other if best[other] <= WORTH * best[usual] else usual
        if not _chooses_threads():
            return Tuning(layout)
        return Tuning(layout, (yield from self._halving_threads(layout, best[layout])))

    def _halving_threads(self, layout: Layout, best: float) -> Generator[Progress, None, int]:
        """The threads, halved for as long as that is faster."""
        threads, tried = torch.get_num_threads(), 0
        while threads > 1:
            yield Progress(tried, tried + 2, f"windows, to see whether {threads // 2} threads are faster")
            halved = min(self.seconds(layout, threads // 2) for _ in range(2))
            if halved > WORTH * best:
                break
            threads, best, tried = threads // 2, halved, tried + 2
        torch.set_num_threads(threads)
        return threads


def _remember(place: Path, found: Tuning) -> None:
    """Keep what was found. Where nothing can be written, the next run measures again."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(place, json.dumps(asdict(found)).encode())
    except (FileError, OSError):
        return


def _place(model: Model, plan: InferencePlan) -> Path:
    """Named by all that the seconds depend on."""
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    machine = (cores, os.environ.get("OMP_NUM_THREADS"), torch.backends.cpu.get_cpu_capability(), sorted(able.items()))
    window = (plan.windows.window, plan.inputs, plan.precision, _layouts(plan), _chooses_threads())
    run = (model.sha256, window, __version__, torch.__version__)
    return cache_folder("tuning") / sha256(repr((run, machine)).encode()).hexdigest()[:32]
