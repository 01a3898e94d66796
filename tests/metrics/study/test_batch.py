"""Cases measured one after the other: one that is damaged does not take the others with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from balls import segmentation as balls
from napari_medseg import Grid, Segmentation, evaluate, write
from napari_medseg.cases import Case
from napari_medseg.config import RatersConfig, RegionsConfig, StatisticsConfig
from napari_medseg.errors import FileError, InputError
from napari_medseg.events import Finished, Notice, Progress, result_of
from napari_medseg.metrics.study.batch import MeasuredCases, iter_measure
from napari_medseg.metrics.study.case_files import Sources, match_files
from napari_medseg.metrics.study.study import StudyConfig, study_of

CONFIG = StudyConfig(statistics=StatisticsConfig(bootstrap=0))


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Four cases; of the second the prediction is no image, of the third it lies elsewhere."""
    for name in ("p", "r"):
        (tmp_path / name).mkdir()
        for number in range(4):
            write(tmp_path / name / f"c{number}.nii", balls())
    (tmp_path / "p" / "c1.nii").write_text("not an image")
    whole = balls()
    moved = Grid.from_spacing(whole.grid.shape, whole.grid.spacing, (50.0, 0.0, 0.0))
    write(tmp_path / "p" / "c2.nii", Segmentation(whole.data, moved))
    found, _ = match_files(Sources(prediction=tmp_path / "p", reference=tmp_path / "r"))
    return found


def test_the_other_cases_are_measured_and_the_failed_are_named(cases: list[Case]) -> None:
    events = list(iter_measure(cases, CONFIG))
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert [text.partition(":")[0] for text in notices] == ["c1 is not measured", "c2 is not measured"]
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(n, 4) for n in range(5)]
    last = events[-1]
    assert isinstance(last, Finished)
    batch: MeasuredCases = last.result
    assert [one.name for one in batch.measured] == ["c0", "c3"]
    assert batch.measured[1].scores == evaluate(prediction=balls(), reference=balls())
    assert list(batch.failed) == ["c1", "c2"]
    assert str(cases[1].beside["prediction"]) in batch.failed["c1"]
    assert "must lie on the same grid" in batch.failed["c2"]


def test_a_study_lists_what_failed_before_all_else(cases: list[Case]) -> None:
    batch: MeasuredCases = result_of(iter_measure(cases, CONFIG))
    found = study_of(batch.measured, CONFIG, batch.failed)
    assert found.scores.cases == ("c0", "c3")
    first = found.tables[0]
    assert first.name == "failed"
    assert [(row["case"], row["reason"]) for row in first.rows] == list(batch.failed.items())
    assert "failed" not in [table.name for table in study_of(batch.measured, CONFIG).tables]


def test_where_every_case_fails_the_first_reason_is_raised(cases: list[Case]) -> None:
    with pytest.raises(InputError, match=r"none of the 2 cases could be measured; c1: .*c1\.nii: not a NIfTI file"):
        result_of(iter_measure(cases[1:3], CONFIG))
    with pytest.raises(FileError, match=r"c1\.nii: not a NIfTI file"):
        result_of(iter_measure(cases[1:2], CONFIG))
    with pytest.raises(InputError, match="none of the 0 cases"):
        result_of(iter_measure([], CONFIG))


def test_a_consensus_is_written_of_what_was_measured(tmp_path: Path, cases: list[Case]) -> None:
    sources = Sources(prediction=tmp_path / "p", reference=tmp_path / "r", readers=[tmp_path / "r"])
    with_readers, _ = match_files(sources)
    out = {case.name: tmp_path / f"{case.name}_agreed.nii" for case in with_readers}
    config = StudyConfig(raters=RatersConfig(consensus="vote"))
    result_of(iter_measure(with_readers, config, out))
    assert [path.exists() for path in out.values()] == [True, False, False, True]


def test_a_consensus_that_cannot_be_written_is_no_fault_of_its_case(tmp_path: Path, cases: list[Case]) -> None:
    out = {case.name: tmp_path / "nowhere" / f"{case.name}.nii" for case in cases}
    with pytest.raises(FileError, match=r"c0\.nii: cannot be written: no such folder"):
        result_of(iter_measure(cases, CONFIG, out))


def test_a_region_that_no_case_has_is_told(cases: list[Case]) -> None:
    both = StudyConfig(regions=RegionsConfig(merge=(("ball", (1, 8)), ("body", (9, 7)))))
    notices = [event.message for event in iter_measure(cases[:1], both) if isinstance(event, Notice)]
    assert notices == ["the region body is in none of the files: no voxel in them has the label 7, 9"]
