"""One writer for one target; what killed writers leave behind blocks no one and is cleared away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from grids import grid
from napari_medseg import io
from napari_medseg.errors import FileError
from napari_medseg.io.disk import files, locks
from napari_medseg.io.disk.locks import locked
from napari_medseg.volume import Segmentation
from processes import started

HOLD = """
import sys
from pathlib import Path
from napari_medseg.io.disk.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Inside, another process holds the lock."""
    with started(HOLD, path) as process:
        yield process


def attempt(path: Path, *, whole_process: bool = False) -> None:
    with locked(path, whole_process=whole_process):
        pass


def test_another_process_is_named_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "Labels.nii.gz"
    with held(path) as process:
        for name in ("Labels.nii.gz", "labels.nii.gz"):  # the same file on many disks
            with pytest.raises(FileError, match=rf"abels\.nii\.gz: process {process.pid} is writing it: wait until"):
                attempt(tmp_path / name)
        with pytest.raises(FileError, match=f"process {process.pid} is writing it"):
            io.write(path, Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL")))
        attempt(tmp_path / "other.nii.gz")
        process.communicate("")
    attempt(path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_blocks_no_one(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    with held(path) as process:
        process.kill()
        process.wait()
        assert [left.name for left in tmp_path.iterdir()] == [".a.nii.lock"]
    attempt(path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_within_itself_is_granted(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    with locked(path), ThreadPoolExecutor(1) as other_thread:
        attempt(path)
        other_thread.submit(attempt, path, whole_process=True).result()
        with pytest.raises(FileError, match=f"process {os.getpid()} is writing it"):
            other_thread.submit(attempt, path).result()
    assert list(tmp_path.iterdir()) == []


def test_a_fault_inside_ends_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="inside"), locked(tmp_path / "a.nii"):
        raise ZeroDivisionError("inside")
    assert list(tmp_path.iterdir()) == []


def failing_lock(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows always has locks")
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=os.strerror)
def test_a_disk_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    failing_lock(error, monkeypatch)
    attempt(tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such call")
def test_a_lock_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_lock(errno.EIO, monkeypatch)
    with pytest.raises(FileError, match=r"a\.nii: cannot be written: Input/output error"):
        attempt(tmp_path / "a.nii")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / ".a.nii.lock").symlink_to("thesis.txt")
    with pytest.raises(FileError, match=r"a\.nii: cannot be written"):
        attempt(tmp_path / "a.nii")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_only_the_leavings_of_this_target_are_cleared(tmp_path: Path) -> None:
    mine, others = locks.temporary_beside(tmp_path / "a.zarr"), locks.temporary_beside(tmp_path / "ba.zarr")
    for folder in (mine, others):
        folder.mkdir()
        (folder / "zarr.json").write_text("{}")
    attempt(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == [others]


@pytest.mark.parametrize("placed", [False, True], ids=["before the new one was in place", "after it"])
def test_an_old_folder_that_stepped_aside_comes_back(tmp_path: Path, placed: bool) -> None:
    path = tmp_path / "a.zarr"
    aside = locks.aside(locks.temporary_beside(path))
    for folder, text in ((aside, "old"), (path, "new")) if placed else ((aside, "old"),):
        folder.mkdir()
        (folder / "text").write_text(text)
    attempt(path)
    assert (path / "text").read_text() == ("new" if placed else "old")
    assert list(tmp_path.iterdir()) == [path]


WRITE = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
from napari_medseg import Grid, Segmentation, write
from napari_medseg.io.disk.files import size_of
path = Path(sys.argv[1])

def stop_half_way(event, arguments):
    if event != "open" or ".medseg-" not in str(arguments[0]):
        return
    with suppress(FileNotFoundError):  # zarr renames files meanwhile
        if any(map(size_of, path.parent.glob(".medseg-*"))):
            print("writing", flush=True)
            sys.stdin.read()

sys.addaudithook(stop_half_way)
data = np.arange(40**3, dtype=np.int32).reshape(40, 40, 40)
write(path, Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0))))
"""
"""Writes labels, and waits as soon as a file of theirs holds bytes and is opened again, or the next file is."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not kill so")
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.hdr", "a.zarr"])
def test_killed_while_it_writes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    old = Segmentation(np.full((3, 4, 5), 7, np.uint8), grid("SPL"))
    io.write(path, old)
    entries = {p.name for p in tmp_path.iterdir()}
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with started(WRITE, path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert any(files.size_of(left) for left in tmp_path.glob(".medseg-*"))
    assert {p: p.read_bytes() for p in before} == before
    assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [7]
    left = {p.name for p in tmp_path.iterdir()} - entries
    assert {name.split("-")[0] for name in left} == {f".{path.name}.lock", ".medseg"}
    for metadata in tmp_path.glob(".medseg-*/zarr.json"):
        assert '"complete": false' in metadata.read_text()
    io.write(path, old)
    assert {p.name for p in tmp_path.iterdir()} == entries


LONGEST = 255
"""Bytes of a name on most file systems."""


@pytest.mark.parametrize("letter", ["a", "B", "肝", "."])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".hdr", ".zarr", ".mhd"])
def test_a_name_as_long_as_the_system_takes(tmp_path: Path, suffix: str, letter: str) -> None:
    room = LONGEST - len(suffix) - (suffix == ".mhd")  # beside it lies a .zraw
    path = tmp_path / (letter * (room // len(letter.encode())) + suffix)
    labels = Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"), {1: "liver"})
    for _ in range(2):
        io.write(path, labels)
        assert io.read_segmentation(path).labels == {1: "liver"}
    assert all(not left.name.startswith((".medseg", f".{path.name.lower()}")) for left in tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".hdr", ".zarr"])
def test_a_longer_name_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("肝" * 90 + suffix)
    with pytest.raises(FileError, match=r"cannot be written: File name too long"):
        io.write(path, Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL")))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_of_a_long_name_left_is_cleared(tmp_path: Path) -> None:
    one, other = (tmp_path / ("x" * 150 + f"{number}.nii.gz") for number in (1, 2))
    mine, others = locks.temporary_beside(one), locks.temporary_beside(other)
    assert mine.name.endswith(".nii.gz")
    for left in (mine, others):
        left.write_bytes(b"half")
    attempt(one)
    assert list(tmp_path.iterdir()) == [others]
