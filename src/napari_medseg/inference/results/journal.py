"""What of a run is done: a file of JSON lines in the store that is filled, so that a run continues after any end.

The first line says which run it is. Each further line is written after the voxels that it speaks of, in one piece: a
line that a kill cut short, and what it would have said, count as not done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import Box
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3

_CLEANED = "cleaned"
"""The note of a run that has begun to clean its labels."""
Job = Mapping[str, str]
"""Which run it is: all that decides a label, as texts."""


class Journal:
    """The done-map of a label array, kept in a file; without a path, in memory only."""

    def __init__(
        self,
        path: Path | None,
        shape: Shape3,
        chunks: Shape3,
        job: Callable[[], Job] = dict[str, str],
        beside: Sequence[Path] = (),
    ) -> None:
        """job: asked for where there is a file to continue, and where one is begun. beside: files that say of other
        stores that they belong to the run. Raises InputError where the file tells of another run."""
        self._path, self._beside = path, beside
        self._shape, self._chunks = shape, chunks
        self._counts = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))
        self.done = np.zeros(self._counts, dtype=bool)
        """Per chunk, in stored order, whether it was computed."""
        self.notes: dict[str, Any] = {}
        """What the run noted, the last value of each name."""
        self._job = job
        for line in self._lines():
            if "job" in line:
                _check_same(job(), line["job"], self._path)
            elif "done" in line:
                self.done[self._numbers(tuple(slice(*side) for side in line["done"]))] = True
            elif "anew" in line:
                self._forget()
            else:
                self.notes.update(line)

    def record(self, box: Box) -> None:
        """A box of whole chunks, in stored order, is in the store."""
        self.done[self._numbers(box)] = True
        self._append({"done": [[side.start, side.stop] for side in box]})

    def note(self, name: str, value: Any) -> None:
        """Note what a run that continues has to know."""
        self.notes[name] = value
        if self._path is not None and self._path.exists():
            self._append({name: value})

    def note_cleaning(self) -> None:
        """Note that the labels, which are all there, are changed from now on."""
        self.note(_CLEANED, True)

    def begin_anew_where_cleaned(self) -> None:
        """Take nothing for done where an earlier run ended while it cleaned: labels cleaned in part are neither."""
        if self.notes.get(_CLEANED):
            self._forget()
            self._append({"anew": True})

    def _forget(self) -> None:
        self.done[...] = False
        self.notes.pop(_CLEANED, None)

    def is_done(self, box: Box) -> bool:
        """Whether all chunks of a box, in stored order, are done."""
        return bool(self.done[self._numbers(box)].all())

    @property
    def fraction(self) -> float:
        """How much is done, of 1."""
        return float(self.done.mean())

    def _numbers(self, box: tuple[slice, ...]) -> tuple[slice, ...]:
        return tuple(slice(b.start // c, -(-b.stop // c)) for b, c in zip(box, self._chunks, strict=True))

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        text = ""
        if not self._path.exists():  # only now there is something to resume
            for mark in self._beside:
                mark.touch()
            first = [{"job": dict(self._job())}, *({name: value} for name, value in self.notes.items())]
            text = "".join(f"{json.dumps(entry)}\n" for entry in first)
        with open(self._path, "ab", buffering=0) as file:
            if not text:
                _end_line(self._path, file)
            file.write(f"{text}{json.dumps(line)}\n".encode())
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[Any]:
        if self._path is None or not self._path.is_file():
            return
        for text in self._path.read_bytes().split(b"\n"):
            try:
                yield json.loads(text)
            except ValueError:  # empty, or cut short
                continue


def _end_line(path: Path, file: Any) -> None:
    """End a line that was cut short, so that the next stands alone."""
    with path.open("rb") as written:
        written.seek(-1, os.SEEK_END)
        if written.read() != b"\n":
            file.write(b"\n")


def _check_same(job: Job, found: Any, path: Path | None) -> None:
    differing = [name for name, value in job.items() if not isinstance(found, dict) or found.get(name) != value]
    if differing:
        where = path.parent if path else "the store"
        raise InputError(
            f"{where}: the unfinished result there is of another run, which differs in {', '.join(differing)}: run "
            f"without resume, or choose another name"
        )
