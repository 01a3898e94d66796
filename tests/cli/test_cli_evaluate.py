"""`evaluate` with its flags: what each adds to the output, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from balls import LABELS, segmentation
from napari_medseg import Segmentation, io, read_segmentation, write
from napari_medseg.cli import main


def moved(by: int) -> Segmentation:
    """The balls, moved along x."""
    whole = segmentation()
    return replace(whole, data=np.roll(np.asarray(whole.data), by, axis=2))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Four cases: a reference, a prediction a voxel off, a worse one, and two readers."""
    for name, offsets in {
        "reference": (0, 0, 0, 0),
        "ours": (1, 2, 0, 1),
        "theirs": (2, 3, 2, 2),
        "ann": (0, 0, 0, 0),
        "ben": (1, 0, 0, 0),
    }.items():
        (tmp_path / name).mkdir()
        for number, offset in enumerate(offsets):
            write(tmp_path / name / f"case{number}.nii", moved(offset))
    return tmp_path


def evaluate(folder: Path, *flags: object, prediction: str = "ours", reference: str = "reference") -> int:
    paths = ("--prediction", folder / prediction, "--reference", folder / reference)
    few = ("--bootstrap", 50) if (folder / prediction).is_dir() or "--series" in flags else ()
    return main([str(a) for a in ("evaluate", *paths, *few, *flags)])


def document(folder: Path, *flags: object, **where: str) -> dict[str, Any]:
    """What the command writes as JSON."""
    out = folder / "scores.json"
    assert evaluate(folder, *flags, "-o", out, **where) == 0
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def test_folders_have_statistics_over_their_cases(folders: Path) -> None:
    tables = document(folders)["tables"]
    assert list(tables) == ["statistics", "volumes"]
    dice = next(row for row in tables["statistics"]["rows"] if row["metric"] == "dice")
    assert dice["name"] == LABELS[dice["label"]]
    assert dice["cases"] == 4
    assert dice["mean_low"] < dice["mean"] < dice["mean_high"] <= 1


def test_the_intervals_follow_their_flags(folders: Path) -> None:
    def interval(*flags: object) -> tuple[float, float]:
        row = document(folders, *flags)["tables"]["statistics"]["rows"][0]
        return float(row["mean_low"]), float(row["mean_high"])

    plain = interval("--seed", 7)
    assert interval("--seed", 7) == plain
    assert interval("--confidence", 0.3)[0] > plain[0]
    assert np.isnan(interval("--bootstrap", 0)).all()


