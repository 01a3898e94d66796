"""All that is measured of a set of cases, and the files that belong to each."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from balls import segmentation as balls
from balls import volume
from napari_medseg import Grid, Segmentation, Volume, evaluate, write
from napari_medseg.config import InstancesConfig, RatersConfig, StatisticsConfig
from napari_medseg.errors import FileError, GridMismatchError, InputError, MedsegWarning
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics.agreement.raters import majority_vote
from napari_medseg.metrics.study.case_files import Sources, match_files, opened
from napari_medseg.metrics.study.study import CaseImages, Study, StudyConfig, measure, study_of, with_consensus

QUICK = StatisticsConfig(bootstrap=50)


def shifted(by: int) -> Segmentation:
    """The balls, moved along x."""
    whole = balls()
    return replace(whole, data=np.roll(np.asarray(whole.data), by, axis=2))


def case(name: str = "", by: int = 1) -> CaseImages:
    return CaseImages(name=name, prediction=shifted(by), reference=balls())


def names(of: Study) -> list[str]:
    return [table.name for table in of.tables]


def test_a_case_alone_has_its_scores_and_nothing_else() -> None:
    found = study_of([measure(case())])
    assert found.scores == evaluate(prediction=shifted(1), reference=balls())
    assert found.tables == ()


def test_tables_say_that_the_size_of_a_pixel_is_not_known() -> None:
    flat = Segmentation(np.ones((1, 4, 5), np.uint8), replace(Grid.from_spacing((1, 4, 5), (1, 1, 1)), in_pixels=True))
    one = CaseImages(name="a", prediction=flat, reference=flat)
    found = study_of([measure(one), measure(case("b"))], StudyConfig(statistics=QUICK))
    assert [(s.name, s.value) for s in found.settings] == [("pixel_size", "unknown (1 mm taken)")]
    assert all(table.settings[-1].name == "pixel_size" for table in found.tables)
    assert study_of([measure(case("b"))], StudyConfig(statistics=QUICK)).settings == ()


def test_everything_at_once_has_every_table() -> None:
    image = volume(seed=0)
    p = np.stack([np.asarray(balls().data) == k for k in (0, 1, 2)]).astype(np.float32)
    readers = {"reference": balls(), "reader 1": shifted(1), "reader 2": shifted(2)}
    full = [
        replace(
            case(name, by),
            compared=shifted(3),
            image=image,
            probabilities=Volume(p, image.grid),
            raters=readers,
        )
        for name, by in (("a", 1), ("b", 2))
    ]
    config = StudyConfig(
        instances=InstancesConfig(),
        shape=True,
        series=True,
        raters=RatersConfig(consensus="staple"),
        statistics=QUICK,
    )
    found = study_of([measure(with_consensus(c, "staple"), config) for c in full], config)
    assert names(found) == [
        "statistics",
        "comparison",
        "volumes",
        "series_reference",
        "series_prediction",
        "instances",
        "instances_pooled",
        "pairs",
        "shape_reference",
        "shape_prediction",
        "intensities",
        "calibration",
        "reliability",
        "agreement",
        "reader_pairs",
        "staple",
        "compared",
    ]
    over_cases = {"statistics", "instances_pooled", "comparison", "volumes", "series_reference", "series_prediction"}
    for table in found.tables:
        assert table.rows
        assert all(table.definitions.values())
        assert ("case" in table.columns) == (table.name not in over_cases)
        assert not {setting.name for setting in table.settings} & set(table.columns), "no column is lost in a file"
    made_by = {table.name: [setting.name for setting in table.settings] for table in found.tables}
    of_scores = ["preset", "nsd_tolerance_mm", "rvd_unit", "consensus"]
    of_instances = ["instances", "connectivity", "iou_thresholds"]
    assert made_by["statistics"] == [*of_scores, *of_instances, "bootstrap", "confidence", "seed"]
    assert made_by["comparison"] == [*of_scores, "bootstrap", "confidence", "seed"]
    assert made_by["compared"] == of_scores
    assert made_by["pairs"] == made_by["instances_pooled"] == ["consensus", *of_instances]
    assert made_by["reliability"] == ["consensus", "bins", "region"]
    assert made_by["shape_prediction"] == made_by["agreement"] == []
    assert [setting.value for setting in found.settings] == ["staple"]
    pairs = next(table for table in found.tables if table.name == "reader_pairs")
    assert {(row["reader"], row["other"]) for row in pairs.rows} == {
        *[("reference", "reader 1"), ("reference", "reader 2"), ("reader 1", "reader 2")],
        *[("prediction", name) for name in readers],
    }


def test_the_compared_method_is_measured_against_the_same_reference() -> None:
    cases = [replace(case(name), compared=shifted(2)) for name in "abc"]
    found = study_of([measure(c) for c in cases], StudyConfig(statistics=QUICK))
    compared = next(table for table in found.tables if table.name == "compared")
    assert compared.rows[0]["dice"] == evaluate(prediction=shifted(2), reference=balls()).rows[0].dice
    comparison = next(table for table in found.tables if table.name == "comparison")
    dice = next(row for row in comparison.rows if row["metric"] == "dice")
    assert (dice["cases"], dice["better"]) == (3, "prediction")


def test_a_consensus_without_readers_is_none() -> None:
    found = study_of([measure(case())], StudyConfig(raters=RatersConfig(consensus="vote")))
    assert found.settings == ()


def test_a_consensus_takes_the_place_of_the_reference_and_the_readers_stay() -> None:
    readers = {"reference": balls(), "reader 1": shifted(1), "reader 2": shifted(1)}
    original = replace(case(), raters=readers)
    voted = with_consensus(original, "vote")
    np.testing.assert_array_equal(voted.reference.data, majority_vote(list(readers.values())).data)
    np.testing.assert_array_equal(voted.reference.data, shifted(1).data)
    assert voted.raters == readers
    assert measure(voted).scores.mean["dice"] == 1.0
    assert with_consensus(original, "none") is original
    assert with_consensus(case(), "staple").reference is not None, "no readers, no consensus"


def test_a_series_is_measured_in_the_order_of_the_cases() -> None:
    whole = np.asarray(balls().data)
    grown = [replace(balls(), data=np.where(whole == 1, 1, 0)), balls()]
    cases = [CaseImages(name=n, prediction=s, reference=balls()) for n, s in zip(("0", "1"), grown, strict=True)]
    found = study_of([measure(c) for c in cases], StudyConfig(series=True, statistics=QUICK))
    series = {table.name: table for table in found.tables}
    new = [row for row in series["series_prediction"].rows if row["label"] == 2]
    assert [row["point"] for row in new] == ["0", "1"]
    assert new[0]["volume_ml"] == 0
    assert new[1]["volume_ml"] == found.scores.rows[-1].volume_reference_ml
    assert {row["change_ml"] for row in series["series_reference"].rows if row["step"]} == {0.0}


def folder(path: Path, *files: str) -> Path:
    """A folder with the balls in files of these names."""
    path.mkdir()
    for name in files:
        write(path / name, balls())
    return path


def test_files_are_matched_by_name_and_what_is_left_is_in_a_table(tmp_path: Path) -> None:
    sources = Sources(
        prediction=folder(tmp_path / "p", "a.nii.gz", "b.nii", "p.nii"),
        reference=folder(tmp_path / "r", "a.nii", "b.nii.gz", "r.nii"),
        image=folder(tmp_path / "i", "b.nii"),
        readers=[folder(tmp_path / "ann", "a.nii", "b.nii")],
    )
    with pytest.warns(MedsegWarning, match="images are not in all of|have no image of their name") as said:
        cases, unmatched = match_files(sources)
    assert len(said) == 2
    assert [(c.name, c.labels, sorted(c.beside)) for c in cases] == [
        ("a", tmp_path / "r" / "a.nii", ["prediction", "reader 1"]),
        ("b", tmp_path / "r" / "b.nii.gz", ["image", "prediction", "reader 1"]),
    ]
    assert [c.beside["prediction"].name for c in cases] == ["a.nii.gz", "b.nii"]
    assert unmatched is not None
    assert [(row["case"], row["missing"]) for row in unmatched.rows] == [
        ("p", "reference"),
        ("r", "prediction"),
        ("a", "image"),
    ]
    read = opened(cases[1])
    assert read.image is not None
    assert read.compared is None
    assert list(read.raters) == ["reference", "reader 1"]


def test_two_files_are_the_only_case(tmp_path: Path) -> None:
    labels = folder(tmp_path / "p", "a.nii", "other.nii")
    sources = Sources(prediction=labels / "a.nii", reference=labels / "other.nii", compared=labels / "a.nii")
    cases, unmatched = match_files(sources)
    assert [c.name for c in cases] == [""]
    assert unmatched is None
    (tmp_path / "series").mkdir()
    with_series, _ = match_files(replace(sources, image=tmp_path / "series"))
    assert with_series[0].beside["image"] == tmp_path / "series", "a folder of DICOM files is one image"
    assert opened(cases[0]).compared is not None


@pytest.mark.parametrize("what", ["prediction", "reference", "compared", "image", "probabilities", "readers"])
def test_what_is_not_there_is_named(tmp_path: Path, what: str) -> None:
    labels, nowhere = folder(tmp_path / "p", "a.nii"), tmp_path / "nowhere"
    given = {"prediction": labels, "reference": labels}
    sources = Sources(**{**given, what: [nowhere] if what == "readers" else nowhere})  # type: ignore[arg-type]
    with pytest.raises(FileError, match=rf"^no such file or folder: {re.escape(str(nowhere))}$"):
        match_files(sources)


def test_a_file_and_a_folder_are_no_pair(tmp_path: Path) -> None:
    labels = folder(tmp_path / "p", "a.nii")
    with pytest.raises(InputError, match="give two files or two folders, not one of each"):
        match_files(Sources(prediction=labels, reference=labels / "a.nii"))


@pytest.mark.parametrize("what", ["prediction", "compared", "image", "probabilities", "reader 1"])
def test_an_image_on_another_grid_is_named_by_role_and_path(tmp_path: Path, what: str) -> None:
    labels = folder(tmp_path / "p", "a.nii") / "a.nii"
    moved = Grid.from_spacing(balls().grid.shape, balls().grid.spacing, (50.0, 0.0, 0.0))
    bad = tmp_path / "bad" / "a.nii"
    bad.parent.mkdir()
    write(bad, replace(balls(), grid=moved))
    sources = Sources(prediction=labels, reference=labels)
    sources = replace(sources, **({"readers": [bad]} if what == "reader 1" else {what: bad}))
    (case,), _ = match_files(sources)
    role = {"compared": "the compared prediction", "reader 1": "reader 1"}.get(what, f"the {what}")
    with pytest.raises(GridMismatchError, match=rf"^{role} '{bad}' and the reference '{labels}' must lie on the same"):
        opened(case)


@pytest.mark.parametrize("what", ["prediction", "reference", "compared", "readers"])
def test_labels_that_are_none_are_named_by_path(tmp_path: Path, what: str) -> None:
    labels = folder(tmp_path / "p", "a.nii") / "a.nii"
    bad = tmp_path / "bad" / "a.nii"
    bad.parent.mkdir()
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), np.eye(4)), bad)
    given = {"prediction": labels, "reference": labels}
    (case,), _ = match_files(Sources(**{**given, what: [bad] if what == "readers" else bad}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"^{bad}: labels must be whole numbers"):
        opened(case)


def test_an_image_that_is_flipped_lies_on_the_grid_of_its_case() -> None:
    flipped = replace(
        balls(),
        data=np.asarray(balls().data)[::-1],
        grid=balls().grid.reordered(AxisOrder.between(balls().grid.orientation, "IPL")),
    )
    assert CaseImages(prediction=flipped, reference=balls(), image=volume(seed=0)).prediction is flipped


def test_the_points_of_two_series_are_the_cases(tmp_path: Path) -> None:
    paths = [tmp_path / "p.nii", tmp_path / "r.nii", tmp_path / "short.nii"]
    for path, points in zip(paths, (3, 3, 2), strict=True):
        nib.save(nib.Nifti1Image(np.ones((4, 3, 2, points), np.uint8), np.eye(4)), path)
    cases, _ = match_files(Sources(prediction=paths[0], reference=paths[1]), series=True)
    predictions = {c.name: c.beside["prediction"].name for c in cases}
    assert predictions == {"0": "p.nii#0", "1": "p.nii#1", "2": "p.nii#2"}
    with pytest.raises(InputError, match=r"p\.nii has 3 time points and .*short\.nii has 2"):
        match_files(Sources(prediction=paths[0], reference=paths[2]), series=True)


def test_the_fourth_axis_of_probabilities_is_the_labels(tmp_path: Path) -> None:
    p = np.stack([np.full((4, 3, 2), 0.25), np.full((4, 3, 2), 0.75)], axis=-1).astype(np.float32)
    nib.save(nib.Nifti1Image(p, np.eye(4)), tmp_path / "p.nii")
    nib.save(nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4)), tmp_path / "labels.nii")
    sources = Sources(
        prediction=tmp_path / "labels.nii", reference=tmp_path / "labels.nii", probabilities=tmp_path / "p.nii"
    )
    read = opened(match_files(sources)[0][0]).probabilities
    assert read is not None
    assert read.data.shape == (2, 2, 3, 4)
