"""Which layout of its weights a network is faster in on this CPU: measured before a long run, and remembered.

It depends on the network, the number format and the processor: of 103 networks on a Xeon with AVX-512 and bf16,
channels last took 0.69 to 1.81 of the time in fp32, and 0.59 to 1.17 in bf16 (`benchmarks/bench_layout.py`). Sums
differ in the last bits, so that a run keeps one layout: its workers get it in their plan, and its journal tells it to a
run that continues. Two kinds of networks stay as torch lays them. Exact labels in fp32 are those of MONAI. And torch's
group norm is less exact where channels come last: off by .004 in fp32 (8 groups, mean 20, deviation 3), else by 1e-6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_medseg._version import __version__
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.errors import FileError
from napari_medseg.events import Progress
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.io.disk.own import granted_cores

if TYPE_CHECKING:
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

FEWEST_WINDOWS = 64
"""Of a run that is worth a measurement, which takes four of them."""
SHORTEST_S = 5.0
"""Of such a run, as torch would do it."""
WORTH = 0.9
"""Of the time that the other layout may take at most, so that it is taken."""
LAYOUTS: tuple[Layout, Layout] = ("contiguous", "channels last")


def finding_layout(
    predictor: Predictor, model: Model, plan: InferencePlan, clock: Callable[[], float] = time.perf_counter
) -> Generator[Progress, None, Layout]:
    """The layout of a run: what an earlier one found, or measured now where the run is long.

    Yields a Progress between the windows that it measures, and leaves the network in any layout. clock: in seconds.
    """
    if not _is_open(plan) or any(isinstance(module, nn.GroupNorm) for module in predictor.network.modules()):
        return "contiguous"
    found = remembered(model, plan)
    if found is None and len(plan.windows) >= FEWEST_WINDOWS:
        found = yield from _measuring(predictor, plan, clock)
        if found is not None:
            # Another worker may have measured meanwhile, with another result: all keep the first one.
            found = remembered(model, plan) or _remember(model, plan, found)
    return found or "contiguous"


def remembered(model: Model, plan: InferencePlan) -> Layout | None:
    """What an earlier run found; None where none measured it."""
    if not _is_open(plan):
        return None
    try:
        with _place(model, plan).open("rb") as file:
            text = file.read(64)
    except OSError:
        return None
    return next((layout for layout in LAYOUTS if layout.encode() == text), None)


def _is_open(plan: InferencePlan) -> bool:
    """Whether there is a choice."""
    return plan.device == "cpu" and plan.backend == "torch" and (plan.precision, plan.preset) != ("fp32", "exact")


def _measuring(
    predictor: Predictor, plan: InferencePlan, clock: Callable[[], float]
) -> Generator[Progress, None, Layout | None]:
    """The faster layout on windows of noise; None for a run too short to tell."""
    z, y, x = plan.windows.window
    size = (1, plan.inputs, z + 2 * plan.halo, y, x)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
    plain = replace(predictor, mirrors=(), mirrors_told=None)
    usual, other = LAYOUTS
    seconds: dict[Layout, list[float]] = {usual: [], other: []}
    turns = (usual, other, usual, other)
    for done, layout in enumerate(turns, start=1):
        lay(plain.network, layout)
        start = clock()
        plain(noise)
        seconds[layout].append(clock() - start)
        if seconds[usual][0] * len(plan.windows) < SHORTEST_S:
            return None
        yield Progress(done, len(turns), "windows, to find the faster layout of the network")
    return other if min(seconds[other]) <= WORTH * min(seconds[usual]) else usual


def _remember(model: Model, plan: InferencePlan, layout: Layout) -> Layout:
    """Keep what was found, and return what is kept. Where nothing can be written, the next run measures again."""
    path = _place(model, plan)
    with suppress(FileError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # broken, as it says no layout
            replace_bytes(path, layout.encode())
        else:
            with path.open("xb") as file:
                file.write(layout.encode())
    return remembered(model, plan) or layout


def _place(model: Model, plan: InferencePlan) -> Path:
    """Named by all that the seconds depend on."""
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    machine = (granted_cores(), torch.backends.cpu.get_cpu_capability(), sorted(able.items()))
    run = (model.sha256, plan.windows.window, plan.inputs, plan.precision, __version__, torch.__version__)
    return cache_folder("layouts") / sha256(repr((run, machine)).encode()).hexdigest()[:32]
