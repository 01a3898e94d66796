"""DICOM series lie where their planes say, or are refused with the reason; no text of a patient comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from dicom_files import CANARY, set_pixels, voxels, write_enhanced, write_series
from grids import ORIENTATIONS, grid, grids
from napari_medseg import io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import AxisOrder
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.dicom.format import list_series
from napari_medseg.volume import Grid, Volume
from reader_suite import farthest_mm

GRID = grid("SPL", shape=(4, 5, 6))
DATA = voxels(GRID.shape)


def series(folder: Path, tweak: Callable[[Dataset, int], None] | None = None) -> Path:
    return write_series(folder / "series", DATA, GRID, tweak=tweak)


def same_up_to_order(read: Volume, data: npt.NDArray[Any], where: Grid) -> bool:
    """The same voxels in the same places; a series' slices always run along their normal."""
    order = AxisOrder.between(where.orientation, read.grid.orientation)
    assert farthest_mm(read.grid, where.reordered(order)) < 0.01
    return np.array_equal(read.data[0], order.apply(data))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=grids.filter(lambda g: g.shape[0] > 1), seed=st.integers(0, 99))
def test_a_series_comes_back_in_its_place(tmp_path_factory: pytest.TempPathFactory, drawn: Grid, seed: int) -> None:
    data = voxels(drawn.shape, seed)
    path = write_series(tmp_path_factory.mktemp("dicom"), data, drawn)
    assert same_up_to_order(io.read(path), data, drawn)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation(tmp_path: Path, orientation: str) -> None:
    oblique = grid(orientation, angles_rad=(0.2, -0.15, 0.1))
    data = voxels(oblique.shape)
    assert same_up_to_order(io.read(write_series(tmp_path, data, oblique)), data, oblique)


def test_an_enhanced_file_is_a_volume(tmp_path: Path) -> None:
    read = io.read(write_enhanced(tmp_path / "all.dcm", DATA, GRID))
    assert same_up_to_order(read, DATA, GRID)
    assert read.name == "all"


def test_one_file_is_one_slice(tmp_path: Path) -> None:
    read = io.read(series(tmp_path) / "IM004.dcm")
    assert np.array_equal(read.data[0], DATA[:1])
    assert read.grid.spacing == pytest.approx(GRID.spacing)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=["rle", "jpeg2000"])
def test_compressed_pixels_are_decoded(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    larger = grid("SPL", shape=(2, 40, 48))
    data = voxels(larger.shape)
    path = write_series(
        tmp_path, data, larger, tweak=lambda dataset, _: dataset.compress(syntax, generate_instance_uid=False)
    )
    assert np.array_equal(io.read(path).data[0], data)


@pytest.mark.parametrize("compress", [False, True], ids=["native", "rle"])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (12, 13), (16, 15), (9, 9)])
def test_a_value_is_the_stored_bits_of_its_word(
    tmp_path: Path, stored: int, high: int, signed: bool, compress: bool
) -> None:
    low, end = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    expected = np.random.default_rng(0).integers(low, end, GRID.shape)
    others = np.random.default_rng(1).integers(0, 1 << 16, GRID.shape) & ~((1 << stored) - 1 << high + 1 - stored)
    words = (((expected & (1 << stored) - 1) << high + 1 - stored) | others & 0xFFFF).astype(np.uint16)

    def set_bits(dataset: Dataset, k: int) -> None:
        set_pixels(dataset, words[k])
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored, high, int(signed)
        if compress:
            dataset.compress(RLELossless, generate_instance_uid=False)

    assert np.array_equal(io.read(series(tmp_path, set_bits)).data[0], expected)


def bare(folder: Path, *, keep_meta: bool, syntax: pydicom.uid.UID) -> Path:
    """A series whose files have no mark, nor, if so, the file meta information."""

    def change(dataset: Dataset, k: int) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax

    path = series(folder, change)
    for number, file in enumerate(path.iterdir()):
        content = file.read_bytes()
        meta = int.from_bytes(content[140:144], "little")
        file.write_bytes(content[132 if keep_meta else 144 + meta :])
        file.rename(path / f"{number}")
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
@pytest.mark.parametrize("keep_meta", [True, False], ids=["meta", "no_meta"])
def test_files_without_the_mark_are_read(tmp_path: Path, keep_meta: bool, syntax: pydicom.uid.UID) -> None:
    path = bare(tmp_path, keep_meta=keep_meta, syntax=syntax)
    assert same_up_to_order(io.read(path), DATA, GRID)
    assert io.read(path / "0").grid.shape == (1, 5, 6)


