"""A wrong input or request: exit status 2, one line on stderr that names it, and nothing written."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balls import balls, volume
from napari_medseg import Grid, Segmentation, Volume, write
from napari_medseg.cli import main, parser, terminal
from napari_medseg.errors import MedsegWarning

WORK = {
    "segment images/case0.nii.gz --model model.safetensors": "napari_medseg.inference.engine.segmenting",
    "interact images/case0.nii.gz --prompts log.json": "napari_medseg.interactive.session.resume_interaction",
    "propagate images/case0.nii.gz --labels labels/case0.nii": "napari_medseg.refinement.filling.iter_propagate",
    "clean labels/case0.nii --fill-holes": "napari_medseg.refinement.cleaning.iter_clean",
    "instances labels/case0.nii": "napari_medseg.inference.objects.instances.iter_instances",
    "explain images/case0.nii.gz --model model.safetensors --label 1": "napari_medseg.explanation.iter_explain",
}
"""{command: what does its work}."""


@pytest.fixture
def workplace(
    tmp_path: Path, ball_images: Path, ball_labels: Path, ball_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder: images/, labels/, model.safetensors, and files with a fault each."""
    shutil.copy(ball_model, tmp_path / "model.safetensors")
    (tmp_path / "text.nii.gz").write_text("not an image\n")
    (tmp_path / "foreign.pth").write_bytes(b"\x80\x02.")
    (tmp_path / "slice.dcm").write_bytes(bytes(128) + b"DICM")
    write(tmp_path / "two_channels.nii.gz", volume(channels=2))
    write(tmp_path / "moved.nii", Segmentation(balls(), Grid.from_spacing((12, 20, 16), (2.0, 1.0, 1.0), (5.0, 0, 0))))
    write(tmp_path / "pair.hdr", volume())
    shutil.copytree(ball_labels, tmp_path / "readers")
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.yaml").write_text("a: $import os")
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    (tmp_path / "readers_renamed").mkdir()
    write(tmp_path / "readers_renamed" / "other.nii", volume())
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("case0.nii.gz", "")
    write(tmp_path / "nothing.nii", Segmentation(0 * balls(), volume().grid))
    (tmp_path / "pictures").mkdir()
    for name in ("a.svg", "b.svg"):
        (tmp_path / "pictures" / name).touch()
    for name, dtype in (("scans", np.uint8), ("whole", np.uint8), ("fractions", np.float32)):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(0).normal(120, 30, (1, 12, 20, 16)).astype(dtype)
        write(tmp_path / name / "case0.nii.gz", Volume(noise, volume().grid))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "liver.safetensors").touch()
    (tmp_path / "folder" / "case0.nii.gz").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path / "models"))
    return tmp_path


