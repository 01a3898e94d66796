"""Parsers that are not trusted run in a child process: a crash, a hang or a flood of memory there does not reach us.

One warm child is kept per kind of work, and started again after its death. It is a fresh interpreter and never a fork:
forks of a process with threads (Qt, torch) are not safe. It sends JSON and plain bytes, which are checked here; nothing
that it sends is unpickled or evaluated.

On Linux the child can only read (see `confine`, also for other systems), it gets only the memory and processor time of
its request, and it leaves no core dump. macOS ignores the limit of memory, and Windows has no limits: there only the
time-out holds.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock, Timer
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, MedsegError, NotSupportedError
from napari_medseg.io.disk.child import command_of, environment

Array = npt.NDArray[Any]

IN_CHILD = "NAPARI_MEDSEG_IN_SANDBOX"
"""Set in the environment of a child: it starts no other one. A script of the user that has the name of a library is
imported there, and would read its file again."""
_START_S = 300.0
"""Seconds that a child gets to load its libraries; enough for a slow disk and a busy machine."""
_PATIENCE = 1 if sys.platform == "win32" else 10
"""Seconds of wall time for each of processor time: on a busy machine a child gets a part of a processor only.

Windows limits no processor time: there the wall clock must end what never ends.
"""
_MAX_TEXT = 16 << 20
_SIGXCPU = 24
"""The signal to a process that has used up its processor time; Windows has no name for it."""
_PLAIN_TYPE = re.compile(r"[<>|][iuf][1248]")
_REFUSALS = {"FileError": FileError, "NotSupportedError": NotSupportedError}


@dataclass(frozen=True)
class Limits:
    """The most that one request may take."""

    memory_bytes: int
    """In addition to that of the loaded libraries."""
    seconds: float
    """Of processor time; a multiple of it of wall time."""
    reply_bytes: int
    """Of all arrays that come back."""


@dataclass(frozen=True)
class Reply:
    """The answer of a child."""

    facts: Mapping[str, Any]
    arrays: tuple[Array, ...]


def ask(job: str, where: str, request: Mapping[str, object], limits: Limits) -> Reply:
    """The answer of a job's child to a request that JSON can hold.

    job: the dotted name of a module with ``prepare() -> None`` and ``answer(request) -> (facts, arrays)``; it refuses a
    file by FileError or NotSupportedError. where: the file, for messages. Raises the child's refusal, and FileError
    where the child dies, takes too long, or sends what cannot be.
    """
    # Cached by process: a process that is forked off ours must not talk to our child.
    return _child(job, os.getpid()).ask(where, request, limits)


@cache
def _child(job: str, _pid: int) -> Child:
    child = Child(job)
    atexit.register(child.close)
    return child


class Child:
    """A child process and its two pipes. One request at a time; others wait."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, where: str, request: Mapping[str, object], limits: Limits) -> Reply:
        """See the function `ask`."""
        with self._lock:
            process = self._running(where)
            order = {**request, "memory_bytes": limits.memory_bytes, "seconds": limits.seconds}
            deadline = _Deadline(process, _PATIENCE * limits.seconds)
            try:
                with deadline:
                    _pipe(process.stdin).write(json.dumps(order).encode() + b"\n")
                    _pipe(process.stdin).flush()
                    return _reply(_pipe(process.stdout), where, limits)
            except _RefusedError as refused:
                raise refused.reason from None
            except (EOFError, BrokenPipeError):
                raise _lost(where, self._stop(patience_s=2), deadline, limits.seconds) from None
            except BaseException:
                # Ctrl-C too: the pipe may hold half an answer, which must not answer the next request.
                self._stop()
                raise

    def close(self) -> None:
        """End the child; the next request starts another."""
        self._stop()

    @property
    def pid(self) -> int | None:
        """The child's process id; None before the first request and after a death."""
        return self._process.pid if self._process else None

    def _running(self, where: str) -> subprocess.Popen[bytes]:
        """The child, started and ready."""
        if IN_CHILD in os.environ:
            raise FileError(f"{where}: cannot be read by what reads files itself: give your script another name")
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        process = self._process = _start(self._job)
        deadline = _Deadline(process, _START_S)
        try:
            with deadline:
                _line(_pipe(process.stdout))
        except EOFError:
            status = self._stop(patience_s=2)
            if deadline.passed:
                raise FileError(
                    f"{where}: its reader did not start within {_START_S:g} s, for the machine is busy: try it again"
                ) from None
            raise _lost(where, status, deadline, _START_S) from None
        return process

    def _stop(self, patience_s: float = 0.0) -> int:
        """Kill the child where it still runs; its exit status, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(subprocess.TimeoutExpired):  # a child that has just died has its own exit status a moment later
            process.wait(patience_s)
        ended = process.poll()
        process.kill()
        status = process.wait()
        _pipe(process.stdout).close()
        with suppress(BrokenPipeError):  # closing writes the rest of a request, which no one reads any more
            _pipe(process.stdin).close()
        return status if ended is None else ended


class _RefusedError(Exception):
    """The child is well and refuses the file."""

    def __init__(self, reason: MedsegError) -> None:
        super().__init__(reason)
        self.reason = reason


def _start(job: str) -> subprocess.Popen[bytes]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
    return subprocess.Popen(
        command_of("napari_medseg.io.sandbox.child", job),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment(), **one_thread},
        start_new_session=True,  # Ctrl-C in the terminal then reaches us alone
    )


class _Deadline:
    """Kills a process that still works after some seconds. That ends its pipes, which have no time-outs."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process = process
        self.seconds = seconds
        self._timer = Timer(seconds, self._end)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        self._process.kill()


def _lost(where: str, status: int, deadline: _Deadline, seconds: float) -> FileError:
    if deadline.passed or status == -_SIGXCPU:
        most = deadline.seconds if deadline.passed else seconds
        return FileError(f"{where}: cannot be read: its reader took longer than {most:g} s and was stopped")
    return FileError(f"{where}: cannot be read: its reader crashed (exit status {status}): the file is damaged")


def _reply(stream: IO[bytes], where: str, limits: Limits) -> Reply:
    """The answer in a child's pipe: one line of JSON, then the bytes of its arrays. FileError where that cannot be."""
    try:
        content = json.loads(_line(stream))
        if "refused" in content:
            raise _RefusedError(_REFUSALS[content["refused"]](f"{where}: {content['reason']}"))
        kinds = [(_plain_type(a["dtype"]), tuple(int(n) for n in a["shape"])) for a in content["arrays"]]
        facts = dict(content["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{where}: cannot be read: its reader sent nonsense") from error
    sizes = [dtype.itemsize * int(np.prod(shape, dtype=object)) for dtype, shape in kinds]
    if any(n < 0 for _, shape in kinds for n in shape) or sum(sizes) > limits.reply_bytes:
        raise FileError(f"{where}: cannot be read: its reader found {sum(sizes)} bytes, more than the header says")
    return Reply(facts, tuple(_array(stream, dtype, shape) for dtype, shape in kinds))


def _plain_type(name: object) -> np.dtype[Any]:
    if not isinstance(name, str) or not _PLAIN_TYPE.fullmatch(name):
        raise ValueError(f"not a plain type: {name!r}")
    return np.dtype(name)


def _array(stream: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(shape, dtype)
    target = memoryview(array.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(target):
        count: int = stream.readinto(target[done:])  # type: ignore[attr-defined]  # a BufferedReader
        if not count:
            raise EOFError
        done += count
    return array


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(_MAX_TEXT)
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "started with PIPE"
    return pipe
