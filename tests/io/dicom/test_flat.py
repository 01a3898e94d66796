"""2D images in DICOM without a place in the patient: a slice like a PNG, with the size of a pixel that is stated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGExtended12Bit, RLELossless

from dicom_files import image, set_pixels
from napari_medseg import io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, InputError, MedsegError, MedsegWarning, NotSupportedError
from napari_medseg.io.choice import ChoiceError

CR, SC, ULTRASOUND, CT = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("1", "7", "6.1", "2"))
GREY = np.arange(35, dtype=np.uint16).reshape(5, 7) * 100
RGB = np.random.default_rng(0).integers(0, 255, (5, 8, 3), np.uint8)

Tweak = Callable[[Dataset], None]


def grey(path: Path, kind: str = CR, tweak: Tweak = lambda _: None, number: int = 0) -> Path:
    dataset = image(kind, "1.2.3", number)
    del dataset.FrameOfReferenceUID
    set_pixels(dataset, GREY + number)
    tweak(dataset)
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def colours(path: Path, pixels: npt.NDArray[np.uint8], kind: str, tweak: Tweak = lambda _: None) -> Path:
    def as_colours(dataset: Dataset) -> None:
        dataset.Rows, dataset.Columns = RGB.shape[:2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, kind, 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, pixels.tobytes()
        tweak(dataset)

    return grey(path, SC, as_colours)


SPACINGS: dict[str, tuple[dict[str, Any], tuple[float, float] | None, str]] = {
    "stated": ({"PixelSpacing": ["0.2", "0.1"], "ImagerPixelSpacing": ["0.3", "0.3"]}, (0.2, 0.1), ""),
    "at the detector": ({"ImagerPixelSpacing": ["0.2", "0.1"]}, (0.2, 0.1), "as large as on the detector"),
    "not stated": ({}, None, "does not say how large a pixel is"),
}


@pytest.mark.parametrize("kind", [CR, SC, ULTRASOUND])
@pytest.mark.parametrize(("stated", "spacing", "note"), SPACINGS.values(), ids=SPACINGS.keys())
def test_an_image_without_a_place_is_a_slice(
    tmp_path: Path, kind: str, stated: dict[str, Any], spacing: tuple[float, float] | None, note: str
) -> None:
    path = grey(tmp_path / "a.dcm", kind, lambda dataset: dataset.update(stated))
    read, outline = io.read(path), io.peek(path)
    assert np.array_equal(np.asarray(read.data), GREY[None, None])
    assert read.grid.in_pixels == (spacing is None)
    assert read.grid.spacing[1:] == pytest.approx(spacing or (1, 1))
    assert read.grid.orientation[1:] == "PL"
    assert (outline.dtype, outline.channels, outline.grid.shape) == (read.data.dtype, read.channels, read.grid.shape)
    assert note in " ".join(outline.notes)
    assert any(line.startswith("note:") for line in describe(path)) == bool(note)


def as_ybr(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Full-range YCbCr of DICOM PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ybr: npt.NDArray[np.float64] = rgb @ matrix.T + [0, 128, 128]
    return np.clip(np.rint(ybr), 0, 255).astype(np.uint8)


def halved(ybr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two columns share their colours: Y Y Cb Cr."""
    return np.concatenate([ybr[:, 0::2, :1], ybr[:, 1::2, :1], ybr[:, 0::2, 1:]], axis=-1)


def planes(dataset: Dataset) -> None:
    dataset.PlanarConfiguration, dataset.PixelData = 1, np.moveaxis(RGB, -1, 0).tobytes()


def rle(dataset: Dataset) -> None:
    dataset.compress(RLELossless, generate_instance_uid=False)