SEGMENT = "segment images/case0.nii.gz --model model.safetensors -o out.nii.gz"
TRAIN = "train --images images --labels labels -o out.safetensors --epochs 1"
REFUSED = {
    "no_such_image": (SEGMENT.replace("case0", "case9"), "no such file: images/case9.nii.gz"),
    "text_named_nii_gz": (SEGMENT.replace("images/case0", "text"), "text.nii.gz: not a NIfTI file"),
    "second_image_damaged": (
        "segment images/case0.nii.gz text.nii.gz --model model.safetensors -o out",
        "text.nii.gz: not a NIfTI file",
    ),
    "wrong_channels": (
        SEGMENT.replace("images/case0", "two_channels"),
        r"two_channels has 2 channels but model model.safetensors needs 1 \(CT\)",
    ),
    "dicom": (SEGMENT.replace("images/case0.nii.gz", "slice.dcm"), "slice.dcm: no SeriesInstanceUID: "),
    "no_such_model": (SEGMENT.replace("model.safetensors", "brain"), "brain: no such file, and no such model in"),
    "image_as_model": (SEGMENT.replace("model.safetensors", "images/case0.nii.gz"), "case0.nii.gz: not a model file"),
    "foreign_model": (
        SEGMENT.replace("model.safetensors", "foreign.pth"),
        "foreign.pth: a bare Python pickle",
    ),
    "folder_of_files": (
        SEGMENT.replace("images/case0.nii.gz", "images"),
        r"images: a folder of 3 files such as case0.nii.gz, where one image is expected: .* --images images, "
        r"other commands in a loop of the shell over images/\*.nii.gz",
    ),
    "nearly_a_model": (SEGMENT.replace("model.safetensors", "lever"), "did you mean liver\\? models there: liver$"),
    "train_device": (f"{TRAIN} --device tpu", "unknown device 'tpu'"),
    "probabilities": (f"{SEGMENT} --probabilities p.nii.gz", "streamed into a .zarr folder: end it in .zarr"),
    "overlap": (f"{SEGMENT} --overlap 1", "overlap must be at least 0 and below 1; got 1.0"),
    "device": (f"{SEGMENT} --device tpu", "unknown device 'tpu'"),
    "unknown_output_format": (
        SEGMENT.replace("out.nii.gz", "out.jpg"),
        "out.jpg: no format is written",
    ),
    "output_is_input": (
        SEGMENT.replace("-o out", "-o images/case0"),
        "case0.nii.gz: the output would replace",
    ),
    "output_is_the_header_of_the_input": (
        "segment pair.img --model model.safetensors -o pair.hdr",
        "pair.hdr: the output would replace its input",
    ),
    "output_holds_the_part_that_is_the_input": (
        "convert two_channels.nii.gz#0 -o two_channels.nii.gz",
        "two_channels.nii.gz: the output would replace its input",
    ),
    "output_holds_the_array_that_is_the_input": (
        "convert image.zarr/0 -o image.zarr",
        "image.zarr: the output would replace its input",
    ),
    "output_is_the_grid": (
        "convert labels/case0.nii --as-labels --onto images/case0.nii.gz -o images/case0.nii.gz",
        "case0.nii.gz: the output would replace its input",
    ),
    "output_is_the_first_model": (
        "convert weights.pt --network unet3d --crop model.safetensors -o model.safetensors",
        "model.safetensors: the output would replace its input",
    ),
    "probabilities_are_the_input": (
        "segment image.zarr --model model.safetensors -o out.nii.gz --probabilities image.zarr",
        "image.zarr: the output would replace its input",
    ),
    "uncertainty_is_the_input": (
        "segment image.zarr --model model.safetensors -o out.nii.gz --uncertainty ./image.zarr",
        "image.zarr: the output would replace its input",
    ),
    "output_is_a_slice": (
        "instances labels/case0.nii --source empty -o slice.dcm",
        "slice.dcm: cannot be replaced: a DICOM file that was not written by napari-medseg is there",
    ),
    "volume_as_a_picture": (SEGMENT.replace("out.nii.gz", "out.png"), "out.png: a 2D format holds one slice"),
    "objects_as_a_picture": ("instances labels/case0.nii -o out.png", "out.png: a 2D format holds one slice"),
    "clean_without_source": (
        "clean labels/case0.nii --fill-holes -o out.dcm",
        "out.dcm: a DICOM segmentation refers to the series it was drawn on",
    ),
    "idle_source_of_clean": (
        "clean labels/case0.nii --fill-holes -o out.nii --source images",
        "out.nii: only DICOM segmentations",
    ),
    "consensus_is_a_reader": (
        "evaluate --prediction labels --reference labels --reader readers --consensus vote "
        "--consensus-output readers/{name}.nii",
        "readers/case0.nii: the output would replace its input",
    ),
    "output_is_a_folder": (
        SEGMENT.replace("-o out.nii.gz", "-o folder"),
        "case0.nii.gz: a folder of this name is there",
    ),
    "two_images_one_output": (
        "segment images/case0.nii.gz images/case1.nii.gz --model model.safetensors -o out.nii.gz",
        r"out.nii.gz: 2 images need a folder or a pattern with \{name\}",
    ),
    "two_images_one_name": (
        "segment images/case0.nii.gz labels/case0.nii --model model.safetensors -o out",
        "out/case0.nii.gz: several images would be written there",
    ),
    "output_below_a_file": (SEGMENT.replace("-o out", "-o text.nii.gz/out"), "text.nii.gz/out.nii.gz: its folder"),
    "unknown_network": (
        f"{TRAIN} --network unet4d",
        r"unknown network 'unet4d': did you mean unet3d.*\? choose one of .*unet3d, .*vnet",
    ),
    "model_suffix": (
        TRAIN.replace("out.safetensors", "out.pt"),
        "out.pt: a model is written as",
    ),
    "plan_named_as_an_image": (
        "plan --images images --labels labels -o images/case0.nii.gz",
        "case0.nii.gz: a plan is written as .json",
    ),
    "plan_named_as_a_model": (
        "plan --images images --labels labels -o model.safetensors",
        "model.safetensors: a plan is written as .json",
    ),
    "plan_on_another_document": (
        "plan --images images --labels labels -o dataset.json",
        "dataset.json: a file that is no plan is there, and would be replaced: give another name",
    ),
    "folds_on_another_document": (
        f"{TRAIN.replace('out.safetensors', 'dataset.json')} --folds 2",
        "dataset.json: a file that is no set of models is there",
    ),
    "scores_on_another_document": (
        "evaluate --prediction labels --reference labels -o dataset.json",
        "dataset.json: a file that is no file of scores is there",
    ),
    "images_for_labels": (
        TRAIN.replace("images images --labels labels", "images scans --labels whole"),
        "whole/case0.nii.gz: it looks like an image, not like labels: .*: are images and labels exchanged",
    ),
    "plan_of_images_for_labels": (
        "plan --images scans --labels whole -o out.json",
        "whole/case0.nii.gz: it looks like an image, not like labels: .*: are images and labels exchanged",
    ),
    "image_for_slices": (
        "propagate scans/case0.nii.gz --labels whole/case0.nii.gz -o out.nii",
        "whole/case0.nii.gz: it looks like an image, not like labels: .*: are images and labels exchanged",
    ),
    "fractions_for_labels": (
        TRAIN.replace("images images --labels labels", "images scans --labels fractions"),
        "fractions/case0.nii.gz: labels must be whole .*: are images and labels exchanged",
    ),
    "no_pairs": (TRAIN.replace("labels labels", "labels empty"), "files are paired by name without the suffix: rename"),
    "no_labels_of_the_name": (
        "propagate images/case0.nii.gz --labels readers_renamed -o out.nii",
        "readers_renamed has no image of the same name: other against case0: rename one of them",
    ),
    "file_for_a_folder": (
        TRAIN.replace("images images", "images images/case0.nii.gz"),
        "images/case0.nii.gz: a file, where a folder is expected: give the folder that holds it",
    ),
    "archive_for_a_folder": (
        TRAIN.replace("labels labels", "labels images.zip"),
        "images.zip: an archive: unpack it, and name the folder or file that comes out",
    ),
    "archive_to_measure": (
        "evaluate --prediction images.zip --reference labels -o out.csv",
        "images.zip: an archive: unpack it, and name the folder or file that comes out",
    ),
    "archive_to_convert": (
        "convert images.zip -o out.nii.gz",
        "images.zip: a zip archive that is neither .*: unpack it if it holds images",
    ),
    "folder_for_an_image": (
        "interact images --prompts empty -o out",
        "images: a folder of 3 files such as case0.nii.gz, where one image is expected: .* --images images",
    ),
    "folder_for_an_image_with_slices": (
        "propagate images --labels labels -o out",
        "images: a folder of 3 files such as case0.nii.gz, where one image is expected: .* --images images",
    ),
    "labels_of_another_scan": (
        "propagate images/case0.nii.gz --labels moved.nii -o out.nii",
        "must lie on the same grid; .*: if they are of the same scan, resample one .*; else check their names",
    ),
    "nothing_to_clean": (
        "clean labels/case0.nii -o out.nii",
        "nothing to do: ask for one or more of --interpolate, --fill-holes, --smooth-mm, --islands-ml, --largest",
    ),
    "memory_without_model": (
        "propagate images/case0.nii.gz --labels labels/case0.nii --method memory -o out.nii",
        "--method memory needs --model: a volumetric memory network",
    ),
    "learn_with_a_model": (
        "propagate images/case0.nii.gz --labels labels/case0.nii --method learn --model model.safetensors -o out.nii",
        "--method learn takes no --model",
    ),
    "idle_minutes": (
        "propagate images/case0.nii.gz --labels labels/case0.nii --minutes 1 -o out.nii",
        "--minutes needs --method learn: without it nothing would change",
    ),
    "nothing_painted": (
        "propagate images/case0.nii.gz --labels nothing.nii -o out.nii",
        "the annotated slices 'nothing' hold no label: paint at least one slice",
    ),
    "no_folder": (TRAIN.replace("images images", "images nowhere"), "no such folder: nowhere"),
    "val": (f"{TRAIN} --val 1", "val must be at least 0 and below 1; got 1.0"),
    "foreign_init": (f"{TRAIN} --init foreign.pth", "foreign.pth: a bare Python pickle"),
    "other_grid": (
        "evaluate --prediction moved.nii --reference labels/case0.nii -o out.csv",
        "the prediction 'moved.nii' and the reference 'labels/case0.nii' must lie on the same grid",
    ),
    "file_and_folder": (
        "evaluate --prediction labels --reference labels/case0.nii -o out.csv",
        "give two files or two folders, not one of each",
    ),
    "no_common_name": (
        "evaluate --prediction labels --reference empty -o out.csv",
        "labels and empty have no image of the same name: case0, case1, case2 against none",
    ),
    "scores_suffix": (
        "evaluate --prediction labels --reference labels -o out.xlsx",
        r"out.xlsx: scores are written as .csv, .json, .tex or .html",
    ),
    "info_nowhere": ("info nowhere.nii.gz", "no such file: nowhere.nii.gz"),
    "info_image_alone": ("info labels/case0.nii --image images/case0.nii.gz", "add --labels"),
    "convert_foreign": ("convert foreign.pth -o out.safetensors", "foreign.pth: a bare Python pickle"),
    "convert_dicom": ("convert slice.dcm -o out.nii.gz", "slice.dcm: no SeriesInstanceUID: "),
    "convert_chunks": ("convert images/case0.nii.gz -o out.zarr --chunks 0", "--chunks must be at least 1; got 0"),
    "convert_format": ("convert images/case0.nii.gz -o out.jpg", "out.jpg: no format is written under this name"),
    "convert_no_model": ("convert config.yaml -o out.safetensors", "config.yaml: no model of another program that can"),
    "convert_folder_no_model": ("convert labels -o out.safetensors", "labels: no model of another program that can be"),
    "pictures": (
        TRAIN.replace("labels labels", "labels pictures"),
        "pictures: none of its 2 files, such as a.svg, is an image of a known format",
    ),
    "pictures_beside": (
        "evaluate --prediction labels --reference labels --image pictures -o out.csv",
        "pictures: none of its 2 files, such as a.svg, is an image of a known format",
    ),
    "idle_chunks": ("convert images/case0.nii.gz -o out.nii --chunks 8", "--chunks needs an image and an output .zarr"),
    "idle_source": ("convert labels/case0.nii -o out.zarr --source images", "--source needs labels and an output .dcm"),
    "idle_interpolation": (
        "convert images/case0.nii.gz -o out.nii --interpolation nearest",
        "--interpolation needs --onto: without it nothing would change",
    ),
    "idle_network": ("convert images/case0.nii.gz -o out.nii --network vnet", "--network needs a state dict"),
    "idle_preset": ("convert foreign.pth -o out.safetensors --preset paper", "--preset needs --network"),
    "idle_labels": ("convert images/case0.nii.gz -o out.nii --labels l.json", "--labels needs a state dict"),
    "prune_no_levels": (
        "convert model.safetensors -o out.safetensors --prune 1",
        "model.safetensors: only a unetpp can be pruned; this is a",
    ),
    "prune_elsewhere": ("convert model.safetensors -o out.onnx --prune 1", "out.onnx: a model is written as"),
    "idle_prune": ("convert images/case0.nii.gz -o out.nii --prune 1", "--prune needs a model file of ours"),
    "idle_images": ("convert model.safetensors -o out.safetensors --images images", "--images needs --prune and"),
    "idle_onto": ("convert foreign.pth -o out.safetensors --onto pair.hdr", "--onto needs an image or labels"),
    "idle_as_labels": ("convert foreign.pth -o out.safetensors --as-labels", "--as-labels needs an image or labels"),
    "idle_slices": (f"{TRAIN} --slices 5", "--slices needs --mode 2.5d: without it nothing would change"),
    "network_of_init": (
        f"{TRAIN} --init model.safetensors --network vnet",
        "network vnet does not go with the model to start from, which is of network unet3d",
    ),
    "convert_without_source": ("convert labels/case0.nii -o out.dcm", "out.dcm: a DICOM segmentation refers to"),
    "segment_to_dicom": (SEGMENT.replace("out.nii.gz", "out.dcm"), "out.dcm: a DICOM segmentation refers to a DICOM"),
}


