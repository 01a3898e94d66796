"""How a network is fastest on this CPU: layout and threads, measured before a long run and remembered.

It depends on the network, the number format and the processor: of 103 networks on a Xeon with AVX-512 and bf16,
channels last took 0.69 to 1.81 of the time in fp32, and 0.59 to 1.17 in bf16 (`benchmarks/bench_layout.py`). Where some
cores are slower than others, or share an arithmetic unit, fewer threads than cores may be faster.

Sums differ in the last bits with both, so that a run keeps them: its workers get them in their plan, and its journal
tells them to a run that continues. Exact labels in fp32 are those of MONAI, which runs as torch does by itself. Threads
are measured in processes of our own alone, and not beside other work, which would be remembered for good.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from napari_medseg._version import __version__
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.errors import FileError
from napari_medseg.events import Progress
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.io.disk.own import granted_cores, may_choose_threads

if TYPE_CHECKING:
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

FEWEST_WINDOWS = 64
"""Of a run that is worth a measurement, which takes five of them, and four more for each number of threads."""
SHORTEST_S = 5.0
"""Of such a run, as torch would do it."""
WORTH = 0.9
"""Of the time that another way may take at most, so that it is taken."""
FREE = 0.9
"""Of its threads that must have a core to themselves while they are measured."""
LAYOUTS: tuple[Layout, Layout] = ("contiguous", "channels last")


@dataclass(frozen=True)
class Tuning:
    """How a network runs on a CPU."""

    layout: Layout = "contiguous"
    threads: int | None = None
    """None: as many as its process has."""

    @property
    def own_threads(self) -> int | None:
        """The threads, where this process may choose."""
        return self.threads if may_choose_threads() else None


def finding_tuning(
    predictor: Predictor, model: Model, plan: InferencePlan, clock: Callable[[], float] = time.perf_counter
) -> Generator[Progress, None, Tuning]:
    """How a run is done: as an earlier one found, or measured now where the run is long.

    Yields a Progress between the windows that it measures, and leaves the network in any layout. clock: in seconds.
    """
    if not _is_open(plan):
        return Tuning()
    found = remembered(model, plan)
    if found is None and len(plan.windows) >= FEWEST_WINDOWS:
        found = yield from _measuring(predictor, plan, clock)
        if found is not None:
            _remember(model, plan, found)
    return found or Tuning()


def remembered(model: Model, plan: InferencePlan) -> Tuning | None:
    """What an earlier run found; None where none measured it."""
    if not _is_open(plan):
        return None
    try:
        with _place(model, plan).open("rb") as file:
            return tuning_of(json.loads(file.read(256)))
    except (OSError, ValueError):
        return None


def tuning_of(told: object) -> Tuning | None:
    """A tuning as a file tells it; None where it tells none."""
    if not isinstance(told, dict) or told.get("layout") not in LAYOUTS:
        return None
    threads = told.get("threads")
    good = threads is None or (type(threads) is int and 1 <= threads <= granted_cores())
    return Tuning(told["layout"], threads) if good else None


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """torch takes so many threads meanwhile; None: as many as before. For processes of our own, and workers."""
    before = torch.get_num_threads()
    if count in (None, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_open(plan: InferencePlan) -> bool:
    """Whether there is a choice."""
    return plan.device == "cpu" and plan.backend == "torch" and (plan.precision, plan.preset) != ("fp32", "exact")


def _measuring(
    predictor: Predictor, plan: InferencePlan, clock: Callable[[], float]
) -> Generator[Progress, None, Tuning | None]:
    """The fastest way on windows of noise; None for a run too short to tell."""
    z, y, x = plan.windows.window
    size = (1, plan.inputs, z + 2 * plan.halo, y, x)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
    plain = replace(predictor, mirrors=(), mirrors_told=None)

    def seconds_of(tuning: Tuning) -> float:
        lay(plain.network, tuning.layout)
        with on_threads(tuning.threads):
            start = clock()
            plain(noise)
            return clock() - start

    usual, other = map(Tuning, LAYOUTS)
    if seconds_of(usual) * len(plan.windows) < SHORTEST_S:
        return None
    watch = Watch()
    best, fewer = (yield from _faster(usual, other, seconds_of)), torch.get_num_threads() // 2
    while fewer and may_choose_threads():
        found = yield from _faster(best, replace(best, threads=fewer), seconds_of)
        if found == best or not watch.is_calm(torch.get_num_threads()):
            break
        best, fewer = found, fewer // 2
    return best


def _faster(usual: Tuning, other: Tuning, seconds_of: Callable[[Tuning], float]) -> Generator[Progress, None, Tuning]:
    """The other way if it is clearly faster, by two windows in each, in turns."""
    seconds: dict[Tuning, list[float]] = {usual: [], other: []}
    turns = (usual, other, usual, other)
    for done, tuning in enumerate(turns, start=1):
        seconds[tuning].append(seconds_of(tuning))
        yield Progress(done, len(turns), "windows, to find the fastest way to run the network")
    return other if min(seconds[other]) <= WORTH * min(seconds[usual]) else usual


class Watch:
    """Watches what other processes take of the processor, from when it is made."""

    def __init__(self) -> None:
        self._began, self._others = time.perf_counter(), self._others_s()

    def is_calm(self, threads: int) -> bool:
        """Whether that many threads had a core each."""
        busy = (self._others_s() - self._others) / max(1e-3, time.perf_counter() - self._began)
        return (os.cpu_count() or 1) - busy >= FREE * threads

    @staticmethod
    def _others_s() -> float:
        """The processor's seconds that other processes have had."""
        times = psutil.cpu_times()
        return float(times.user + times.system + getattr(times, "nice", 0.0)) - time.process_time()


def _remember(model: Model, plan: InferencePlan, tuning: Tuning) -> None:
    """Keep what was found. Where nothing can be written, the next run measures again."""
    path = _place(model, plan)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, json.dumps(asdict(tuning)).encode())
    except (FileError, OSError):
        return


def _place(model: Model, plan: InferencePlan) -> Path:
    """Named by all that the seconds depend on."""
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    machine = (granted_cores(), torch.backends.cpu.get_cpu_capability(), sorted(able.items()))
    run = (model.sha256, plan.windows.window, plan.inputs, plan.precision, __version__, torch.__version__)
    return cache_folder("tunings") / sha256(repr((run, machine)).encode()).hexdigest()[:32]
