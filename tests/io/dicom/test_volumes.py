"""What a user has in a folder of DICOM files: several volumes in a series, several series below a folder, copies."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_files import CANARY, image, voxels, write_enhanced, write_series
from grids import grid
from napari_medseg import io
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.io.choice import ChoiceError, PointError
from napari_medseg.io.dicom import header, volumes
from napari_medseg.io.dicom.format import list_series
from napari_medseg.volume import Segmentation

GRID = grid("SPL", shape=(4, 5, 6))
DATA = voxels(GRID.shape)
Tweak = Callable[[Dataset, int], None]


def repeated(folder: Path, count: int, tweak: Callable[[Dataset, int, int], None]) -> Path:
    """A series that holds `count` volumes, whose voxels are DATA + n. tweak: of a file, its volume and its slice."""
    path = folder / "series"
    for n in range(count):

        def change(dataset: Dataset, k: int, n: int = n) -> None:
            dataset.SOPInstanceUID = f"1.2.{n + 1}.{k + 1}"
            dataset.InstanceNumber = n * len(DATA) + k + 1
            tweak(dataset, n, k)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pydicom's, on writing what is wrong
            write_series(folder / f"part{n}", DATA + n, GRID, tweak=change)
        path.mkdir(exist_ok=True)
        for file in (folder / f"part{n}").iterdir():
            file.rename(path / f"{n}_{file.name}")
    return path


MARKS: dict[str, tuple[Callable[[Dataset, int, int], None], int, type[Exception], str]] = {
    "time": (lambda d, n, k: setattr(d, "TemporalPositionIdentifier", n + 9), 3, PointError, "time point 9"),
    "echo": (lambda d, n, _: setattr(d, "EchoTime", 5 * n + 5), 2, ChoiceError, r"echo time 5\.0"),
    "contrast": (lambda d, n, _: setattr(d, "ImageType", ["A", "B", "WF"[n]]), 2, ChoiceError, "kind .*F"),
    "diffusion": (lambda d, n, _: setattr(d, "DiffusionBValue", 1000.0 - 500 * n), 3, ChoiceError, r"b-value 0\.0"),
    "phase": (lambda d, n, _: setattr(d, "AcquisitionNumber", n + 1), 2, ChoiceError, "acquisition 1"),
    "two_marks": (
        lambda d, n, _: d.update({"EchoTime": 5 * (n // 2) + 5, "ImageType": ["A", "B", "MP"[n % 2]]}),
        4,
        ChoiceError,
        "echo time 5.0, kind",
    ),
    "per_slice": (
        lambda d, n, k: d.update({"AcquisitionNumber": 4 * n + k, "EchoTime": n + 1}),
        2,
        ChoiceError,
        "echo time 1",
    ),
    "instances": (lambda d, n, k: None, 3, PointError, "volume 1 of 3 by InstanceNumber"),
    "patient": (lambda d, n, _: setattr(d, "ImageType", ["A", f"{CANARY}^{n}"]), 2, ChoiceError, "kind 1 of 2"),
}


@pytest.mark.parametrize(("tweak", "count", "kind", "said"), MARKS.values(), ids=MARKS.keys())
def test_each_volume_of_a_series_can_be_chosen(
    tmp_path: Path, tweak: Callable[[Dataset, int, int], None], count: int, kind: type[Exception], said: str
) -> None:
    path = repeated(tmp_path, count, tweak)
    with pytest.raises(kind, match=f"{count} volumes in one series: name one as .*{said}") as told:
        io.read(path)
    assert CANARY not in str(told.value)
    ways = told.value.points if isinstance(told.value, PointError) else told.value.choices  # type: ignore[attr-defined]
    assert len(ways) == count
    read = [io.read(way).data[0] for way in ways]
    assert sorted(int((data - DATA)[0, 0, 0]) for data in read) == list(range(count))
    for data in read:
        assert np.ptp(data - DATA) == 0
    assert io.peek(ways[0]).grid.shape == GRID.shape
    with pytest.raises(InputError, match=rf"#[0-9a-f]{{6}}\.9 is none of {count} volumes"):
        io.read(f"{ways[0].rpartition('.')[0]}.9")


def test_time_points_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = repeated(tmp_path, 3, lambda d, n, _: setattr(d, "TemporalPositionIdentifier", (10, 9, 2)[n]))
    with pytest.raises(PointError) as told:
        io.read(path)
    assert [int((io.read(p).data[0] - DATA)[0, 0, 0]) for p in told.value.points] == [2, 1, 0]


def test_the_attributes_that_tell_volumes_apart_are_read() -> None:
    classic = {keywords[0] for _, keywords in volumes._MARKS} - {"StackID"}
    assert classic <= set(header.KEYWORDS)


def test_the_volumes_of_an_enhanced_file_can_be_chosen(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "all.dcm", np.concatenate([DATA, DATA + 1]), grid("SPL", shape=(8, 5, 6)))
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence  # the last slice first
    for number, frame in enumerate(reversed(frames)):
        echo = Dataset()
        echo.EffectiveEchoTime = 5.0 + number // 4
        frame.MREchoSequence = [echo]
        frame.PlanePositionSequence = frames[7 - number % 4].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(ChoiceError, match=r"2 volumes in one series: .*all\.dcm#0: #0 \(echo time 5\.0\), #1") as told:
        io.read(path)
    first, second = (io.read(way) for way in told.value.choices)
    assert np.array_equal(second.data[0], DATA + 1)
    assert np.array_equal(first.data[0], DATA)
    assert first.name == "all#0"


def test_a_scout_in_a_series_can_be_left_out(tmp_path: Path) -> None:
    def scout(dataset: Dataset, k: int) -> None:
        if k == 0:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    path = write_series(tmp_path / "series", DATA, GRID, tweak=scout)
    with pytest.raises(ChoiceError, match=r"orientations of slices differ.*\(3 slices of 5 x 6\).*\(1 slice") as told:
        io.read(path)
    with pytest.warns(MedsegWarning, match="3 of the 4 slices of its series"):
        read = io.read(told.value.choices[0])
    assert np.array_equal(read.data[0], DATA[1:])


def test_labels_are_saved_beside_one_volume_of_a_series(tmp_path: Path) -> None:
    path = repeated(tmp_path, 2, lambda d, n, _: setattr(d, "EchoTime", n + 1))
    with pytest.raises(ChoiceError) as told:
        io.read(path)
    source = told.value.choices[1]
    labels = Segmentation((DATA > 0).astype(np.uint8), io.read(source).grid, {1: "liver"})
    io.write(tmp_path / "out.dcm", labels, source=source)
    written = pydicom.dcmread(tmp_path / "out.dcm")
    (of_series,) = written.ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for i in of_series.ReferencedInstanceSequence} == {
        f"1.2.2.{k}" for k in range(1, 5)
    }


def test_a_part_of_one_volume_is_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path / "series", DATA, GRID)
    (found,) = list_series(path)
    for wrong in (f"{path}#{found.id}.0", f"{path / 'IM001.dcm'}#0"):
        with pytest.raises(InputError, match="chooses nothing: the series is one volume"):
            io.read(wrong)


def test_copies_are_named(tmp_path: Path) -> None:
    path = write_series(tmp_path / "series", DATA, GRID)
    shutil.copy(path / "IM002.dcm", path / "IM002 copy.dcm")
    with pytest.raises(FileError, match=r"1 files are copies .*IM002 copy\.dcm and IM002\.dcm.*: remove them"):
        io.read(path)


def nested(folder: Path, tweak: Tweak | None = None) -> Path:
    """A study on a disc: two series in folders of their own, and what lies beside them."""
    root = folder / "disc"
    write_series(root / "PAT 1" / "S1", DATA, GRID, tweak=tweak)
    write_series(root / "PAT 1" / "S2", DATA[:3], grid("SPL", shape=(3, 5, 6)), series="1.2.3")
    (root / "README.TXT").write_text("a viewer for another system")
    listing = image("1.2.840.10008.1.3.10", "1.2.4", 0)
    listing.save_as(root / "DICOMDIR", enforce_file_format=True)
    return root


def test_the_series_below_a_folder_are_offered(tmp_path: Path) -> None:
    root = nested(tmp_path)
    with pytest.raises(ChoiceError, match=r"2 series .*PAT 1/S[12]#[0-9a-f]{6}: PAT 1/S[12]#[0-9a-f]{6} CT") as told:
        io.read(root)
    assert {io.read(way).grid.shape[0] for way in told.value.choices} == {3, 4}
    assert {Path(way).parent for way in told.value.choices} == {root / "PAT 1"}
    for way in told.value.choices:
        same = io.read(f"{root}#{way.rpartition('#')[2]}")
        assert same.grid.affine.tolist() == io.read(way).grid.affine.tolist()


def test_the_only_series_below_a_folder_is_opened(tmp_path: Path) -> None:
    root = nested(tmp_path)
    shutil.rmtree(root / "PAT 1" / "S2")
    (root / "DICOMDIR").unlink()
    assert io.read(root).grid.shape == GRID.shape
    assert io.format_of(root).name == "DICOM"


def test_files_below_a_folder_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    root = nested(tmp_path)
    cut = root / "PAT 1" / "S2" / "IM001.dcm"
    cut.write_bytes(cut.read_bytes()[:300])
    with (
        pytest.warns(MedsegWarning, match=r"1 DICOM files below it cannot be read .*IM001\.dcm"),
        pytest.raises(ChoiceError, match="2 series"),
    ):
        io.read(root)


def test_each_header_below_a_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(path: Path, *args: Any) -> header.DicomHeader:
        seen.append(path.name)
        return header.read_header(path, *args)

    monkeypatch.setattr("napari_medseg.io.dicom.series.read_header", counted)
    list_series(nested(tmp_path))
    assert len(seen) == 4 + 3 + 1


def test_images_that_each_state_a_series_of_their_own_are_offered_as_one(tmp_path: Path) -> None:
    def own_series(dataset: Dataset, k: int) -> None:
        dataset.SeriesInstanceUID = f"1.2.3.{k}"

    path = write_series(tmp_path / "series", DATA, GRID, tweak=own_series)
    with pytest.raises(ChoiceError, match=r"4 images that each state a series of their own: .*series#all$") as told:
        io.read(path)
    (way,) = told.value.choices
    read = io.read(way)
    assert np.array_equal(read.data[0], DATA)


def test_addresses_and_archives_are_told_as_such(tmp_path: Path) -> None:
    for address in ("https://example.org/a.nii.gz", "s3://bucket/a.zarr", "gs://b/c", "file:///a/b.nii"):
        with pytest.raises(FileError, match=r"^[a-z0-9]+://[^/].*: addresses are not opened"):
            io.read(address)
    for name in ("series.zip", "a.tar.gz", "B.7Z"):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(FileError, match="an archive: unpack it"):
            io.read(tmp_path / name)
    with pytest.raises(FileError, match=r"no image in this folder.*; unpack B\.7Z first"):
        io.read(tmp_path)