PAIRED = np.repeat(RGB[:, ::2], 2, axis=1)
COLOURS: dict[str, tuple[npt.NDArray[np.uint8], str, Tweak, npt.NDArray[np.uint8]]] = {
    "pixel by pixel": (RGB, "RGB", lambda _: None, RGB),
    "plane by plane": (RGB, "RGB", planes, RGB),
    "compressed": (RGB, "RGB", rle, RGB),
    "luminance": (as_ybr(RGB), "YBR_FULL", lambda _: None, RGB),
    "halved luminance": (halved(as_ybr(PAIRED)), "YBR_FULL_422", lambda _: None, PAIRED),
}


@pytest.mark.parametrize(("pixels", "kind", "tweak", "expected"), COLOURS.values(), ids=COLOURS.keys())
def test_colours_are_three_channels(
    tmp_path: Path,
    pixels: npt.NDArray[np.uint8],
    kind: str,
    tweak: Tweak,
    expected: npt.NDArray[np.uint8],
) -> None:
    path = colours(tmp_path / "a.dcm", pixels, kind, tweak)
    read = io.read(path)
    assert read.channels == io.peek(path).channels == ("red", "green", "blue")
    off = np.abs(np.moveaxis(np.asarray(read.data)[:, 0], 0, -1).astype(int) - expected.astype(int)).max()
    assert off <= (0 if kind == "RGB" else 3)
    with pytest.raises(InputError, match="labels have one channel; got 3 channels"):
        io.read_segmentation(path)


def test_values_are_rescaled_and_an_inverted_scale_is_told(tmp_path: Path) -> None:
    def inverted(dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PhotometricInterpretation = 2, -5, "MONOCHROME1"

    with pytest.warns(MedsegWarning, match="MONOCHROME1"):
        read = io.read(grey(tmp_path / "a.dcm", tweak=inverted))
    assert np.array_equal(read.data[0, 0], GREY.astype(int) * 2 - 5)


def test_one_of_several_images_is_chosen(tmp_path: Path) -> None:
    for number in range(2):
        grey(tmp_path / "study" / f"{number}.dcm", number=number)
    with pytest.raises(ChoiceError, match=r"2 2D images in one series: name one as") as several:
        io.read(tmp_path / "study")
    load = io.loader(tmp_path / "study")
    for number, part in enumerate(several.value.choices):
        assert np.array_equal(np.asarray(load(part).data), (GREY + number)[None, None])
        assert np.array_equal(np.asarray(io.read(part).data), (GREY + number)[None, None])
    with pytest.raises(InputError, match=r"\.7 is none of them"):
        io.read(several.value.choices[0].replace(".0", ".7"))
    with pytest.raises(InputError, match="chooses nothing"):
        io.read(tmp_path / "study" / "0.dcm#1")


def twelve_bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit, dataset.PixelData = 12, 11, encapsulate([bytes(20)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit


REFUSED: dict[str, tuple[str, Tweak, type[MedsegError], str]] = {
    "a slice that lost its place": (CT, lambda _: None, FileError, "no ImagePositionPatient"),
    "no size": (CR, lambda d: setattr(d, "PixelSpacing", [0, 1]), FileError, "spacing must be positive"),
    "cut": (CR, lambda d: setattr(d, "PixelData", bytes(20)), FileError, "70 bytes expected.*20 there"),
    "palette": (
        SC,
        lambda d: setattr(d, "PhotometricInterpretation", "PALETTE COLOR"),
        NotSupportedError,
        "a colour image",
    ),
    "12-bit JPEG": (SC, twelve_bits, NotSupportedError, "no decoder for JPEG of 12 bits is installed"),
    "table": (CR, lambda d: setattr(d, "ModalityLUTSequence", [Dataset()]), NotSupportedError, "a lookup table"),
}


@pytest.mark.parametrize(("kind", "tweak", "error", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, kind: str, tweak: Tweak, error: type[MedsegError], reason: str
) -> None:
    path = grey(tmp_path / "a.dcm", kind, tweak)
    for asked in (io.read, io.peek):
        with pytest.raises(error, match=reason):
            asked(path)
