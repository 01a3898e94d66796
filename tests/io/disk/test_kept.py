"""What was at a target is there afterwards, untouched, where a writer refuses: every writer, every thing in its way."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from dicom_files import voxels, write_series
from grids import grid
from napari_medseg import evaluate, io
from napari_medseg.cli import main
from napari_medseg.errors import FileError
from napari_medseg.io.zarr.format import filling_labels
from napari_medseg.metrics.reports.exports import write_scores
from napari_medseg.models.file import load_model, write_model
from napari_medseg.overview import save_overview
from napari_medseg.volume import Segmentation, Volume

GRID = grid("SPL", shape=(4, 5, 6))
IMAGE = Volume(voxels(GRID.shape)[None], GRID)
LABELS = Segmentation((IMAGE.data[0] > 0).astype(np.uint8), GRID)
Writer = Callable[[Path], object]


def write_dicom(path: Path) -> None:
    io.write(path, LABELS, source=write_series(path.parent / "series", voxels(GRID.shape), GRID))


def write_table(path: Path) -> None:
    write_scores(path, evaluate(prediction=LABELS, reference=LABELS))


def fill_store(path: Path) -> None:
    with filling_labels(path, GRID, {}, dtype="uint8") as array:
        array[:] = np.ones(GRID.shape, np.uint8)


def write_labels(path: Path) -> None:
    io.write(path, LABELS)


FILES: Mapping[str, tuple[Writer, tuple[str, ...]]] = {
    "a.nii.gz": (write_labels, ()),
    "a.nii": (write_labels, ()),
    "a.hdr": (write_labels, ("a.img",)),
    "A.HDR": (write_labels, ("A.IMG",)),
    "a.nrrd": (write_labels, ()),
    "a.nhdr": (write_labels, ("a.raw.gz",)),
    "a.mha": (write_labels, ()),
    "a.mhd": (write_labels, ("a.zraw",)),
    "a.dcm": (write_dicom, ()),
    "a.csv": (write_table, ()),
    "a.json": (write_table, ()),
    "a.tex": (write_table, ()),
    "a.html": (write_table, ()),
    "a.png": (lambda path: save_overview(path, IMAGE, LABELS), ()),
}
"""{file name: (what writes it, the files that lie beside it)}."""
STORES: Mapping[str, Writer] = {
    "image.zarr": lambda path: io.write(path, IMAGE),
    "labels.zarr": write_labels,
    "streamed.zarr": fill_store,
}


def content(folder: Path) -> dict[str, bytes | str]:
    """{path below a folder: the bytes of a file, where a link leads, or that it is a folder}."""
    return {str(path.relative_to(folder)): held(path) for path in sorted(folder.rglob("*"))}


def held(path: Path) -> bytes | str:
    if path.is_symlink():
        return os.readlink(path)
    return path.read_bytes() if path.is_file() else "folder"


def thesis(path: Path) -> Path:
    """A folder with something in it."""
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    return path


def refused(write: Writer, path: Path, message: str) -> None:
    """Check that nothing beside and at `path` has changed when a writer has refused."""
    before = content(path.parent)
    with pytest.raises(FileError, match=message) as told, warnings.catch_warnings():
        write(path)
    assert "\n" not in str(told.value)
    after = {name: what for name, what in content(path.parent).items() if not name.startswith("series")}
    assert after == before


PLACES = [(name, place) for name, (_, beside) in FILES.items() for place in (name, *beside)]


@pytest.mark.parametrize("is_link", [False, True], ids=["folder", "link"])
@pytest.mark.parametrize(("name", "place"), PLACES, ids=[f"{name}-{place}" for name, place in PLACES])
def test_a_file_never_replaces_a_folder(tmp_path: Path, name: str, place: str, is_link: bool) -> None:
    there = thesis(tmp_path / ("elsewhere" if is_link else place))
    if is_link:
        (tmp_path / place).symlink_to(there)
    what = "a link to a folder" if is_link else "a folder"
    refused(FILES[name][0], tmp_path / name, rf"{re.escape(place)}: {what} of this name is there: choose another name")


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    target.write_text("years of work")
    (tmp_path / name).symlink_to(target)
    FILES[name][0](tmp_path / name)
    assert target.read_text() == "years of work"
    assert not (tmp_path / name).is_symlink()


@pytest.mark.parametrize("name", STORES)
def test_a_store_of_ours_is_replaced(tmp_path: Path, name: str) -> None:
    STORES[name](tmp_path / name)
    (tmp_path / name / ".DS_Store").touch()
    STORES[name](tmp_path / name)
    assert not (tmp_path / name / ".DS_Store").exists()


def link_to_a_store(path: Path) -> None:
    ours = path.with_name(f"ours-{path.name}")
    STORES[path.name](ours)
    path.symlink_to(ours)


def store_with_notes(path: Path) -> None:
    STORES[path.name](path)
    thesis(path / "notes")


def store_of_another_kind(path: Path) -> None:
    (write_labels if path.name == "image.zarr" else STORES["image.zarr"])(path)


IN_THE_WAY: Mapping[str, tuple[Writer, str]] = {
    "file": (lambda path: path.write_text("years of work"), "cannot be written: a file is there"),
    "folder": (thesis, "this folder cannot be replaced: it was not written by napari-medseg"),
    "link_to_a_store": (link_to_a_store, r"a link is there: name what it leads to, .*ours-\w+\.zarr"),
    "link_to_nothing": (lambda path: path.symlink_to("nowhere"), "a link is there: name what it leads to"),
    "store_with_more_in_it": (store_with_notes, "it holds something else: notes: choose another name"),
    "store_of_another_kind": (store_of_another_kind, "cannot be replaced by the new .*: it holds something else"),
}
"""{what: (what makes it where a store should go, the message)}."""


@pytest.mark.parametrize(("make", "message"), IN_THE_WAY.values(), ids=IN_THE_WAY)
@pytest.mark.parametrize("name", STORES)
def test_what_is_no_store_of_ours_is_kept(tmp_path: Path, name: str, make: Writer, message: str) -> None:
    make(tmp_path / name)
    refused(STORES[name], tmp_path / name, rf"{name}: .*{message}")


def test_a_folder_is_not_replaced_by_a_model(tmp_path: Path, ball_model: Path) -> None:
    model = load_model(ball_model)
    state = model.load_network().state_dict()
    thesis(tmp_path / "a.safetensors")
    refused(lambda path: write_model(path, model.spec, state), tmp_path / "a.safetensors", "a folder of this name")


COMMANDS = {
    "evaluate": ("evaluate --prediction labels --reference labels -o {out}", "keep.html"),
    "convert": ("convert images/case0.nii.gz -o {out}", "keep.mha"),
    "train": ("train --images images --labels labels --epochs 1 -o {out}", "keep.safetensors"),
    "checkpoints": ("train --images images --labels labels --epochs 1 -o keep.safetensors", "keep.training"),
    "demo": ("demo --no-gui --out .", "labels.nii.gz"),
}


@pytest.mark.usefixtures("ball_images", "ball_labels")
@pytest.mark.parametrize(("command", "name"), COMMANDS.values(), ids=COMMANDS)
def test_commands_refuse_at_once(
    tmp_path: Path, command: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "keep.training":
        (tmp_path / name).write_text("years of work")
    else:
        thesis(tmp_path / name)
    before = content(tmp_path)
    assert main(command.format(out=name).split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"error: [^\n]*{re.escape(name)}: a f[^\n]* is there: [^\n]*another name[^\n]*\n", said.err)
    assert content(tmp_path) == before


def test_a_converted_model_does_not_replace_its_source(
    tmp_path: Path, ball_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import safetensors.torch

    source = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(load_model(ball_model).load_network().state_dict(), source)
    before = content(tmp_path)
    assert main(["convert", str(source), "-o", str(source), "--network", "unet3d"]) == 2
    assert "weights.safetensors: the output would replace its input: give another name" in capsys.readouterr().err
    assert content(tmp_path) == before