def test_a_mean_that_drops_missed_cases_says_of_how_many_it_is(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = replace(segmentation(), data=np.zeros_like(np.asarray(segmentation().data)))
    for number in (1, 3):
        write(folders / "ours" / f"case{number}.nii", empty)
    assert evaluate(folders) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mean of left ball: "))
    means = dict(part.split(" ", 1) for part in line.removeprefix("mean of left ball: ").split(", "))
    assert means["asd_mm"].endswith(" (2 of 4)")
    assert "of" not in means["dice"]


def test_two_methods_are_compared_case_by_case(folders: Path) -> None:
    tables = document(folders, "--compare", folders / "theirs")["tables"]
    dice = next(row for row in tables["comparison"]["rows"] if row["metric"] == "dice")
    assert (dice["cases"], dice["better"], dice["p"]) == (4, "prediction", 2 / 2**4)
    assert dice["p"] <= dice["p_holm"] <= 1
    assert {row["case"] for row in tables["compared"]["rows"]} == {f"case{n}" for n in range(4)}


def test_two_methods_are_compared_by_the_chosen_metrics(folders: Path) -> None:
    rows = document(folders, "--compare", folders / "theirs", "--metrics", "nsd, dice")["tables"]["comparison"]["rows"]
    assert [row["metric"] for row in rows] == ["nsd", "dice"] * len(LABELS)
    least = min(row["p"] for row in rows)
    assert min(row["p_holm"] for row in rows) == pytest.approx(min(1.0, least * len(rows)))


@pytest.mark.parametrize("flag", ["--bootstrap 100", "--confidence 0.9", "--seed 3"])
def test_there_are_no_statistics_over_one_case(folders: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = {"prediction": "ours/case0.nii", "reference": "reference/case0.nii"}
    assert evaluate(folders, *flag.split(), **where) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {flag.split()[0]} needs folders, or --series: without it nothing would change\n"
    assert said.out == ""


def test_instances_are_matched_at_several_thresholds(folders: Path) -> None:
    flags = ("--instances", "--iou", 0.25, "--iou", 0.75, "--connectivity", 6)
    tables = document(folders, *flags, prediction="ours/case0.nii", reference="reference/case0.nii")["tables"]
    rows = tables["instances"]["rows"]
    assert [(row["label"], row["iou_above"]) for row in rows] == [(k, t) for k in LABELS for t in (0.25, 0.75)]
    assert [pair["state"] for pair in tables["pairs"]["rows"]] == ["found"] * len(LABELS)
    ids = document(folders, "--instances", "ids")["tables"]["instances"]["rows"]
    assert {(row["label"], row["instances_reference"]) for row in ids} == {(0, len(LABELS))}


def test_an_image_and_probabilities_add_their_tables(folders: Path) -> None:
    labels = np.asarray(segmentation().data)
    grid = nib.load(folders / "reference" / "case0.nii").affine
    p = np.stack([labels == k for k in (0, *LABELS)]).astype(np.float32)
    nib.save(nib.Nifti1Image(p.T, grid), folders / "p.nii")
    nib.save(nib.Nifti1Image(labels.T.astype(np.float32), grid), folders / "image.nii")
    flags = ("--image", folders / "image.nii", "--probabilities", folders / "p.nii", "--calibration-bins", 4, "--shape")
    tables = document(folders, *flags, prediction="ours/case0.nii", reference="reference/case0.nii")["tables"]
    assert [row["mean"] for row in tables["intensities"]["rows"]] == list(LABELS)
    assert [row["ece"] for row in tables["calibration"]["rows"]] == [0.0] * (1 + len(LABELS))
    assert len(tables["reliability"]["rows"]) == 4 * (1 + len(LABELS))
    shapes = [tables[f"shape_{of}"]["rows"][0]["volume_ml"] for of in ("reference", "prediction")]
    assert shapes[0] == shapes[1] > 0


def test_every_export_says_how_the_numbers_were_made(folders: Path) -> None:
    readers = ("--reader", folders / "ann", "--reader", folders / "ben", "--consensus", "vote")
    flags = (*readers, "--confidence", 0.9, "--seed", 7, "--instances", "--connectivity", 6)
    tables = document(folders, *flags)["tables"]
    assert tables["statistics"]["settings"] == {
        "preset": "survey",
        "nsd_tolerance_mm": 1.0,
        "rvd_unit": "fraction",
        "consensus": "vote",
        "instances": "components",
        "connectivity": 6,
        "iou_thresholds": "0.5",
        "bootstrap": 50,
        "confidence": 0.9,
        "seed": 7,
    }
    for suffix in ("csv", "tex", "html"):
        assert evaluate(folders, *flags, "-o", folders / f"out.{suffix}") == 0
    assert pd.read_csv(folders / "out.csv")["consensus"].eq("vote").all()
    assert pd.read_csv(folders / "out_statistics.csv")["seed"].eq(7).all()
    for suffix, percent in (("tex", r"\%"), ("html", "%")):
        text = (folders / f"out.{suffix}").read_text()
        assert f"90 {percent} intervals of 50 bootstrap resamples, seed 7" in text
        assert text.count("against the majority vote of the readers") >= 5


def test_percent_is_told_on_the_terminal(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = {"prediction": "ours/case0.nii", "reference": "reference/case0.nii"}
    assert evaluate(folders, "--preset", "chaos", **where) == 0
    chaos = capsys.readouterr().out.splitlines()
    assert " rvd (%) " in chaos[0]
    assert ", rvd (%) " in next(line for line in chaos if line.startswith("mean: "))
    assert evaluate(folders, **where) == 0
    assert "%" not in capsys.readouterr().out


def test_no_label_at_all_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "empty.nii", replace(segmentation(), data=np.zeros(segmentation().grid.shape, np.uint8)))
    assert evaluate(tmp_path, prediction="empty.nii", reference="empty.nii") == 0
    assert capsys.readouterr().out.splitlines() == [
        "neither prediction nor reference has a label above 0: there is nothing to measure",
        "PA: 1.0000",
    ]


@pytest.mark.parametrize("method", ["vote", "staple"])
def test_readers_agree_and_their_consensus_judges(folders: Path, method: str) -> None:
    flags = ["--reader", folders / "ann", "--reader", folders / "ben", "--consensus", method]
    tables = document(folders, *flags, "--consensus-output", folders / "agreed")["tables"]
    assert {row["readers"] for row in tables["agreement"]["rows"]} == {3}
    first = [row for row in tables["agreement"]["rows"] if row["case"] == "case0" and row["label"] == 0]
    assert 0 < first[0]["fleiss_kappa"] < 1
    assert ("staple" in tables) == (method == "staple")
    written = folders / "agreed" / "case0.nii.gz"
    np.testing.assert_array_equal(read_segmentation(written).data, segmentation().data)
    assert io.read_segmentation(written).provenance["consensus"] == method


def test_a_series_in_one_file_has_its_changes(tmp_path: Path) -> None:
    series = np.zeros((4, 3, 2, 3), np.uint8)
    for point in range(3):
        series[: point + 1, ..., point] = 1
    for name in ("p.nii", "r.nii"):
        nib.save(nib.Nifti1Image(series, np.eye(4)), tmp_path / name)
    tables = document(tmp_path, "--series", prediction="p.nii", reference="r.nii")["tables"]
    rows = tables["series_prediction"]["rows"]
    assert [row["change_percent"] for row in rows] == ["nan", 100.0, pytest.approx(50.0)]
    assert [row["volume_ml"] for row in rows] == pytest.approx([0.006, 0.012, 0.018])


def test_a_series_of_folders_is_in_natural_order_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("p", "r"):
        (tmp_path / kind).mkdir()
        for by, name in enumerate(("t1", "t2", "t10")):
            write(tmp_path / kind / f"{name}.nii", moved(by))
    assert evaluate(tmp_path, "--series", prediction="p", reference="r") == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()[1:7:2]] == ["t1", "t2", "t10"]
    assert "evaluate: time points, in this order: t1, t2, t10\n" in said.err


def test_a_series_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2, 3), np.uint8), np.eye(4)), tmp_path / "p.nii")
    assert evaluate(tmp_path, prediction="p.nii", reference="p.nii") == 2
    assert "name p.nii#0 to p.nii#2" in capsys.readouterr().err


