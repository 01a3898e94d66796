"""`napari-medseg suggest`: a table, JSON, a CSV file, and refusals in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from napari_medseg.cli import main


def test_a_folder_of_images(
    ball_model: Path, ball_images: Path, ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "next.csv"
    command = ["suggest", str(ball_images), "--model", str(ball_model), "--count", "4", "--device", "cpu"]
    assert main([*command, "--labels", str(ball_labels), "-o", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:4]] == ["1", "2", "3", "4"]
    assert "mm² are in doubt" in printed[0]
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert {int(row["index"]) for row in rows} <= {0, 1, 2, 3, 4, 8, 9, 10, 11}, "the other slices hold labels"
    assert main([*command, "--kind", "region", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in found] == ["region"] * 4
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)


def test_refusals(ball_model: Path, ball_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["suggest", "--model", str(ball_model)]
    image = str(ball_images / "case0.nii.gz")
    for arguments, message in (
        ([], "give one or more images"),
        ([image, "-o", "list.txt"], "end its name in .csv"),
        ([str(ball_images), "--labels", image], "need a folder of labels"),
        ([image, image], "two images have the name"),
    ):
        assert main([*base, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("error")]) == 1