def test_a_dicomdir_and_junk_beside_the_images_are_passed_over(tmp_path: Path) -> None:
    path = series(tmp_path)
    listing = pydicom.dcmread(path / "IM001.dcm")
    for keyword in ("PixelData", "SOPClassUID", "SeriesInstanceUID"):
        listing.pop(keyword)
    listing.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    listing.save_as(path / "DICOMDIR")
    (path / "._IM001.dcm").write_bytes(bytes(200))
    for name in ("Thumbs.db", "LOCKFILE.txt", "autorun.inf"):
        (path / name).write_bytes(b"")
    assert same_up_to_order(io.read(path), DATA, GRID)
    with pytest.raises(FileError, match="a DICOMDIR, which only lists the images beside and below it"):
        io.read(path / "DICOMDIR")


def test_a_file_that_states_no_transfer_syntax_is_read(tmp_path: Path) -> None:
    path = series(tmp_path)
    for file in path.iterdir():
        content = file.read_bytes()
        at = content.index(b"\x02\0\x10\0UI")
        length = int.from_bytes(content[at + 6 : at + 8], "little")
        whole = int.from_bytes(content[140:144], "little") - 8 - length
        file.write_bytes(content[:140] + whole.to_bytes(4, "little") + content[144:at] + content[at + 8 + length :])
    assert same_up_to_order(io.read(path), DATA, GRID)


def test_images_without_a_series_are_one_series(tmp_path: Path) -> None:
    path = series(tmp_path, lambda dataset, _: setattr(dataset, "SeriesInstanceUID", ""))
    assert same_up_to_order(io.read(path), DATA, GRID)


def test_baseline_jpeg_is_decoded(tmp_path: Path) -> None:
    def compress(dataset: Dataset, _: int) -> None:
        picture = BytesIO()
        Image.fromarray(smooth).save(picture, "JPEG", quality=100)
        set_pixels(dataset, smooth)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([picture.getvalue()])
        dataset["PixelData"].VR = "OB"

    smooth = np.add.outer(np.arange(0, 80, 2), np.arange(48)).astype(np.uint8)
    path = write_series(tmp_path, voxels((2, 40, 48)), grid("SPL", shape=(2, 40, 48)), tweak=compress)
    np.testing.assert_allclose(io.read(path).data[0], [smooth, smooth], atol=3)


@pytest.mark.parametrize("process", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1"])
def test_lossless_jpeg_is_decoded(tmp_path: Path, process: str) -> None:
    gdcm: Any = pytest.importorskip("gdcm", reason="GDCM, the decoder of JPEG Lossless, is not installed")
    path = write_series(tmp_path, voxels((2, 40, 48)), grid("SPL", shape=(2, 40, 48)))
    for file in path.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, process)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(file))
        assert writer.Write()
        assert "JPEG Lossless" in pydicom.dcmread(file).file_meta.TransferSyntaxUID.name
    assert np.array_equal(io.read(path).data[0], voxels((2, 40, 48)))


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compress(dataset: Dataset, _: int) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1

    monkeypatch.setattr(Decoder, "is_available", False)
    with pytest.raises(NotSupportedError, match=r"JPEG Lossless.*pip install python-gdcm"):
        io.read(series(tmp_path, compress))


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int16"), (3, 0, "int16"), (100, 0, "int32"), (0.5, 1, "float32")],
    ids=["ct", "whole", "wide", "fraction"],
)
def test_values_are_rescaled(tmp_path: Path, slope: float, intercept: float, dtype: str) -> None:
    def scale(dataset: Dataset, _: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept

    read = io.read(series(tmp_path, scale))
    assert read.data.dtype == dtype
    np.testing.assert_allclose(read.data[0], DATA.astype(float) * slope + intercept)


@pytest.mark.parametrize(("slope", "dtype"), [(1, "int16"), (100, "int32"), (0.5, "float32")])
def test_an_outline_of_a_series_needs_headers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slope: float, dtype: str
) -> None:
    folder = series(tmp_path, lambda dataset, _: setattr(dataset, "RescaleSlope", slope))
    read = io.read(folder)
    monkeypatch.setattr("napari_medseg.io.dicom.decoder.decode", refuse)
    seen = io.peek(folder)
    assert (seen.dtype, seen.channels, seen.is_labels) == (np.dtype(dtype), read.channels, False)
    assert (seen.grid.shape, seen.grid.affine.tolist()) == (read.grid.shape, read.grid.affine.tolist())
    with pytest.raises(AssertionError, match="a pixel is decoded"):
        io.read(folder)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a pixel is decoded")


