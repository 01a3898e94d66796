"""What crosses between a window and the process that trains for it: pickled values of ours, each after its lengths.

Arrays follow their value as they lie in memory. To pickle them would copy them, and hold Python's lock, which the
window needs, as long as that takes.

Both ends are processes that we started, with the same code. No file of a user is read this way.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, Any

STOP = b"stop\n"
"""What the parent writes, after the request, to end a training early."""


_DIGITS = 8
"""Bytes of a number."""


@dataclass(frozen=True)
class Request:
    """A training: the cases and the options of `iter_train`."""

    cases: list[Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """A training ended with an error."""

    error: Exception


def send(pipe: IO[bytes], value: object) -> None:
    buffers: list[pickle.PickleBuffer] = []
    blob = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(blob), *(buffer.raw() for buffer in buffers)]
    for number in (len(parts), *(part.nbytes for part in parts)):
        pipe.write(number.to_bytes(_DIGITS, "little"))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next value; EOFError where the other end is gone."""
    sizes = [_number(pipe) for _ in range(_number(pipe))]
    blob, *buffers = [_exactly(pipe, size) for size in sizes]
    return pickle.loads(blob, buffers=buffers)  # from our own process


def _number(pipe: IO[bytes]) -> int:
    return int.from_bytes(_exactly(pipe, _DIGITS), "little")


def _exactly(pipe: IO[bytes], size: int) -> bytearray:
    held, done = bytearray(size), 0
    while done < size:  # a pipe without a buffer gives what is there
        count = pipe.readinto(memoryview(held)[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return held
