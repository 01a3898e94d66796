"""What crosses between a window and the process that trains for it: pickled values of ours, each after its length.

Both ends are processes that we started, with the same code. No file of a user is read this way.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, Any

STOP = b"stop\n"
"""What the parent writes, after the request, to end a training early."""


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
    blob = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(blob).to_bytes(8, "little") + blob)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next value; EOFError where the other end is gone."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    size = int.from_bytes(head, "little")
    blob = pipe.read(size)
    if len(blob) < size:
        raise EOFError
    return pickle.loads(blob)  # from our own process
