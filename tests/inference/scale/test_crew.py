"""Workers: what they return, what a dead one costs, and what is refused."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from crew_tasks import always_killed, faults_again, killed_once, process_of
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.inference.scale.crew import DaskCrew, Processes, WorkerError, crew_of

absent = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not kill so")


@absent
def test_a_worker_that_dies_costs_its_block_only(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    for name in "ac":
        (tmp_path / name / "died").touch()
    with ExitStack() as stack:
        crew = Processes(2, stack)
        assert crew.size == 2
        assert sorted(crew.run(killed_once, folders)) == ["a", "b", "c"]
        assert len(set(crew.run(process_of, range(8)))) == 2
        if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
            assert max(crew.run(faults_again, [64, 64])) < 1000, "a worker keeps what it frees"
        with pytest.raises(WorkerError, match="3 workers died over the same block"):
            list(crew.run(always_killed, [1]))


class FakeClient:
    """What a dask client does with a function, here and now."""

    def __init__(self) -> None:
        self.cancelled: Sequence[Any] = ()

    def nthreads(self) -> dict[str, int]:
        return {"tcp://a": 1, "tcp://b": 2}

    def submit(self, function: Callable[[int], int], item: int, *, pure: bool, retries: int) -> SimpleNamespace:
        assert not pure, "dask would take equal blocks of two runs for one"
        return SimpleNamespace(result=lambda: function(item))

    def cancel(self, futures: Sequence[Any]) -> None:
        self.cancelled = futures


def test_the_workers_of_a_scheduler() -> None:
    client = FakeClient()
    crew = DaskCrew(client, lambda futures: reversed(futures))
    assert crew.size == 3
    running = crew.run(lambda n: n * n, [1, 2, 3])
    assert next(running) == 9  # in the order in which they end
    assert isinstance(running, Iterator)
    running.close()  # type: ignore[attr-defined]
    assert len(client.cancelled) == 3


@pytest.mark.parametrize(
    ("workers", "scheduler", "error", "says"),
    [
        (2, "tcp://a:1", InputError, "one of the two"),
        (0, None, InputError, "--workers must be at least 1; got 0"),
        (None, "tcp://a:1", NotSupportedError, "pip install 'napari-medseg\\[distributed\\]'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    workers: int | None, scheduler: str | None, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(error, match=says), crew_of(workers, scheduler):
        pytest.fail("it was taken")


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def __init__(self, address: str, timeout: int) -> None:
            raise OSError(f"timed out connecting to {address}")

    package = ModuleType("distributed")
    package.Client = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed", package)
    with (
        pytest.raises(InputError, match="--scheduler tcp://a:1: no dask scheduler answers there"),
        crew_of(None, "tcp://a:1"),
    ):
        pytest.fail("it was taken")
