"""Measure cases in files one after the other. A case that cannot be measured is reported, and the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_medseg import io
from napari_medseg.arrays.boxes import holds_any
from napari_medseg.cases import Case, warn_of_notes
from napari_medseg.config import RegionsConfig, configured
from napari_medseg.errors import InputError, MedsegError, warn
from napari_medseg.events import Event, Finished, Notice, Progress
from napari_medseg.metrics.pairwise.scores import contradicting_names, disjoint_ids
from napari_medseg.metrics.study.case_files import notes_of, opened
from napari_medseg.metrics.study.study import Measured, StudyConfig, measure, with_consensus
from napari_medseg.transforms.regions import regions
from napari_medseg.volume import Segmentation


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredCases:
    """What `iter_measure` finds. `study_of` makes scores and tables of it."""

    measured: tuple[Measured, ...]
    failed: Mapping[str, str]
    """{name of a case that was not measured: the reason, in one line}."""


def iter_measure(
    cases: Sequence[Case],
    config: StudyConfig | None = None,
    consensus: Mapping[str, Path] | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Measure each case against its reference or the consensus of its readers. One case is in memory at a time.

    config, or knobs: the fields of StudyConfig. consensus: {name of a case: where the consensus of its readers is
    written}. Yields Progress where there are several cases, a Notice for each case that cannot be read or measured or
    whose labels have no id in common, and for each region that no case has, and last Finished with MeasuredCases. Warns
    once of each thing that the files leave open, such as how large a pixel is, or contradict each other in, such as the
    name of a label. Raises the fault of an only case as it is, InputError where there is no case or every case fails,
    FileError where a consensus cannot be written.
    """
    chosen = configured(StudyConfig, config, knobs)
    measured: list[Measured] = []
    failed: dict[str, str] = {}
    notes: dict[str, Sequence[str]] = {}
    contradicting: dict[int, str] = {}
    for done, case in enumerate(cases):
        if len(cases) > 1:
            yield Progress(done, len(cases), "cases")
        try:
            found, reference, other = _measured(case, chosen)
        except MedsegError as error:
            if len(cases) == 1:
                raise
            failed[case.name] = str(error)
            yield Notice(f"{case.name} is not measured: {error}")
            continue
        measured.append(found)
        notes[case.name or str(case.labels)] = notes_of(case, reference.grid)
        contradicting |= other
        if doubt := disjoint_ids(found.scores):
            yield Notice(f"{case.name}: {doubt}" if case.name else doubt)
        if consensus and case.name in consensus:
            io.write(consensus[case.name], reference, provenance={"consensus": chosen.raters.consensus})
            if not holds_any(reference.data):
                yield Notice(f"{consensus[case.name]}: no voxel in it has a label")
        del reference  # before the next is read
    if not measured:
        raise InputError(f"none of the {len(cases)} cases could be measured; {_first(failed)}")
    if len(cases) > 1:
        yield Progress(len(cases), len(cases), "cases")
    for text in _empty_regions(measured, chosen.regions):
        yield Notice(text)
    warn_of_notes(notes)
    if contradicting:
        more = f", and so on with {len(contradicting) - 1} more" if len(contradicting) > 1 else ""
        warn(f"{next(iter(contradicting.values()))}{more}: labels are compared by their ids")
    yield Finished(MeasuredCases(measured=tuple(measured), failed=failed))


def _empty_regions(measured: Sequence[Measured], config: RegionsConfig) -> Iterator[str]:
    """What to say of regions of which no case has a voxel."""
    present = {row.label for found in measured for row in found.scores.rows}
    for region in () if config.foreground else regions(config.merge):
        if region.label not in present:
            ids = ", ".join(map(str, region.ids))
            yield f"the region {region.name} is in none of the files: no voxel in them has the label {ids}"


def _measured(case: Case, config: StudyConfig) -> tuple[Measured, Segmentation, dict[int, str]]:
    """What was found in a case, the reference or consensus that it was measured against, and names that contradict."""
    images = with_consensus(opened(case), config.raters.consensus)
    found = measure(images, config)
    merged = {label for _, labels in config.regions.merge for label in labels}
    other = contradicting_names(images.prediction, images.reference, found.scores)
    own = {} if config.regions.foreground else {k: line for k, line in other.items() if k not in merged}
    return found, images.reference, own


def _first(failed: Mapping[str, str]) -> str:
    return next((f"{case}: {reason}" for case, reason in failed.items()), "there is no case")
