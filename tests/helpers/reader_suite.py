"""What every format must do: a test class inherits it and names its suffix."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grids import ORIENTATIONS, grid, grids, oblique
from napari_medseg import io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, InputError
from napari_medseg.geometry import FloatArray
from napari_medseg.io.disk import files
from napari_medseg.volume import MAX_LABEL, Grid, Segmentation, Volume

#: every subclass runs the same inherited function, which hypothesis would otherwise take for a mistake
inherited = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
)
LABELS = {1: "liver, left lobe", 7: "Lunge (größer)", MAX_LABEL: "the last"}
PROVENANCE = {"model sha256": "ab12", "overlap": 0.5, "versions": {"torch": "2.11"}}


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> npt.NDArray[Any]:
    """Values of a type over its range: fractions where it has them, the extremes of integers."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def sitk_affine(path: Path) -> tuple[FloatArray, npt.NDArray[Any]]:
    """What SimpleITK makes of a file: index (z, y, x) -> (S, P, L) by probing, and the array."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its SWIG wrappings are older than Python's rules
        import SimpleITK as sitk  # noqa: N813

        image = sitk.ReadImage(str(path))
        positions = [np.array(image.TransformIndexToPhysicalPoint(i)[::-1]) for i in _PROBES_XYZ]
        array = sitk.GetArrayFromImage(image)
    affine = np.eye(4)
    affine[:3, 3] = positions[0]
    affine[:3, :3] = np.stack([p - positions[0] for p in positions[:0:-1]], axis=1)
    return affine, array


_PROBES_XYZ = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))


def farthest_mm(one: Grid, other: Grid) -> float:
    """How far apart the corners of two grids lie."""
    return float(np.linalg.norm(one.corners - other.corners, axis=1).max())


# What hypothesis draws: grids of one voxel, and integers over their whole range.
@pytest.mark.filterwarnings("ignore:.*a single voxel", "ignore:.*beyond 2.53 lose digits")
class ReaderSuite:
    suffix: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")

    @inherited
    @given(drawn=grids, seed=st.integers(0, 99), data=st.data())
    def test_an_image_comes_back(self, folder: Path, drawn: Grid, seed: int, data: st.DataObject) -> None:
        dtype = data.draw(st.sampled_from(self.dtypes))
        image = Volume(noise((1, *drawn.shape), dtype, seed), drawn)
        path = folder / f"image{self.suffix}"
        io.write(path, image)
        read = io.read(path)
        assert np.asarray(read.data).dtype == np.dtype(dtype)
        assert np.array_equal(np.asarray(read.data), image.data[:])
        assert farthest_mm(read.grid, drawn) < 0.01
        assert read.name == "image"

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_every_orientation_comes_back(self, folder: Path, orientation: str) -> None:
        for made in (grid(orientation), oblique(orientation)):
            labels = np.arange(60, dtype=np.int32).reshape(made.shape) * 35_791_394
            path = folder / f"labels{self.suffix}"
            io.write(path, Segmentation(labels, made))
            read = io.read_segmentation(path)
            assert np.array_equal(np.asarray(read.data), labels)
            assert farthest_mm(read.grid, made) < 0.01
            assert read.grid.orientation == orientation

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", ">i4"])
    def test_labels_come_back_with_names_and_gaps(self, folder: Path, dtype: str) -> None:
        labels = np.zeros((3, 4, 5), dtype)
        labels[1, 2:, :3] = 1
        if np.dtype(dtype).itemsize > 1:
            labels[0, 0, 0], labels[2, 3, 4] = 7, MAX_LABEL
        path = folder / f"named{self.suffix}"
        io.write(path, Segmentation(labels, grid("SAR"), LABELS))
        read = io.read_segmentation(path)
        assert np.array_equal(np.asarray(read.data), labels)
        assert read.labels == LABELS
        assert np.asarray(read.data).dtype.itemsize <= 4

    def test_colours_come_back(self, folder: Path) -> None:
        path = folder / f"coloured{self.suffix}"
        colours = {1: (255, 0, 10), MAX_LABEL: (1, 2, 3)}
        io.write(path, Segmentation(np.zeros((3, 4, 5), np.uint8), grid("SAR"), LABELS, colours=colours))
        assert io.read_segmentation(path).colours == colours

    def test_channels_come_back(self, folder: Path) -> None:
        image = Volume(noise((3, 3, 4, 5), "int16"), grid("SAR"), ("T1", "T2", "FLAIR"))
        path = folder / f"channels{self.suffix}"
        io.write(path, image)
        read = io.read(path)
        assert np.array_equal(np.asarray(read.data), image.data[:])
        assert read.channels == ("T1", "T2", "FLAIR")
        with pytest.raises(InputError, match="labels have one channel; got 3"):
            io.read_segmentation(path)

    def test_writing_what_was_read_changes_nothing(self, folder: Path) -> None:
        first, second = folder / f"first{self.suffix}", folder / f"second{self.suffix}"
        io.write(first, Volume(noise((1, 3, 4, 5), "int16"), oblique("RSP")))
        once = io.read(first)
        io.write(second, once)
        twice = io.read(second)
        assert np.array_equal(np.asarray(once.data), np.asarray(twice.data))
        assert farthest_mm(once.grid, twice.grid) < 1e-4

    def test_an_outline_is_what_reading_finds(self, folder: Path) -> None:
        image, labels = folder / f"outlined{self.suffix}", folder / f"outlined labels{self.suffix}"
        io.write(image, Volume(noise((2, 3, 4, 5), "int16"), oblique("RSP"), ("T1", "T2"), provenance=PROVENANCE))
        io.write(labels, Segmentation(np.ones((3, 4, 5), np.uint8), grid("SAR"), LABELS, provenance=PROVENANCE))
        seen, read = io.peek(image), io.read(image)
        assert (seen.dtype, seen.channels, seen.is_labels) == (read.data.dtype, read.channels, False)
        assert np.array_equal(seen.grid.affine, read.grid.affine)
        assert (seen.grid.shape, seen.nbytes) == (read.grid.shape, np.asarray(read.data).nbytes)
        assert (seen.name, seen.provenance) == (read.name, read.provenance)
        with pytest.raises(InputError, match="labels have one channel; got 2"):
            io.peek(image, as_labels=True)
        of_labels, segmentation = io.peek(labels), io.read_segmentation(labels)
        assert (of_labels.dtype, of_labels.is_labels) == (segmentation.data.dtype, True)
        assert (of_labels.labels, of_labels.provenance) == (LABELS, PROVENANCE)

    def test_provenance_goes_with_what_was_read(self, folder: Path) -> None:
        first, second, third = (folder / f"{name}{self.suffix}" for name in ("first", "second", "third"))
        labels = Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"))
        for x in (Volume(noise((1, 3, 4, 5), "int16"), grid("SPL")), labels):
            io.write(first, x, provenance=PROVENANCE)
            read = io.load(first)
            assert read.provenance == PROVENANCE
            io.write(second, read)
            assert io.load(second).provenance == PROVENANCE
            io.write(third, read, provenance={"model sha256": "cd"})  # the keyword wins
            assert io.load(third).provenance == {"model sha256": "cd"}
            for path in (first, second, third):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_provenance_is_kept_and_told(self, folder: Path) -> None:
        path = folder / f"made{self.suffix}"
        labels = np.ones((3, 4, 5), np.uint8)
        labels[0] = 0
        io.write(path, Segmentation(labels, grid("SPL"), {1: "liver"}), provenance=PROVENANCE)
        assert io.read_segmentation(path).provenance == PROVENANCE
        assert {"provenance, model sha256: ab12", "  1  liver  40 voxels"} <= set(describe(path, labels=True))

    def test_labels_say_that_they_are_labels(self, folder: Path) -> None:
        path = folder / f"kind{self.suffix}"
        io.write(path, Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL")))
        assert isinstance(io.load(path), Segmentation)
        io.write(folder / f"other{self.suffix}", Volume(np.ones((1, 3, 4, 5), np.uint8), grid("SPL")))
        assert isinstance(io.load(folder / f"other{self.suffix}"), Volume)

    def test_a_missing_file_is_named(self, folder: Path) -> None:
        path = folder / f"absent{self.suffix}"
        with pytest.raises(FileError, match=f"no such file: .*absent{self.suffix}"):
            io.read(path)
        path.symlink_to(folder / "nothing")
        with pytest.raises(FileError, match="a link to nothing"):
            io.read(path)

    def test_text_is_not_an_image(self, folder: Path) -> None:
        path = folder / f"text{self.suffix}"
        path.write_text("This is no image, whatever its name says.\n" * 20)
        with pytest.raises(FileError, match=rf"text{self.suffix}: (not an? |an OME-Zarr is a folder)"):
            io.read(path)

    def test_a_failed_write_leaves_the_old_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder / f"kept{self.suffix}"
        old = Volume(noise((1, 3, 4, 5), "int16"), grid("SPL"))
        io.write(path, old)
        before = sorted(folder.iterdir())

        def no_space(_: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "_flush", no_space)
        with pytest.raises(FileError, match=f"kept{self.suffix}: cannot be written: No space left on device"):
            io.write(path, Volume(noise((1, 3, 4, 5), "int16", seed=1), grid("SPL")))
        assert sorted(folder.iterdir()) == before
        assert np.array_equal(np.asarray(io.read(path).data), old.data[:])

    def test_an_absent_folder_is_named(self, folder: Path) -> None:
        with pytest.raises(FileError, match=r"cannot be written: no such folder: .*nowhere"):
            io.write(folder / "nowhere" / f"a{self.suffix}", Volume(noise((1, 3, 4, 5), "int16"), grid("SPL")))


class FileReaderSuite(ReaderSuite):
    """The formats that are one file."""

    def test_an_empty_file_is_told(self, folder: Path) -> None:
        path = folder / f"empty{self.suffix}"
        path.touch()
        with pytest.raises(FileError, match=r"the file is empty \(0 bytes\)"):
            io.read(path)

    def test_a_named_pipe_is_refused_at_once(self, folder: Path) -> None:
        path = folder / f"pipe{self.suffix}"
        os.mkfifo(path)
        with pytest.raises(FileError, match="not a regular file but a named pipe"):
            io.read(path)

    def test_an_upper_case_suffix_is_the_same(self, folder: Path) -> None:
        image = Volume(noise((1, 3, 4, 5), "int16"), grid("SPL"))
        io.write(folder / f"UPPER{self.suffix.upper()}", image)
        read = io.read(folder / f"UPPER{self.suffix.upper()}")
        assert np.array_equal(read.data[:], image.data[:])
        assert read.name == "UPPER"

    @pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
    def test_a_cut_file_is_refused(self, folder: Path, kept: float) -> None:
        whole = folder / f"whole{self.suffix}"
        io.write(whole, Volume(noise((1, 13, 14, 15), "int16"), grid("SPL", (13, 14, 15))))
        content = whole.read_bytes()
        path = folder / f"cut{self.suffix}"
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(FileError, match=f"cut{self.suffix}: .*(cut short|truncated|end early|damaged|expected)"):
            io.read(path)

    @inherited
    @given(drawn=grids)
    def test_simpleitk_puts_it_in_the_same_place(self, folder: Path, drawn: Grid) -> None:
        path = folder / f"place{self.suffix}"
        image = Volume(noise((1, *drawn.shape), "int16"), drawn)
        io.write(path, image)
        affine, array = sitk_affine(path)
        assert np.array_equal(array, image.data[0])
        assert farthest_mm(Grid(drawn.shape, affine), drawn) < 0.01


class DetachedReaderSuite(FileReaderSuite):
    """The formats whose voxels lie in a file beside the header."""

    @pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
    def test_a_cut_file_is_refused(self, folder: Path, kept: float) -> None:
        place = folder / f"cut to {kept}"
        place.mkdir()
        header = place / f"whole{self.suffix}"
        io.write(header, Volume(noise((1, 13, 14, 15), "int16"), grid("SPL", (13, 14, 15))))
        (voxels,) = set(place.iterdir()) - {header}
        voxels.write_bytes(voxels.read_bytes()[: int(voxels.stat().st_size * kept)])
        with pytest.raises(FileError, match=r"whole\..*(cut short|truncated|end early|damaged|expected)"):
            io.read(header)
