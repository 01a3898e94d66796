"""Many cases over several workers: a task is a case, and what is done of it is its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Notice
from napari_medseg.inference.files import segmenting_case
from napari_medseg.inference.wanted import Wanted
from napari_medseg.models.file import load_model


@dataclass(frozen=True, eq=False)
class CaseTask:
    """One case of many."""

    case: Case
    model: Path
    config: SegmentConfig
    wanted: Wanted


@dataclass(frozen=True)
class CaseDone:
    """What a worker reports."""

    name: str
    path: Path
    notices: tuple[str, ...]


def do_case(task: CaseTask) -> CaseDone:
    """In a worker: segment a case into its file."""
    events = segmenting_case(task.case, load_model(task.model), task.config, task.wanted)
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert task.wanted.out is not None, "a case is segmented into a file"
    return CaseDone(task.case.name, task.wanted.out, tuple(notices))