def mapping(slope: float | None, intercept: float = 0.0) -> Dataset:
    """Stored values to real world ones: by a line, or by a table without a slope."""
    item = Dataset()
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = -1000, 2000
    if slope is None:
        item.RealWorldValueLUTData = [0.0] * 3001
    else:
        item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    return item


@pytest.mark.parametrize(
    ("fields", "slope", "intercept", "warning"),
    [
        ({"RealWorldValueMappingSequence": [mapping(0.25, 3)]}, 0.25, 3, None),
        ({"RealWorldValueMappingSequence": [mapping(2, 1), mapping(2, 1)]}, 2, 1, None),
        ({"RealWorldValueMappingSequence": [mapping(9)], "RescaleSlope": 2}, 2, 0, None),
        ({"RealWorldValueMappingSequence": [mapping(9)], "RescaleIntercept": -4}, 1, -4, None),
        ({"RealWorldValueMappingSequence": [mapping(2), mapping(3)]}, 1, 0, "several mappings to real world values"),
        ({"RealWorldValueMappingSequence": [mapping(2), mapping(None)]}, 1, 0, "several mappings"),
        ({"RealWorldValueMappingSequence": [mapping(None)]}, 1, 0, "a mapping by a table to real world values"),
        ({"DoseGridScaling": "0.001"}, 0.001, 0, None),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, 1, 0, "a dose that states no DoseGridScaling"),
        ({"AnatomicalOrientationType": "QUADRUPED"}, 1, 0, "an animal on four feet"),
        ({"RescaleSlope": 0, "RescaleIntercept": -4}, 1, 0, "RescaleSlope is 0: the values are kept as stored"),
        ({"DoseGridScaling": 0}, 1, 0, "DoseGridScaling is 0"),
        ({"RealWorldValueMappingSequence": [mapping(0, 3)]}, 1, 0, "RealWorldValueSlope is 0"),
    ],
    ids=[
        *("line", "same", "slope", "intercept", "several", "mixed", "table", "dose", "no_scaling", "animal"),
        *("slope_0", "dose_0", "line_0"),
    ],
)
def test_every_rule_for_the_values_is_followed_or_told(
    tmp_path: Path, fields: dict[str, Any], slope: float, intercept: float, warning: str | None
) -> None:
    path = series(tmp_path, lambda dataset, _: dataset.update(fields))
    with pytest.warns(MedsegWarning, match=warning) if warning else nullcontext():
        read = io.read(path)
    np.testing.assert_allclose(read.data[0], DATA * slope + intercept, rtol=1e-6)


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("Units", ("BQML", "CNTS"), "different units"),
        ("RescaleType", ("HU", "US"), "different units .RescaleType."),
        ("FrameOfReferenceUID", ("1.2.1", "1.2.2"), "different frames of reference"),
    ],
)
def test_slices_that_cannot_be_compared_are_told(
    tmp_path: Path, keyword: str, values: tuple[str, str], said: str
) -> None:
    path = series(tmp_path, lambda dataset, k: setattr(dataset, keyword, values[k == 0]))
    with pytest.warns(MedsegWarning, match=said):
        io.read(path)


@pytest.mark.parametrize(("sign", "start"), [(1, 0), (-1, 0), (1, 9), (-1, 9), (1, 5)])
def test_the_frames_of_a_dose_lie_at_their_offsets(tmp_path: Path, sign: int, start: int) -> None:
    dose = pydicom.dcmread(series(tmp_path) / "IM004.dcm")
    dose.NumberOfFrames, dose.DoseGridScaling = 4, 0.5
    dose.ImageOrientationPatient, dose.ImagePositionPatient = [1, 0, 0, 0, sign, 0], [7, 8, 9]
    dose.GridFrameOffsetVector = [2.5 * k + start for k in range(4)]
    set_pixels(dose, DATA)
    dose.save_as(tmp_path / "dose.dcm")
    if (sign, start) in ((-1, 9), (1, 5)):
        with pytest.raises(FileError, match=f"offsets of its frames .* begin at {start}"):
            io.read(tmp_path / "dose.dcm")
        return
    read = io.read(tmp_path / "dose.dcm")
    np.testing.assert_allclose(read.data[0], DATA * 0.5)
    assert read.grid.orientation == ("SPL" if sign == 1 else "IAL")
    assert read.grid.spacing[0] == pytest.approx(2.5)
    np.testing.assert_allclose(read.grid.origin, (9, 8, 7))


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    read = io.read(series(tmp_path, lambda dataset, k: setattr(dataset, "RescaleSlope", k + 1)))
    np.testing.assert_array_equal(read.data[0], DATA * np.arange(1, 5)[:, None, None])


