"""Two folders give the combined scores of their cases, with progress on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseg import evaluate, read_segmentation
from napari_medseg.config import MetricsConfig
from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.events import Finished, Progress
from napari_medseg.metrics import combine
from napari_medseg.metrics.batch import iter_evaluate_folders


def test_the_last_event_holds_the_scores_of_all_cases(ball_labels: Path) -> None:
    config = MetricsConfig(preset="chaos", nsd_tolerance_mm=2.0)
    *progress, last = iter_evaluate_folders(prediction=ball_labels, reference=ball_labels, config=config)
    names = ["case0", "case1", "case2"]
    assert progress == [Progress(done, 3, f"cases, now {name}") for done, name in enumerate(names)]
    labels = [read_segmentation(ball_labels / f"{name}.nii") for name in names]
    each = [evaluate(prediction=one, reference=one, preset="chaos", nsd_tolerance_mm=2.0) for one in labels]
    assert last == Finished(combine(list(zip(names, each, strict=True))))


def test_what_is_in_one_folder_only_is_named(ball_labels: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    (some / "case1.nii").write_bytes((ball_labels / "case1.nii").read_bytes())
    with pytest.warns(MedsegWarning, match=r"2 images are in only one of .*: case0, case2"):
        *_, last = iter_evaluate_folders(prediction=some, reference=ball_labels)
    assert isinstance(last, Finished)
    assert last.result.cases == ("case1",)


def test_folders_without_a_common_name_are_refused(ball_labels: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="have no image of the same name"):
        list(iter_evaluate_folders(prediction=empty, reference=ball_labels))
