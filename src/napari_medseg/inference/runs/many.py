"""Many cases over several workers: a task is a case, and what is done of it is its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Notice, Progress, Work
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.runs.files import segmenting_case
from napari_medseg.inference.scale.crew import on_threads, torch_threads
from napari_medseg.models.file import Model, load_model
from napari_medseg.models.several import ModelSet, models_of

if TYPE_CHECKING:
    from napari_medseg.inference.scale.crew import Crew


@dataclass(frozen=True, eq=False)
class CaseTask:
    """One case of many."""

    case: Case
    model: Path
    config: SegmentConfig
    wanted: Wanted
    threads: int
    """Of torch in the process that asks."""
    refiner: Path | None = None


@dataclass(frozen=True)
class CaseDone:
    """What a worker reports."""

    name: str
    path: Path
    notices: tuple[str, ...]


def do_case(task: CaseTask) -> CaseDone:
    """In a worker: segment a case into its file."""
    refiner = None if task.refiner is None else load_model(task.refiner)
    events = segmenting_case(task.case, load_model(task.model), task.config, task.wanted, refiner=refiner)
    with on_threads(task.threads):
        notices = [event.message for event in events if isinstance(event, Notice)]
    assert task.wanted.out is not None, "a case is segmented into a file"
    return CaseDone(task.case.name, task.wanted.out, tuple(notices))


def segmenting_cases(
    cases: Sequence[Case],
    model: Model | ModelSet,
    config: SegmentConfig,
    wanted: Sequence[Wanted],
    crew: Crew,
    refiner: Model | None = None,
) -> Work[list[Path]]:
    """Segment many cases, each by one worker of a crew; returns the files in the order in which they were written.

    model: of one file, which the workers open.
    """
    (one,) = models_of(model)
    by = None if refiner is None else refiner.path.absolute()
    path, threads = one.path.absolute(), torch_threads()
    tasks = [CaseTask(case, path, config, goal, threads, by) for case, goal in zip(cases, wanted, strict=True)]
    written: list[Path] = []
    yield Progress(0, len(cases), "images")
    for done in crew.run(do_case, tasks):
        for message in done.notices:
            yield Notice(f"{done.name}: {message}")
        written.append(done.path)
        yield Progress(len(written), len(cases), "images")
    return written
