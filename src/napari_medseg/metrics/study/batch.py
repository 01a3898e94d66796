"""Cases in files, measured one after the other; one that cannot be measured is reported, and the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseg import io
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.events import Event, Finished, Notice, Progress
from napari_medseg.metrics.study.case_files import CaseFiles
from napari_medseg.metrics.study.study import Measured, StudyConfig, measure, with_consensus
from napari_medseg.volume import Segmentation


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What `iter_measure` finds; `study_of` makes scores and tables of it."""

    measured: tuple[Measured, ...]
    failed: Mapping[str, str]
    """{name of a case that was not measured: why, in one line}."""


def iter_measure(
    cases: Sequence[CaseFiles], config: StudyConfig | None = None, consensus: Mapping[str, Path] | None = None
) -> Iterator[Event]:
    """Measure each case against its reference, or the consensus of its readers; one is in memory at a time.

    Yields Progress where there are several, a Notice for each case that cannot be read or measured, and last Finished
    with a Batch. consensus: {name of a case: where the consensus of its readers is written}. Raises the fault of an
    only case as it is, InputError where all of several fail or there is none, FileError where a consensus cannot be
    written.
    """
    chosen = config or StudyConfig()
    measured: list[Measured] = []
    failed: dict[str, str] = {}
    for done, files in enumerate(cases):
        if len(cases) > 1:
            yield Progress(done, len(cases), "cases")
        try:
            found, reference = _measured(files, chosen)
        except MedsegError as error:
            if len(cases) == 1:
                raise
            failed[files.name] = str(error)
            yield Notice(f"{files.name} is not measured: {error}")
            continue
        measured.append(found)
        if consensus and files.name in consensus:
            io.write(consensus[files.name], reference, provenance={"consensus": chosen.raters.consensus})
        del reference  # before the next is read
    if not measured:
        raise InputError(f"none of the {len(cases)} cases could be measured; {_first(failed)}")
    if len(cases) > 1:
        yield Progress(len(cases), len(cases), "cases")
    yield Finished(Batch(measured=tuple(measured), failed=failed))


def _measured(files: CaseFiles, config: StudyConfig) -> tuple[Measured, Segmentation]:
    """(what was found in a case, the reference or consensus that it was measured against)."""
    case = with_consensus(files.read(), config.raters.consensus)
    return measure(case, config), case.reference


def _first(failed: Mapping[str, str]) -> str:
    return next((f"{case}: {reason}" for case, reason in failed.items()), "there is no case")
