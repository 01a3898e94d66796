"""Each command on real files: what it writes, says and returns."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from balls import LABELS, balls, segmentation, volume
from napari_medseg import (
    Grid,
    Segmentation,
    Volume,
    evaluate,
    load_model,
    networks,
    read,
    read_segmentation,
    segment,
    write,
)
from napari_medseg.cli import main
from napari_medseg.cli.terminal import ProgressLine
from napari_medseg.errors import FileError
from napari_medseg.events import TrainProgress
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.runs.files import sha256_of
from napari_medseg.io import nifti
from napari_medseg.io.stored import Stored
from napari_medseg.models.file import write_model
from napari_medseg.transforms.regrid import resample_onto


def run(*argv: object) -> int:
    status: int = main([str(a) for a in argv])
    return status


def test_segment_writes_what_the_library_finds(ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    assert run("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", out) == 0
    found = read_segmentation(out)
    expected = segment(read(ball_images / "case0.nii.gz"), ball_model)
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.grid.same_as(expected.grid)
    assert found.labels == LABELS


def test_segment_records_how_the_labels_were_made(ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    from napari_medseg import io

    out = tmp_path / "out.nrrd"
    assert run("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", out, "--overlap", 0.25) == 0
    provenance = io.read_segmentation(out).provenance
    assert provenance["model_sha256"] == load_model(ball_model).sha256
    assert provenance["overlap"] == 0.25
    assert len(str(provenance["input_sha256"])) == 64


def test_segment_decodes_each_image_once(
    ball_images: Path, ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted(ball_images.iterdir())
    decoded: list[Path] = []

    def counted(path: Path, *, as_labels: bool) -> Stored:
        assert not as_labels
        decoded.append(path)
        return load(path, as_labels=as_labels)

    load = nifti.load
    monkeypatch.setattr(nifti, "load", counted)
    assert run("segment", *images, "--model", ball_model, "-o", tmp_path / "out/") == 0
    assert decoded == images
    assert len(list((tmp_path / "out").iterdir())) == len(images) > 1


def test_segment_looks_at_every_image_before_it_writes(
    ball_images: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.nii.gz"
    write(bad, Volume(np.zeros((2, 4, 4, 4), np.int16), Grid.from_spacing((4, 4, 4), (1, 1, 1))))
    assert run("segment", ball_images / "case0.nii.gz", bad, "--model", ball_model, "-o", tmp_path / "out/") == 2
    assert "bad has 2 channels but model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("new/folder", "new/folder/case1.nii.gz"),
        ("new/", "new/case1.nii.gz"),
        ("{name}/labels.mha", "case1/labels.mha"),
        ("masks/{name}.zarr", "masks/case1.zarr"),
    ],
    ids=["folder", "slash", "pattern", "zarr"],
)
def test_segment_several_images(out: str, expected: str, ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    assert run("segment", *sorted(ball_images.iterdir()), "--model", ball_model, "-o", tmp_path / out) in (0,)
    found = read_segmentation(tmp_path / expected)
    np.testing.assert_array_equal(found.data, segment(read(ball_images / "case1.nii.gz"), ball_model).data)


def test_segment_finds_a_model_by_its_name(
    ball_images: Path, ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_MODELS", str(ball_model.parent))
    assert run("segment", ball_images / "case0.nii.gz", "--model", "balls", "-o", tmp_path / "out.nii") == 0
    assert (tmp_path / "out.nii").is_file()


def test_segment_says_what_it_does(
    ball_images: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", tmp_path / "out.nii", "--device", "cpu")
    said = capsys.readouterr()
    assert said.out == f"wrote {tmp_path / 'out.nii'}\n"
    assert "case0: cpu fp32" in said.err
    assert "case0: windows: 100%" in said.err


def test_a_segmentation_replaces_the_one_before(ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    out.write_bytes(b"old")
    assert run("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", out) == 0
    assert read_segmentation(out).labels == LABELS


def test_a_later_fault_keeps_the_finished_outputs(ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    (tmp_path / "case1.zarr").mkdir()
    (tmp_path / "case1.zarr" / "thesis.txt").write_text("no store of ours")
    out = tmp_path / "{name}.zarr"
    assert run("segment", *sorted(ball_images.iterdir()), "--model", ball_model, "-o", out) == 2
    assert read_segmentation(tmp_path / "case0.zarr").labels == LABELS
    assert not (tmp_path / "case2.zarr").exists()


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    ball_images: Path, ball_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "case1").write_text("a file where a folder is needed")
    out = tmp_path / "{name}" / "labels.nii.gz"
    assert run("segment", *sorted(ball_images.iterdir()), "--model", ball_model, "-o", out) == 2
    assert not (tmp_path / "case0").exists()


def test_evaluate_two_files(ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, table = ball_labels / "case0.nii", tmp_path / "new" / "scores.csv"
    assert run("evaluate", "--prediction", one, "--reference", ball_labels / "case1.nii", "-o", table) == 0
    frame = pd.read_csv(table)
    assert list(frame["name"]) == list(LABELS.values())
    assert list(frame["dice"]) == [1.0, 1.0]
    assert "mean: dice 1.0000" in capsys.readouterr().out


def test_evaluate_two_folders_by_name(ball_labels: Path, ball_images: Path, tmp_path: Path, ball_model: Path) -> None:
    run("segment", *sorted(ball_images.iterdir())[:2], "--model", ball_model, "-o", tmp_path / "found")
    table = tmp_path / "scores.csv"
    assert run("evaluate", "--prediction", tmp_path / "found", "--reference", ball_labels, "-o", table) == 0
    frame = pd.read_csv(table)
    assert list(frame.columns[:3]) == ["case", "label", "name"]
    assert list(frame["case"]) == ["case0", "case0", "case1", "case1"]
    scores = evaluate(
        prediction=read_segmentation(tmp_path / "found" / "case1.nii.gz"),
        reference=read_segmentation(ball_labels / "case1.nii"),
    )
    assert list(frame["dice"][2:]) == pytest.approx([row.dice for row in scores.rows])


@pytest.mark.parametrize(
    ("names", "flags", "says"),
    [
        ({1: "left ball", 2: "left kidney"}, [], True),
        ({1: "left ball", 2: "left kidney"}, ["--foreground"], False),
        ({1: "Left_ball"}, [], False),
    ],
    ids=["other", "not compared by it", "the same or none"],
)
def test_evaluate_tells_once_of_names_that_contradict_each_other(
    names: dict[int, str],
    flags: list[str],
    says: bool,
    ball_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = tmp_path / "found"
    found.mkdir()
    for case in ("case0", "case1", "case2"):
        write(found / f"{case}.nii.gz", replace(read_segmentation(ball_labels / f"{case}.nii"), labels=names))
    assert run("evaluate", "--prediction", found, "--reference", ball_labels, *flags) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    message = (
        "warning: label 2 is 'left kidney' in the prediction and 'right ball' in the reference: labels are compared by "
        "their ids"
    )
    assert told == [message] * says


def test_evaluate_tells_what_has_no_partner(
    ball_labels: Path, ball_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ball_labels / "case2.nii").rename(ball_labels / "other.nii")
    found = tmp_path / "found"
    found.mkdir()
    write(found / "case0.nii.gz", read_segmentation(ball_labels / "case0.nii"))
    assert run("evaluate", "--prediction", found, "--reference", ball_labels) == 0
    said = capsys.readouterr()
    warnings = [line for line in said.err.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1
    assert "2 images are not in all of" in warnings[0]
    assert "case1, other" in warnings[0]


def test_evaluate_writes_json(ball_labels: Path, tmp_path: Path) -> None:
    one = ball_labels / "case0.nii"
    run("evaluate", "--prediction", one, "--reference", one, "--preset", "chaos", "-o", tmp_path / "s.json")
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["preset"] == "chaos"
    assert content["mean"]["dice"] == 1.0


def test_networks_are_listed_with_their_presets_and_the_models(
    ball_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDSEG_MODELS", str(ball_model.parent))
    assert run("networks") == 0
    text = capsys.readouterr().out
    assert "unet3d" in text
    assert f"models in {ball_model.parent}: balls.safetensors" in text
    assert run("networks", "--json") == 0
    content = {facts["name"]: facts for facts in json.loads(capsys.readouterr().out)}
    assert {k: content["vnet"][k] for k in ("family", "year", "dims", "parameters_paper", "counting", "reference")} == {
        "family": "residual and dense",
        "year": 2016,
        "dims": [2, 3],
        "parameters_paper": 45_597_898,
        "counting": "",
        "reference": "Milletari et al., 3DV 2016, doi:10.1109/3DV.2016.79",
    }


def test_networks_are_as_wide_as_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    run("networks")
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run("networks")
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if not line.startswith("models in")) <= 72
    assert shown.split() == piped.split()
    assert sum(" 2D" in line or " 3D" in line for line in piped.splitlines()) >= len(networks()), "a line each"


def test_a_reader_that_stops_reading_is_no_defect() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "napari_medseg.cli", "networks"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (130, "")


def test_info_of_a_model(ball_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", ball_model) == 0
    text = capsys.readouterr().out
    assert f"sha256: {load_model(ball_model).sha256}" in text
    assert "labels: 1 left ball, 2 right ball" in text
    assert "patch (z, y, x): 8, 16, 16 voxels" in text
    assert "validation" not in text


def test_info_of_a_model_that_was_trained_and_not_validated(
    ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(ball_model)
    spec = replace(model.spec, training=replace(model.spec.training, cases=2))
    write_model(tmp_path / "m.safetensors", spec, model.load_network().state_dict())
    assert run("info", tmp_path / "m.safetensors") == 0
    assert "validation: none" in capsys.readouterr().out


def test_info_of_a_cascade(
    ball_images: Path, ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "two.safetensors"
    folders = ("--images", ball_images, "--labels", ball_labels)
    assert run("train", *folders, "--cascade", "detect", "--epochs", "1", "--val", "0", "-o", out) == 0
    capsys.readouterr()
    assert run("info", out) == 0
    expected = "first stage: unet3d at 2, 2, 2 mm for object; guides by boxes with 10 mm around them"
    assert expected in capsys.readouterr().out


def test_info_of_an_image_and_of_labels(
    ball_images: Path, ball_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ball_images / "case0.nii.gz"
    assert run("info", image) == 0
    assert "12" in capsys.readouterr().out
    assert run("info", ball_labels / "case0.nii", "--labels", "--image", image) == 0
    said = capsys.readouterr().out
    assert "left ball" in said
    assert said.count(f"grid: the same as that of {image}\n") == 1
    order, labels = AxisOrder((2, 1, 0), (False, True, False)), segmentation()
    turned = Segmentation(order.apply(np.asarray(labels.data)), labels.grid.reordered(order))
    write(ball_labels / "turned.nii", turned)
    assert run("info", ball_labels / "turned.nii", "--labels", "--image", image) == 0
    assert f"grid: the same as that of {image}, with its axes flipped or in another order" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".ome.zarr"])
def test_convert_keeps_an_image(suffix: str, ball_images: Path, tmp_path: Path) -> None:
    source, target = ball_images / "case0.nii.gz", tmp_path / f"new/out{suffix}"
    assert run("convert", source, "-o", target) == 0
    before, after = read(source), read(target)
    np.testing.assert_array_equal(np.asarray(after.data), np.asarray(before.data))
    assert after.grid.same_as(before.grid)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".ome.zarr"])
def test_convert_keeps_labels_as_labels(suffix: str, ball_labels: Path, tmp_path: Path) -> None:
    source, there, back = ball_labels / "case0.nii", tmp_path / f"there{suffix}", tmp_path / "back.nii"
    assert run("convert", source, "-o", there) == 0
    assert run("convert", there, "-o", back) == 0
    before, after = read_segmentation(source), read_segmentation(back)
    np.testing.assert_array_equal(np.asarray(after.data), np.asarray(before.data))
    assert after.labels == LABELS


@pytest.mark.parametrize(
    ("out", "made"), [("new/", "new/case0.nii.gz"), (".", "case0.nii.gz"), ("{name}_x.nrrd", "case0_x.nrrd")]
)
def test_convert_writes_into_a_folder_and_by_a_pattern(out: str, made: str, ball_labels: Path, tmp_path: Path) -> None:
    assert run("convert", ball_labels / "case0.nii", "-o", f"{tmp_path}/{out}") == 0
    assert read_segmentation(tmp_path / made).labels == LABELS


def test_convert_writes_the_chunks_asked_for(ball_images: Path, tmp_path: Path) -> None:
    import zarr

    assert run("convert", ball_images / "case0.nii.gz", "-o", tmp_path / "a.zarr", "--chunks", 8) == 0
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"]
    assert isinstance(array, zarr.Array)
    assert array.chunks[-3:] == (8, 8, 8)


def test_train_then_segment(
    ball_images: Path, ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "balls.safetensors"
    assert run("train", "--images", ball_images, "--labels", ball_labels, "--epochs", 1, "--val", 0.34, "-o", out) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote {out}\n"
    assert "loss" in said.err
    assert "left" in said.err
    model = load_model(out)
    assert dict(model.spec.labels) == LABELS
    assert model.spec.training.cases == 2
    assert run("segment", ball_images / "case0.nii.gz", "--model", out, "-o", tmp_path / "a.nii") == 0


def test_a_training_in_minutes_shows_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("balls")
    line.show(TrainProgress(302, 1000, "epoch 4", epoch=3, step=57, loss=0.5, seconds_left=61.0))
    line.close()
    shown = capsys.readouterr().err
    assert "step 57, loss 0.500, 01:01 left" in shown
    assert "302/1000" not in shown


def test_train_takes_several_folders_as_channels(ball_images: Path, ball_labels: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for number in range(3):
        write(second / f"case{number}.mha", volume(seed=number + 10))
    out = tmp_path / "two.safetensors"
    folders = ("--images", ball_images, "--images", second)
    assert run("train", *folders, "--labels", ball_labels, "--epochs", 1, "--val", 0, "-o", out) == 0
    assert len(load_model(out).spec.channels) == 2


def test_an_interrupted_training_leaves_a_model(
    ball_images: Path, ball_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from napari_medseg.cli import terminal
    from napari_medseg.events import TrainProgress

    show = terminal.ProgressLine.show

    def interrupt(self: terminal.ProgressLine, event: object) -> None:
        show(self, event)  # type: ignore[arg-type]
        if isinstance(event, TrainProgress):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(terminal.ProgressLine, "show", interrupt)
    out = tmp_path / "balls.safetensors"
    assert run("train", "--images", ball_images, "--labels", ball_labels, "--epochs", 50, "-o", out) == 130
    assert load_model(out).spec.training.epochs < 50


def test_convert_onto_the_grid_of_another_image(tmp_path: Path) -> None:
    fine = Grid.from_spacing((24, 20, 16), (1.0, 1.0, 1.0), (-0.5, 0.0, 0.0))
    write(tmp_path / "fine.nii.gz", Volume(np.zeros((1, *fine.shape), np.int16), fine))
    write(tmp_path / "labels.nrrd", segmentation())
    command = ["convert", str(tmp_path / "labels.nrrd"), "-o", str(tmp_path / "out.nii.gz")]
    assert main([*command, "--onto", str(tmp_path / "fine.nii.gz"), "--interpolation", "nearest"]) == 0
    found = read_segmentation(tmp_path / "out.nii.gz")
    assert found.grid.same_as(fine)
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(segmentation().data).repeat(2, axis=0))


@pytest.fixture
def unmarked(tmp_path: Path) -> list[str]:
    """The command that resamples labels, in a file that does not say so, onto a grid between their voxels."""
    between = Grid.from_spacing((12, 20, 16), (2.0, 1.0, 1.0), (1.0, 0.5, 0.5))
    write(tmp_path / "between.nii", Volume(np.zeros((1, *between.shape), np.int16), between))
    write(tmp_path / "unmarked.nii", Volume(balls()[None], segmentation().grid))
    names = {name: str(tmp_path / f"{name}.nii") for name in ("between", "unmarked", "out")}
    return ["convert", names["unmarked"], "-o", names["out"], "--onto", names["between"]]


def test_convert_takes_a_file_as_labels(unmarked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*unmarked, "--as-labels"]) == 0
    said = capsys.readouterr().err
    assert "unmarked.nii: labels resampled: 100%" in said
    assert "warning" not in said
    found = read_segmentation(unmarked[3])
    assert set(np.unique(np.asarray(found.data))) == {0, 1, 2}
    assert np.array_equal(np.asarray(found.data), np.asarray(resample_onto(segmentation(), found.grid).data))


def test_convert_warns_where_labels_are_interpolated_as_an_image(
    unmarked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(unmarked) == 0
    said = capsys.readouterr().err
    assert "unmarked.nii: channels resampled: 100%" in said
    warned = r"\nwarning: [^\n]*unmarked.nii: it holds few values, [^\n]*: if they are labels, add --as-labels\n"
    assert re.search(warned + "$", said)
    assert main([*unmarked, "--interpolation", "nearest"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["found.nii.gz", "found.zarr"])
def test_every_output_records_what_it_was_made_from(
    ball_images: Path, ball_model: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ball_images / "case0.nii.gz"
    assert run("segment", image, "--model", ball_model, "-o", tmp_path / name) == 0
    capsys.readouterr()
    assert run("info", tmp_path / name) == 0
    said = capsys.readouterr().out
    assert hashlib.sha256(image.read_bytes()).hexdigest() in said
    assert load_model(ball_model).sha256 in said


def test_the_hash_of_a_folder_changes_with_a_name_and_with_a_byte(ball_images: Path) -> None:
    first = sha256_of(ball_images)
    assert sha256_of(ball_images.with_name("images#abc123")) == first
    (ball_images / "case0.nii.gz").rename(ball_images / "case9.nii.gz")
    renamed = sha256_of(ball_images)
    (ball_images / "case9.nii.gz").write_bytes(b"x")
    assert len({first, renamed, sha256_of(ball_images)}) == 3


def test_the_hash_of_a_part_is_that_of_its_file(tmp_path: Path) -> None:
    marked = tmp_path / "a#1.nii.gz"
    marked.write_bytes(b"x")
    assert sha256_of(tmp_path / "a#1.nii.gz#0") == sha256_of(marked)
    with pytest.raises(FileError, match=r"no such file: .*b\.nii\.gz"):
        sha256_of(tmp_path / "b.nii.gz#0")


@pytest.mark.parametrize("out", ["case0.nii.gz", "case0.zarr"])
def test_segment_keeps_labels_that_no_run_wrote(
    out: str, ball_images: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = tmp_path / "hand" / out
    by_hand.parent.mkdir()
    write(by_hand, segmentation())
    kept = by_hand.with_name(out.replace("case0", "case0.previous"))
    argv = ("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", by_hand)
    for _ in range(2):  # the second replaces what the first wrote
        assert run(*argv) == 0
        np.testing.assert_array_equal(read_segmentation(kept).data, balls())
        assert "model_sha256" in read_segmentation(by_hand).provenance
    assert sorted(path.name for path in by_hand.parent.iterdir()) == sorted([out, kept.name])
    assert f"they will be kept as {kept.name}" in capsys.readouterr().err


def test_segment_refuses_labels_of_several_files_that_no_run_wrote(
    ball_images: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = tmp_path / "hand.mhd"
    write(by_hand, segmentation())
    before = by_hand.read_bytes()
    assert run("segment", ball_images / "case0.nii.gz", "--model", ball_model, "-o", by_hand) == 2
    assert "hand.mhd: labels that no run wrote are there" in capsys.readouterr().err
    assert by_hand.read_bytes() == before


def test_the_demo_refuses_a_folder_with_labels_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.nii.gz").write_text("mine")
    assert run("demo", "--no-gui", "--out", tmp_path) == 2
    assert "labels.nii.gz: a file that no demo wrote is there" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("labels.nii.gz", "mine")]


def test_a_pattern_that_the_shell_left_is_expanded(
    ball_images: Path, ball_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ball_images / "a [b]*.nii.gz"
    write(ball_images / "a [b]1.nii.gz", volume())
    out = tmp_path / "out"
    assert run("segment", ball_images / "case?.nii.gz", named, "--model", ball_model, "-o", f"{out}/") == 0
    found = ["a [b]1.nii.gz", "case0.nii.gz", "case1.nii.gz", "case2.nii.gz"]
    assert sorted(path.name for path in out.iterdir()) == found
    assert run("segment", ball_images / "none*.nii.gz", "--model", ball_model, "-o", f"{out}/") == 2
    assert "no such file: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("napari_medseg_plan", "a plan of a training, in JSON: `train --plan` follows it"),
        ("napari_medseg_interaction", "the log of a session with prompts, in JSON: `interact --prompts` does it again"),
        ("napari_medseg_set", "a set of models, in JSON: `segment --model` uses them together"),
    ],
)
def test_info_says_what_a_document_of_ours_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, told: str
) -> None:
    (tmp_path / "a.json").write_text(f'{{"{key}": 1}}')
    assert run("info", tmp_path / "a.json") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.json'}: {told}\n"


def test_labels_of_a_region_that_no_file_holds_are_told(
    ball_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", ball_labels / "case0.nii", "-o", tmp_path / "m.nii", "--merge", "balls=1,7") == 0
    assert "the file holds none of the labels 7 of the region balls" in capsys.readouterr().err


def test_propagate_says_where_nothing_was_filled(
    ball_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "full.nii", Segmentation(np.ones_like(balls()), segmentation().grid))
    argv = ("propagate", ball_images / "case0.nii.gz", "--labels", tmp_path / "full.nii", "-o", tmp_path / "out.nii")
    assert run(*argv) == 0
    assert "case0: nothing was filled: the labels come back as they were given" in capsys.readouterr().err
