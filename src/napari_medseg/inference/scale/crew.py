"""Those who work: processes of this machine, or the workers of a dask scheduler. One that dies costs its block only."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

from napari_medseg.errors import InputError, MedsegError, NotSupportedError
from napari_medseg.io.disk.own import begin_own_process

T = TypeVar("T")
R = TypeVar("R")

_DEATHS = 3
"""How often the workers of one block may die before the block is given up: the block itself may kill them."""


class WorkerError(MedsegError, RuntimeError):
    """Workers die again and again."""


class Crew(Protocol):
    """Several workers."""

    @property
    def size(self) -> int:
        """How many work at once."""

    def run(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """The results of a function of a module for some items, in the order in which they come.

        An item whose worker died is done again. Closing the iterator drops the items that were not begun.
        """


@contextmanager
def crew_of(workers: int | None, scheduler: str | None) -> Iterator[Crew]:
    """The workers of a request: those of a dask scheduler, or `workers` processes of this machine.

    The processes are those of a dask LocalCluster, with its dashboard, where dask.distributed is installed. Raises
    InputError for a request that makes no sense, NotSupportedError where dask.distributed is needed and absent.
    """
    check_crew(workers, scheduler)
    distributed = _distributed()
    if scheduler is not None or (workers is not None and distributed is not None):
        with _dask_crew(distributed, workers, scheduler) as crew:
            yield crew
        return
    with ExitStack() as stack:
        yield Processes(workers or 1, stack)


def check_crew(workers: int | None, scheduler: str | None) -> None:
    """Raise as `crew_of` for a request that cannot be met; no one is started."""
    if workers is not None and scheduler is not None:
        raise InputError("give --workers for this machine or --scheduler for a cluster: one of the two")
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1; got {workers}")
    if scheduler is not None and _distributed() is None:
        raise NotSupportedError("--scheduler needs dask.distributed: pip install 'napari-medseg[distributed]'")


def _distributed() -> Any:
    """The package, or None."""
    try:
        import distributed
    except ImportError:
        return None
    return distributed


class Processes:
    """Processes of this machine, each with an executor of its own: one that dies takes no other with it."""

    def __init__(self, size: int, stack: ExitStack) -> None:
        """stack: ends the processes when it is closed."""
        self._size = size
        self._stack = stack
        self._executors = [self._new(index) for index in range(size)]

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    def _new(self, index: int) -> ProcessPoolExecutor:
        # A fresh interpreter: a fork would copy the threads' locks of torch and zarr, and none of their threads.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(1, context, _begin, (index,))
        self._stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        return executor

    def run(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """See `Crew`."""
        left, idle = deque(range(len(items))), deque(range(self.size))
        deaths = [0] * len(items)
        running: dict[Future[R], tuple[int, int]] = {}
        """{result to come: (number of the worker, number of the item)}."""
        while left or running:
            while left and idle:
                index, item = idle.popleft(), left.popleft()
                running[self._executors[index].submit(function, items[item])] = (index, item)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, item = running.pop(future)
                idle.append(index)
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    deaths[item] += 1
                    if deaths[item] >= _DEATHS:
                        raise WorkerError(
                            f"{_DEATHS} workers died over the same block: memory may be short; use fewer --workers"
                        ) from error
                    self._executors[index] = self._new(index)
                    left.appendleft(item)


def torch_threads() -> int:
    """Of this process, which asks. torch is loaded here alone: a command that is refused needs none."""
    import torch

    return torch.get_num_threads()


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """In a worker: torch takes `count` threads meanwhile, as in the process that asks.

    The last bits of its sums depend on their number in some networks.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin(index: int) -> None:
    """In a new process: a GPU of its own where there are several. A task says how many threads it takes."""
    begin_own_process()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if "," in gpus:
        names = gpus.split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]


class DaskCrew:
    """The workers of a dask scheduler. The scheduler itself does the blocks of a dead worker again."""

    def __init__(self, client: Any, as_completed: Callable[..., Any]) -> None:
        """client: a distributed.Client. as_completed: that of dask.distributed."""
        self._client, self._as_completed = client, as_completed

    @property
    def size(self) -> int:
        """The threads of all workers there are now; more may come."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def run(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """See `Crew`."""
        futures = [self._client.submit(function, item, pure=False, retries=_DEATHS - 1) for item in items]
        try:
            for future in self._as_completed(futures):
                yield future.result()
        finally:
            self._client.cancel(futures)


@contextmanager
def _dask_crew(distributed: Any, workers: int | None, scheduler: str | None) -> Iterator[DaskCrew]:
    with ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(distributed.LocalCluster(n_workers=workers, threads_per_worker=1))
            client = stack.enter_context(distributed.Client(cluster))
        else:
            try:
                client = stack.enter_context(distributed.Client(scheduler, timeout=10))
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(f"--scheduler {scheduler}: no dask scheduler answers there: {error!s:.100}") from error
        yield DaskCrew(client, distributed.as_completed)