def test_what_did_not_match_is_in_the_report(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "ours" / "case3.nii").unlink()
    (folders / "ann" / "case0.nii").unlink()
    unmatched = document(folders, "--reader", folders / "ann")["tables"]["unmatched"]["rows"]
    assert unmatched == [{"case": "case3", "missing": "prediction"}, {"case": "case0", "missing": "reader 1"}]
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 2


def test_a_damaged_case_does_not_take_the_others_with_it(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "ours" / "case1.nii").write_text("not an image")
    out = folders / "scores.json"
    assert evaluate(folders, "-o", out) == 2
    said = capsys.readouterr()
    assert f"evaluate: case1 is not measured: {folders}/ours/case1.nii: not a NIfTI file" in said.err
    assert said.err.endswith("error: 1 of 4 cases not measured, for the reasons above: case1\n")
    assert f"wrote {out}" in said.out
    content = json.loads(out.read_text())
    assert {row["case"] for row in content["rows"]} == {"case0", "case2", "case3"}
    assert [row["case"] for row in content["tables"]["failed"]["rows"]] == ["case1"]
    assert evaluate(folders, "-o", folders / "scores.html") == 2
    html = (folders / "scores.html").read_text()
    assert "Cases that were not measured" in html
    assert "not a NIfTI file" in html


def test_the_suffix_decides_and_csv_has_a_file_per_table(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("csv", "tex", "html"):
        assert evaluate(folders, "--instances", "--iou", 0.05, "-o", folders / f"out.{suffix}") == 0
    written = [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("wrote")]
    tables = ["statistics", "volumes", "instances", "instances_pooled", "pairs"]
    assert written == ["out.csv", *(f"out_{name}.csv" for name in tables), "out.tex", "out.html"]
    assert pd.read_csv(folders / "out_pairs.csv")["state"].eq("found").all()
    html = (folders / "out.html").read_text()
    assert html.count("<h2>") == 2 + len(tables) + 1, "scores, plots, the tables, the worst places"
    assert html.count("data:image/png") == len(LABELS)


def test_without_a_file_the_tables_are_shown(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folders, "--shape", prediction="ours/case0.nii", reference="reference/case0.nii") == 0
    said = capsys.readouterr().out
    assert "Size and shape, reference:" in said
    assert "sphericity" in said


def test_the_tolerance_of_nsd_is_a_flag(folders: Path) -> None:
    where = {"prediction": "theirs/case0.nii", "reference": "reference/case0.nii"}
    strict, lenient = (document(folders, "--nsd-tolerance", mm, **where) for mm in (0, 5))
    assert (strict["nsd_tolerance_mm"], lenient["nsd_tolerance_mm"]) == (0.0, 5.0)
    assert strict["mean"]["nsd"] < lenient["mean"]["nsd"] == 1


REFUSED = {
    "iou": ("--instances --iou 1.5", "iou needs one or more thresholds from 0 to below 1"),
    "bootstrap": ("--bootstrap -1", "bootstrap must be 0 or at least 50; got -1"),
    "no_readers": (
        "--consensus-output out.nii.gz",
        "--consensus-output needs --reader, and --consensus vote or staple",
    ),
    "file_for_cases": (
        "--compare reference/case0.nii",
        "4 cases need a folder with an image of the same name for each",
    ),
    "no_image": ("--image nowhere.nii", "no such file or folder: nowhere.nii"),
    "metric": ("--compare reference --metrics dise,nsd", "no metric is called 'dise'; did you mean dice?"),
    "idle_consensus": ("--consensus vote", "--consensus needs --reader: without it nothing would change"),
    "idle_iou": ("--iou 0.3", "--iou needs --instances:"),
    "idle_connectivity": ("--connectivity 6", "--connectivity needs --instances components:"),
    "connectivity_of_ids": ("--instances ids --connectivity 6", "--connectivity needs --instances components:"),
    "idle_bins": ("--calibration-bins 10", "--calibration-bins needs --probabilities:"),
    "idle_region": ("--calibration-region foreground", "--calibration-region needs --probabilities:"),
    "idle_metrics": ("--metrics dice", "--metrics needs --compare:"),
    "suffix": ("-o out.xlsx", "scores are written as .csv, .json, .tex or .html"),
    "tolerance": ("--nsd-tolerance -1", "nsd_tolerance_mm must be at least 0"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_request_is_refused_before_the_work(
    flags: str, message: str, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders)
    before = sorted(folders.rglob("*"))
    assert evaluate(Path(), *flags.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert sorted(folders.rglob("*")) == before