def test_inverted_images_are_told(tmp_path: Path) -> None:
    path = series(tmp_path, lambda dataset, _: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    with pytest.warns(MedsegWarning, match="MONOCHROME1"):
        assert np.array_equal(io.read(path).data[0], DATA)


def test_a_tilted_series_is_resampled(tmp_path: Path) -> None:
    def tilt(dataset: Dataset, k: int) -> None:
        left, back, up = (float(x) for x in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [left, back + k * GRID.spacing[1], up]

    with pytest.warns(MedsegWarning, match="gantry tilt of 15.6 degrees: each position is 0.7 mm aside"):
        read = io.read(series(tmp_path, tilt))
    assert read.grid.shape == (4, 8, 6)
    for k in range(4):
        assert np.array_equal(read.data[0, k, k : k + 5], DATA[k])


def moved(dataset: Dataset, k: int) -> None:
    if k == 2:
        dataset.ImagePositionPatient[2] = dataset.ImagePositionPatient[2] + 0.6


def test_an_uneven_series_is_resampled(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match=r"unevenly spaced slices \(1.9 to 3.1 mm apart\)"):
        read = io.read(series(tmp_path, moved))
    assert np.array_equal(read.data[0, 0], DATA[0])
    assert np.array_equal(read.data[0, -1], DATA[-1])


REFUSED: dict[str, tuple[Callable[[Dataset, int], None], type[Exception], str]] = {
    "orientation": (
        lambda d, k: setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]) if k == 1 else None,
        ChoiceError,
        r"orientations of slices differ: 1 of 4 are unlike the others \(IM003.dcm\)",
    ),
    "size": (
        lambda d, k: setattr(d, "Rows", 4) if k == 3 else None,
        ChoiceError,
        r"sizes \(rows, columns\) of slices differ: 1 of 4 .*IM001.dcm",
    ),
    "same_position": (
        lambda d, k: setattr(d, "ImagePositionPatient", [0, 0, 0]),
        FileError,
        r"IM00\d.dcm and IM00\d.dcm lie at the same position \(3 such pairs\)",
    ),
    "no_position": (lambda d, _: d.pop("ImagePositionPatient"), FileError, "no ImagePositionPatient"),
    "no_spacing": (lambda d, _: d.pop("PixelSpacing"), FileError, "no PixelSpacing"),
    "no_pixels": (lambda d, _: d.pop("PixelData"), FileError, "no pixel data"),
    "short_pixels": (
        lambda d, _: setattr(d, "PixelData", bytes(20)),
        FileError,
        "cut short.*60 bytes expected.*20 there",
    ),
    "colour": (lambda d, _: setattr(d, "PhotometricInterpretation", "RGB"), NotSupportedError, "a colour image"),
    "high_bit": (lambda d, _: setattr(d, "HighBit", 16), FileError, "values of 16 bits cannot end at bit 16 of 16"),
    "mosaic": (lambda d, _: setattr(d, "ImageType", ["ORIGINAL", "MOSAIC"]), NotSupportedError, "a mosaic"),
    "many_frames": (lambda d, _: setattr(d, "NumberOfFrames", 9), FileError, "cut short"),
    "bad_number": (
        lambda d, _: d.add_new("ImagePositionPatient", "LO", ["here", "there", CANARY]),
        FileError,
        "damaged: ImagePositionPatient cannot be parsed",
    ),
}


