"""A disk that runs full: one line with what is needed and what is free, the old file as it was, nothing beside it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_files import voxels, write_series
from napari_medseg import Grid, Segmentation, evaluate, io
from napari_medseg.cli import main
from napari_medseg.errors import FileError
from napari_medseg.foreign import convert_model
from napari_medseg.io.disk.files import os_errors_as_file_errors
from napari_medseg.io.zarr.format import filling_labels
from napari_medseg.metrics.reports.exports import write_scores
from napari_medseg.metrics.study.tables import scores_table
from napari_medseg.models.file import load_model, write_model
from napari_medseg.training.saving.checkpoint import Checkpoints

GRID = Grid.from_spacing((32, 64, 64), (1.0, 1.0, 1.0))
SMALL = Segmentation(np.full(GRID.shape, 7, np.uint8), GRID, {7: "old"})
NOISE = Segmentation(np.random.default_rng(0).integers(1, 2**16 - 1, GRID.shape, np.uint16), GRID)
"""256 KiB that do not compress, in ids that DICOM holds."""
IMAGES = ("nii", "nii.gz", "hdr", "nrrd", "nhdr", "mha", "mhd", "zarr")


def fill(disk: Path, leave_bytes: int) -> None:
    with (disk / "filler").open("wb") as file:
        status = os.statvfs(disk)
        file.write(bytes(status.f_bavail * status.f_frsize - leave_bytes))


def contents(disk: Path) -> dict[str, bytes]:
    return {str(path.relative_to(disk)): path.read_bytes() for path in sorted(disk.rglob("*")) if path.is_file()}


def check(disk: Path, name: str, write: Callable[[], object], needed: str) -> None:
    """Fill the disk but for 64 KiB: the next write is refused and changes nothing."""
    fill(disk, 64 << 10)
    before = contents(disk)
    message = rf"{name}: cannot be written: No space left on device: it needs {needed} bytes, and 6\d{{4}} are free in "
    with pytest.raises(FileError, match=message + rf"{disk}\S*: make room, or choose another folder$"):
        write()
    assert contents(disk) == before


@pytest.mark.parametrize("suffix", IMAGES)
def test_labels(small_disk: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = small_disk / f"a.{suffix}"
    io.write(path, SMALL)
    check(small_disk, path.name, lambda: io.write(path, NOISE), "about 262144")
    assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [7]
    assert capfd.readouterr().err == "", "no library adds a word of its own"


@pytest.mark.parametrize("suffix", ["nrrd", "mhd"])
@pytest.mark.parametrize("pages", [-1, 0, 1])
def test_the_last_bytes_find_no_room(small_disk: Path, tmp_path: Path, suffix: str, pages: int) -> None:
    io.write(tmp_path / f"a.{suffix}", NOISE)
    size = sum(path.stat().st_size for path in tmp_path.glob("a.*"))
    fill(small_disk, (size // 4096 + pages) * 4096)
    told = ""
    try:
        io.write(small_disk / f"a.{suffix}", NOISE)
    except FileError as error:
        told = str(error)
    if told:
        assert "No space left on device" in told
        assert list(contents(small_disk)) == ["filler"]
    else:
        assert np.array_equal(np.asarray(io.read_segmentation(small_disk / f"a.{suffix}").data), NOISE.data[:])


def test_a_dicom_segmentation(small_disk: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", voxels(GRID.shape), GRID)
    path = small_disk / "a.dcm"
    io.write(path, SMALL, source=series)
    noise = Segmentation(NOISE.data[:] % 100, GRID)
    check(small_disk, "a.dcm", lambda: io.write(path, noise, source=series), r"about 17\d{4}")
    assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [7]


@pytest.mark.parametrize("before", ["complete", "nothing"])
def test_labels_that_are_filled_window_by_window(small_disk: Path, before: str) -> None:
    path = small_disk / "a.zarr"
    if before == "complete":
        io.write(path, SMALL)

    def write() -> None:
        with filling_labels(path, GRID, {}, dtype="uint16", chunks=(8, 64, 64)) as array:
            for z in range(0, 32, 8):
                array[z : z + 8] = NOISE.data[z : z + 8]

    check(small_disk, "a.zarr", write, "about 262144")
    if before == "complete":
        assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [7]


def test_what_is_still_written_behind_the_error_is_removed_too(tmp_path: Path) -> None:
    place = tmp_path / "a.zarr"
    (place / "c").mkdir(parents=True)
    failed = threading.Event()

    def go_on() -> None:
        failed.wait()
        for number in range(20):
            (place / "c").mkdir(parents=True, exist_ok=True)
            (place / f"c/{number}").write_bytes(b"chunk")
            time.sleep(0.01)

    writer = threading.Thread(target=go_on)
    writer.start()

    def fail() -> None:
        with os_errors_as_file_errors(place, place):
            failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FileError, match="No space left"):
        fail()
    writer.join()
    assert not place.exists()


def test_a_model_and_a_checkpoint(small_disk: Path, ball_model: Path) -> None:
    model = load_model(ball_model)
    weights = model.load_network().state_dict()
    path = small_disk / "a.safetensors"
    old = write_model(path, model.spec, weights)
    keeper = Checkpoints(path)
    keeper.write_last(model.spec, weights)
    longer = dataclasses.replace(model.spec, description="x" * 4000)
    fill(small_disk, 8 << 10)
    before = contents(small_disk)
    for write in (lambda: write_model(path, longer, weights), lambda: keeper.write_last(longer, weights)):
        with pytest.raises(
            FileError, match=r"(a|last)\.safetensors: cannot be written: .*about \d{5} bytes, and \d+ are free"
        ):
            write()
    assert contents(small_disk) == before
    assert load_model(path) == old


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_scores(small_disk: Path, suffix: str) -> None:
    scores = evaluate(prediction=SMALL, reference=SMALL)
    many = dataclasses.replace(scores, rows=scores.rows * 4000)
    path = small_disk / f"a.{suffix}"
    (scores.to_csv if suffix == "csv" else scores.to_json)(path)
    check(small_disk, path.name, lambda: (many.to_csv if suffix == "csv" else many.to_json)(path), r"about \d{6,}")


def test_scores_whose_second_table_has_no_room(small_disk: Path) -> None:
    scores = evaluate(prediction=SMALL, reference=SMALL)
    path, second = small_disk / "a.csv", dataclasses.replace(scores_table(scores), name="compared")
    write_scores(path, scores, [second])
    twice = dataclasses.replace(scores, rows=scores.rows * 2)
    many = dataclasses.replace(second, rows=[*second.rows] * 4000)
    fill(small_disk, 64 << 10)
    before = contents(small_disk)
    with pytest.raises(
        FileError, match=r"a_compared\.csv: cannot be written: .*it needs about \d{6,} bytes, and \d+ are"
    ):
        write_scores(path, twice, [many])
    assert contents(small_disk) == before


def test_the_command_line_says_it_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    io.write(tmp_path / "noise.nii", NOISE)
    fill(small_disk, 64 << 10)
    arguments = ["convert", str(tmp_path / "noise.nii"), "-o", str(small_disk / "a.zarr")]
    command = [sys.executable, "-m", "napari_medseg.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"error: {small_disk / 'a.zarr'}: cannot be written: No space left on device" in done.stderr
    assert list(contents(small_disk)) == ["filler"]


def test_a_segmentation_that_is_streamed(
    small_disk: Path, ball_images: Path, ball_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk, 4 << 10)
    out = small_disk / "new" / "a.zarr"
    assert main(["segment", str(ball_images / "case0.nii.gz"), "--model", str(ball_model), "-o", str(out)]) == 2
    assert "a.zarr: cannot be written: No space left on device" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == [small_disk / "filler"]


LIMITED = """
import json, resource, sys
from pathlib import Path
import numpy as np
from napari_medseg import Grid, Segmentation, write
from napari_medseg.errors import FileError
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
data = np.random.default_rng(0).integers(0, 2**16 - 1, (32, 64, 64), np.uint16)
said = {}
for name in sys.argv[2:]:
    try:
        write(Path(sys.argv[1]) / name, Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0))))
    except FileError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit what a file takes")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    names = ["a.nii", "a.nii.gz", "a.hdr", "a.zarr"]
    command = [sys.executable, "-c", LIMITED, str(tmp_path), *names]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(said) == names
    assert all(f"{name}: cannot be written: File too large: it needs about " in said[name] for name in names)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_unpacked(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "configs/metadata.json": b"{}",
        "configs/inference.json": b"{}",
        "models/model.pt": NOISE.data[:].tobytes(),
    }
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"bundle/{name}", content)
    fill(small_disk, 64 << 10)
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(
        FileError, match=r"model\.pt: cannot be written: No space left on device: it needs about 262144"
    ):
        convert_model(tmp_path / "bundle.zip", tmp_path / "m.safetensors")
    assert list(contents(small_disk)) == ["filler"]