@pytest.mark.parametrize(("command", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line(command: str, message: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(workplace.rglob("*"))
    assert main(command.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", said.err), said.err
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize("command", list(WORK), ids=lambda command: command.split()[0])
def test_what_cannot_be_written_is_refused_before_the_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(WORK[command], work)
    (workplace / "log.json").write_text("{}")
    assert main([*command.split(), "-o", "out.png"]) == 2
    assert "out.png: a 2D format holds one slice; got 12 x 20 x 16 voxels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "evaluate --prediction whole/case0.nii.gz --reference labels/case0.nii",
        "convert whole/case0.nii.gz --as-labels -o out.nii",
        "info whole/case0.nii.gz --labels",
    ],
    ids=lambda command: command.split()[0],
)
def test_an_image_that_is_read_as_labels_is_told(
    workplace: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command.split()) == 0
    assert re.search(
        "whole/case0.nii.gz: it looks like an image, not like labels: .*: are images and labels exchanged",
        capsys.readouterr().err,
    )


def test_labels_on_another_grid_are_not_trained_on(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(workplace / "moved.nii", workplace / "labels" / "case1.nii")
    before = sorted(workplace.rglob("*"))
    assert main(TRAIN.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match("error: .*case1.* must lie on the same grid", last)
    assert sorted(workplace.rglob("*")) == before


def run_by(monkeypatch: pytest.MonkeyPatch, run: Callable[[object], None]) -> None:
    """Let `segment` be run by another function."""
    commands = [replace(command, run=run) if command.name == "segment" else command for command in parser.COMMANDS]
    monkeypatch.setattr(parser, "COMMANDS", commands)


def fail_with(error: BaseException) -> Callable[[object], None]:
    def command(_: object) -> None:
        raise error

    return command


def test_an_interruption_is_130(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_by(monkeypatch, fail_with(KeyboardInterrupt()))
    assert main(SEGMENT.split()) == 130


def test_a_defect_is_1_and_shows_where(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_by(monkeypatch, fail_with(ZeroDivisionError("by zero")))
    assert main(SEGMENT.split()) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "error: a defect of napari-medseg, please report it: ZeroDivisionError: by zero"
    assert rest[0] == "Traceback (most recent call last):"


def test_a_warning_is_one_line_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    with terminal.warnings_as_lines():
        for _ in range(2):
            warnings.warn("odd\nthing", MedsegWarning, stacklevel=1)
        warnings.warn("of another library", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: odd thing\n"


@pytest.mark.parametrize("name", ["series.zip", "series.zip#1a2b3c", "series.tar.gz"])
def test_an_archive_of_images_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        archive.writestr("IM001", "DICM")
    (tmp_path / "series.tar.gz").write_bytes(b"\x1f\x8b")
    assert main(["info", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert f"{name.partition('#')[0]}: an archive: unpack it, and name the folder or file that comes out" in told
    assert len(told.splitlines()) == 1


def test_a_zipped_model_is_still_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("b/configs/metadata.json", "{}")
    assert main(["info", str(tmp_path / "bundle.zip")]) == 2
    assert "a model of another program" in capsys.readouterr().err