@pytest.mark.parametrize(("tweak", "kind", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_volume_is_refused(
    tmp_path: Path, tweak: Callable[[Dataset, int], None], kind: type[Exception], reason: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydicom's, on writing what is wrong
        path = series(tmp_path, tweak)
    with pytest.raises(kind, match=reason) as caught:
        io.read(path)
    assert CANARY not in str(caught.value)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    path = series(tmp_path)
    (path / "IM002.dcm").unlink()
    with pytest.raises(FileError, match=r"missing.*5 mm between IM003.dcm and IM001.dcm"):
        io.read(path)


@pytest.mark.parametrize("keep", [-7, 600, 140, 100, 0])
def test_a_cut_file_is_named(tmp_path: Path, keep: int) -> None:
    path = series(tmp_path)
    cut = path / "IM002.dcm"
    cut.write_bytes(cut.read_bytes()[:keep])
    with pytest.raises((FileError, NotSupportedError), match=r"IM002.dcm"):
        io.read(path)


def test_a_cut_compressed_file_is_named(tmp_path: Path) -> None:
    path = series(tmp_path, lambda dataset, _: dataset.compress(RLELossless, generate_instance_uid=False))
    cut = path / "IM002.dcm"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(FileError, match=r"IM002.dcm: the compressed pixel data are cut short"):
        io.read(path)


def test_series_are_listed_and_chosen(tmp_path: Path) -> None:
    path = tmp_path / "both"
    write_series(path, DATA, GRID)
    write_series(path / "more", DATA[:3] + 1, grid("SPL", shape=(3, 5, 6)), series="1.2.3")
    for file in (path / "more").iterdir():
        file.rename(path / f"more_{file.name}")
    (path / "more").rmdir()
    (path / "notes.txt").write_text("no image")
    listed = list_series(path)
    assert sorted(s.slices for s in listed) == [3, 4]
    assert {(s.modality, s.number, s.size) for s in listed} == {("CT", 3, (5, 6))}
    with pytest.raises(ChoiceError, match=r"2 series in this folder: select one as .*both#[0-9a-f]{6}: #") as several:
        io.read(path)
    assert several.value.choices == tuple(f"{path}#{found.id}" for found in listed)
    with pytest.raises(InputError, match="no series #abc"):
        io.read(f"{path}#abc")
    for found in listed:
        assert io.read(f"{path}#{found.id}").grid.shape[0] == found.slices


def test_a_folder_without_dicom_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no DICOM image"):
        list_series(tmp_path)


def test_no_text_of_a_patient_comes_out(tmp_path: Path) -> None:
    path = series(tmp_path)
    volume = io.read(path)
    io.write(tmp_path / "out.nrrd", volume)
    said = [*describe(path), volume.name, repr(list_series(path)[0].describe())]
    assert CANARY not in " ".join(said)
    assert CANARY.encode() not in (tmp_path / "out.nrrd").read_bytes()


def truth_of(volume: Volume, truth: Volume) -> tuple[float, float]:
    """(farthest voxel from the truth's grid in voxels, largest difference of values there)."""
    index = np.indices(volume.grid.shape).reshape(3, -1).T
    at = truth.grid.world_to_index(volume.grid.index_to_world(index))
    nearest = np.rint(at).astype(int)
    values = truth.data[0][tuple(nearest.T)].astype(float)
    return float(np.abs(at - nearest).max()), float(np.abs(values - volume.data[0].ravel()).max())


@pytest.mark.parametrize(
    "name",
    [
        "failing/slicecount/001",
        "generic/anatomical/001",
        "generic/anatomical/002_non_isotropic",
        "generic/compressed_j2k/001",
        "hitachi/anatomical/001",
        "philips_enhanced/anatomical/001",
    ],
)
def test_real_series_equal_their_truth(medseg_data: Path, name: str) -> None:
    volume = io.read(medseg_data / "dicom" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MedsegWarning)
        truth = io.read(medseg_data / "dicom" / f"{name}_ground_truth.nii.gz")
    off, difference = truth_of(volume, truth)
    assert off < 1e-3
    assert difference < 1e-3


def test_a_real_tilted_series_is_resampled(medseg_data: Path) -> None:
    with pytest.warns(MedsegWarning, match="gantry tilt of 14.0 degrees: each position is 1.21 mm aside"):
        volume = io.read(medseg_data / "dicom" / "failing" / "gantrytilting" / "001")
    assert volume.grid.shape == (4, 521, 512)
    assert io.read(medseg_data / "dicom" / "hippocampus" / "Study1" / "13_HCropVolume").grid.shape == (32, 51, 35)
