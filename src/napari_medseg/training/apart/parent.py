"""`iter_train_apart`: the events of a training that runs in a process of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from napari_medseg.cases import Case
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished
from napari_medseg.io.disk.child import command_of, environment, how_it_ended
from napari_medseg.training.apart.frames import STOP, Broken, Request, receive, send
from napari_medseg.training.saving.earlier import folder_of, is_unfinished
from napari_medseg.volume import Segmentation, Volume

N = TypeVar("N", Volume, Segmentation)
AnyCase = Case | tuple[Volume, Segmentation] | Segmentation
Pairs = Iterable[AnyCase]


def iter_train_apart(
    cases: Pairs,
    *,
    out: str | Path,
    unlabelled: Iterable[Case | Volume] = (),
    target: Iterable[Case | Volume] = (),
    should_stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Iterator[Event]:
    """As `iter_train`, with the same arguments, in a process of its own.

    A crash there, or the system that ends it for want of memory, raises InputError here, and the state on disk stands:
    resume from it. Closing the generator, and the end of this process, stop the training: it writes its model first.
    """
    further = {
        name: [_read(image) if isinstance(image, Volume) else _in_memory(image) for image in images]
        for name, images in (("unlabelled", unlabelled), ("target", target))
    }
    request = Request([_in_memory(case) for case in cases], {"out": Path(out), **further, **options})
    with tempfile.TemporaryFile() as complaints, _started(complaints) as process:
        assert process.stdin is not None, "started with PIPE"
        assert process.stdout is not None, "started with PIPE"
        try:
            send(process.stdin, request)
            yield from _events(process, should_stop)
        except (EOFError, BrokenPipeError):
            raise InputError(_ended(process.wait(), complaints, Path(out))) from None
        finally:
            _stop(process)


def _events(process: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> Iterator[Event]:
    assert process.stdout is not None, "started with PIPE"
    asked = False
    while True:
        event = receive(process.stdout)
        if isinstance(event, Broken):
            raise event.error
        if isinstance(event, Finished):
            _stop(process)  # who reads that it is done may begin another
            yield event
            return
        yield event
        if not asked and should_stop():
            asked = True
            _ask(process)


def _started(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_of("napari_medseg.training.apart.child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=environment(),
        start_new_session=True,  # Ctrl-C in the terminal then reaches us alone
    )


def _ask(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None, "started with PIPE"
    with suppress(BrokenPipeError):
        process.stdin.write(STOP)
        process.stdin.flush()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Leave the process, have it write its model and end, and wait for that."""
    if process.poll() is None:
        assert process.stdin is not None, "started with PIPE"
        assert process.stdout is not None, "started with PIPE"
        with suppress(BrokenPipeError):
            process.stdin.close()
        while process.stdout.read(1 << 16):  # it would wait for us to take its last events
            pass
    process.wait()


def _ended(status: int, complaints: IO[bytes], out: Path) -> str:
    """One line for a process that has ended by itself."""
    why = f"the process that trains {how_it_ended(status, complaints)}"
    if is_unfinished(out):
        return f"{why}; the state saved in {folder_of(out)} stands: resume from it"
    return f"{why}; no state had been saved yet"


def _in_memory(case: AnyCase) -> AnyCase:
    """A case that another process can have: files stay files, lazy arrays are read."""
    if isinstance(case, Case):
        images = tuple(_read(image) if isinstance(image, Volume) else image for image in case.images)
        labels = _read(case.labels) if isinstance(case.labels, Segmentation) else case.labels
        return replace(case, images=images, labels=labels)
    if isinstance(case, Segmentation):
        return _read(case)
    volume, segmentation = case
    return _read(volume), _read(segmentation)


def _read(noun: N) -> N:
    return replace(noun, data=np.ascontiguousarray(noun.data[...]))
