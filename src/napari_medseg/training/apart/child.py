"""The process that trains: a request comes in, events go out; a stop, or a parent that leaves, ends it early.

Then a model and a state to resume from are written, as for every training that is stopped. Where the parent leaves
before the training has begun, nothing is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import IO

from napari_medseg.errors import MedsegError
from napari_medseg.events import Started
from napari_medseg.io.disk.own import begin_own_process
from napari_medseg.training.apart.frames import STOP, Broken, Request, receive, send


def main() -> None:
    begin_own_process()
    # Whatever a library prints must not fall between the events: they keep the pipe, prints go to stderr.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Without a buffer: a thread that waits at one when the interpreter ends makes that a crash.
    pipe = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    request = receive(pipe)
    assert isinstance(request, Request), "the parent sends a request first"
    asked, left = threading.Event(), threading.Event()
    threading.Thread(target=_wait_for_stop, args=(pipe, asked, left), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the parent has gone: what was trained is written
        _train(request, asked, left, events)


def _train(request: Request, asked: threading.Event, left: threading.Event, events: IO[bytes]) -> None:
    from napari_medseg.training.fit import iter_train

    begun = False
    try:
        running = iter_train(request.cases, should_stop=asked.is_set, **request.options)
        for event in running:
            begun = begun or isinstance(event, Started)
            if left.is_set() and not begun:  # nobody waits for it, and nothing is learned yet
                return
            with contextlib.suppress(BrokenPipeError):
                send(events, event)
    except (MedsegError, RuntimeError, MemoryError) as error:
        send(events, Broken(error))


def _wait_for_stop(pipe: IO[bytes], asked: threading.Event, left: threading.Event) -> None:
    stopped = pipe.readline() == STOP
    if not stopped:
        left.set()
    asked.set()
    if stopped:
        pipe.read()  # until the parent leaves
        left.set()


if __name__ == "__main__":
    main()
