from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.sandbox.parent import Child, Limits

SMALL = Limits(memory_bytes=64 << 20, seconds=20, reply_bytes=1 << 20)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the system has no such limit")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child("sandbox_job")
    yield child
    child.close()


def test_facts_and_arrays_come_back(child: Child) -> None:
    reply = child.ask("a.nrrd", {"do": "arrays"}, SMALL)
    assert reply.facts["pid"] == child.pid
    first, second = reply.arrays
    assert first.dtype == np.dtype(">i2")
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.shape == (0, 3)


def test_one_child_answers_all(child: Child) -> None:
    pids = {child.ask("a.nrrd", {"do": "arrays"}, SMALL).facts["pid"] for _ in range(3)}
    assert pids == {child.pid}
    assert pids != {os.getpid()}


def test_what_libraries_print_is_no_answer(child: Child) -> None:
    assert child.ask("a.nrrd", {"do": "print"}, SMALL).facts["pid"] == child.pid


@pytest.mark.parametrize(("do", "error"), [("refuse", FileError), ("not supported", NotSupportedError)])
def test_a_refusal_names_the_file_and_keeps_the_child(child: Child, do: str, error: type[Exception]) -> None:
    before = child.ask("a.nrrd", {"do": "arrays"}, SMALL).facts["pid"]
    with pytest.raises(error, match=r"^a\.nrrd: .*purple"):
        child.ask("a.nrrd", {"do": do}, SMALL)
    assert child.pid == before


@pytest.mark.parametrize(
    ("request_", "limits", "match"),
    [
        pytest.param({"do": "crash"}, SMALL, "its reader crashed", id="crash"),
        pytest.param({"do": "hang"}, Limits(64 << 20, 0.05, 1), "took longer than 0.5 s and was stopped", id="hang"),
        pytest.param({"do": "spin"}, Limits(64 << 20, 0.5, 1), "took longer than (0.5|5) s and was stopped", id="spin"),
        pytest.param({"do": "swell", "bytes": 2 << 20}, SMALL, "2097152 bytes, more than the header says", id="reply"),
        pytest.param({"do": "objects"}, SMALL, "its reader sent nonsense", id="no plain type"),
    ],
)
def test_what_goes_wrong_there_is_one_line_here(
    child: Child, request_: dict[str, object], limits: Limits, match: str
) -> None:
    with pytest.raises(FileError, match=rf"^a\.nrrd: cannot be read: .*{match}"):
        child.ask("a.nrrd", request_, limits)
    assert child.ask("b.nrrd", {"do": "arrays"}, SMALL).facts["pid"] == child.pid


@linux_only
def test_a_child_that_gets_little_of_a_busy_machine_is_waited_for(child: Child) -> None:
    patient = Limits(memory_bytes=64 << 20, seconds=0.2, reply_bytes=1 << 20)
    assert child.ask("a.nrrd", {"do": "wait", "seconds": 0.4}, patient).facts["pid"] == child.pid


@linux_only
def test_memory_is_limited(child: Child) -> None:
    with pytest.raises(FileError, match="it takes more memory than its size"):
        child.ask("a.nrrd", {"do": "swell", "bytes": 1 << 30}, SMALL)
    assert child.ask("b.nrrd", {"do": "arrays"}, SMALL).facts["pid"] == child.pid


@linux_only
def test_nothing_is_written(child: Child, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="its reader crashed"):
        child.ask("a.nrrd", {"do": "write", "path": str(tmp_path / "x")}, SMALL)
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == 0


def test_a_child_starts_no_child(child: Child) -> None:
    """A script named as a library would read its file again in the child that imports it, and so on without an end."""
    with pytest.raises(FileError, match=r"^a\.nrrd: inner\.nrrd: cannot be read by what reads files itself"):
        child.ask("a.nrrd", {"do": "ask"}, SMALL)


def test_a_closed_child_is_started_again(child: Child) -> None:
    first = child.ask("a.nrrd", {"do": "arrays"}, SMALL).facts["pid"]
    child.close()
    assert child.pid is None
    assert child.ask("a.nrrd", {"do": "arrays"}, SMALL).facts["pid"] != first


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signal to a thread")
def test_an_interruption_leaves_no_half_answer(child: Child) -> None:
    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def ask() -> None:
        threading.Timer(0.3, interrupt).start()
        child.ask("a.nrrd", {"do": "hang"}, SMALL)

    # A program that is started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask()
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.ask("b.nrrd", {"do": "arrays"}, SMALL).arrays[0].shape == (2, 3)
