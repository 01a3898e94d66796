"""One DICOM file: its header, and whether its pixels are all there. Pure Python; nothing is decoded here.

Only the attributes that identify, place and scale the pixels are read. Those that may name a patient are skipped, and
no text of a file goes into a message.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels import get_decoder
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGExtended12Bit, RLELossless

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.geometry import FloatArray
from napari_medseg.io.dicom.mark import PREAMBLE, has_mark, is_bare
from napari_medseg.io.disk import files

KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "ImageType",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TemporalPositionIdentifier",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "KVP",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "RealWorldValueMappingSequence",
    "DoseGridScaling",
    "GridFrameOffsetVector",
    "Units",
    "AnatomicalOrientationType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SegmentationType",
    "SegmentationFractionalType",
    "MaximumFractionalValue",
    "SegmentSequence",
)

PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_TEXT = 0x0077, "napari_medseg", 0x01
"""The private block of our own JSON: the whole names of labels, and the provenance."""
_PRIVATE_TAGS = (PRIVATE_GROUP << 16 | 0x0010, PRIVATE_GROUP << 16 | 0x1000 | PRIVATE_TEXT)
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    BytesLengthException,
    InvalidDicomError,
    struct.error,
    zlib.error,
)
"""The errors of pydicom, which checks little, on a file that breaks the rules."""
_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_WITH_LONG_LENGTH = (b"OB", b"OW", b"OF", b"OD", b"UN")
_MAX_FRAME = 1 << 28
"""The most bytes of a decoded frame, and of decoded bytes per compressed one; a file that states more is refused."""
_MAX_INFLATION = 1 << 14
_META_GROUP = 2
_DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_FLAT = frozenset(
    _STORAGE + kind
    for kind in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "6", "6.1", "7", "12.1", "12.2", "20", "77.1.1", "77.1.2",
        "77.1.4", "77.1.5.1", "77.1.5.2",
    )
)  # fmt: skip
"""Radiographs, ultrasound, secondary capture, planar scintigraphy, photographs: they state no place in the patient."""
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_HALVED = "YBR_FULL_422"
"""Uncompressed, its two colours are stored for every other column only."""


@dataclass(frozen=True)
class DicomHeader:
    """The description of a file's pixels, and their place in it."""

    path: Path
    dataset: Dataset
    syntax: UID
    pixels_at: int
    """Offset of the pixels in the file; 0 if it has none."""
    pixels_length: int
    """Bytes of pixels, as stated; 2^32 - 1 for compressed ones, whose items state theirs."""

    def text(self, keyword: str) -> str:
        """A UID or code; empty if it is absent."""
        return text(self.dataset, keyword, self.path)

    def count(self, keyword: str, default: int = 0) -> int:
        """A whole number of at least 0. Raises FileError for others."""
        with _parse_errors_as_file_errors(self.path, keyword):
            value = self.dataset.get(keyword)
            number = default if value in (None, "") else int(value)
        if number < 0:
            raise FileError(f"{self.path}: {keyword} must not be negative; got {number}")
        return number

    @property
    def private_text(self) -> str:
        """Our own JSON; empty if it is absent."""
        with _parse_errors_as_file_errors(self.path, "its private block"):
            text = self.dataset.get(_PRIVATE_TAGS[1])
            return str(text.value) if text is not None and self.is_ours else ""

    @property
    def is_ours(self) -> bool:
        """Whether this program wrote it."""
        with _parse_errors_as_file_errors(self.path, "its private block"):
            creator = self.dataset.get(_PRIVATE_TAGS[0])
            return creator is not None and creator.value == PRIVATE_CREATOR

    @property
    def is_directory(self) -> bool:
        """Whether it is a DICOMDIR, a list of files; its class often stands in the file meta information only."""
        with _parse_errors_as_file_errors(self.path):
            meta: Dataset = self.dataset.file_meta
            return _DIRECTORY in (self.text("SOPClassUID"), str(meta.get("MediaStorageSOPClassUID", "")))

    @property
    def is_image(self) -> bool:
        """Whether it holds pixels or says that it does, as a file that is cut short."""
        return bool(self.pixels_at or self.count("Rows"))

    @property
    def unused_bits(self) -> tuple[int, int]:
        """The bits above and below the value in each stored word; FileError where they cannot be."""
        allocated = self.count("BitsAllocated")
        stored = self.count("BitsStored", allocated)
        high = self.count("HighBit", stored - 1)
        if not stored - 1 <= high < allocated:
            raise FileError(
                f"{self.path}: damaged: values of {stored} bits cannot end at bit {high} of {allocated} (HighBit)"
            )
        return allocated - 1 - high, high + 1 - stored

    @property
    def is_flat(self) -> bool:
        """Whether it is one 2D image of a kind that has no place in the patient, and states none."""
        is_single = self.frames == 1 and self.text("SOPClassUID") in _FLAT
        return is_single and not self.text("ImagePositionPatient")

    @property
    def is_colour(self) -> bool:
        return self.count("SamplesPerPixel", 1) == 3 and self.text("PhotometricInterpretation") in _COLOURS

    @property
    def is_segmentation(self) -> bool:
        return self.text("SOPClassUID") in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")

    @property
    def frames(self) -> int:
        return self.count("NumberOfFrames", 1)

    @property
    def size(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.count("Rows"), self.count("Columns")

    @property
    def rounded_orientation(self) -> tuple[float, ...]:
        """The direction cosines at the top of the file, to two decimals; empty if they are not there."""
        cosines = numbers(self.dataset, "ImageOrientationPatient", 6, self.path)
        return () if cosines is None else tuple((np.round(cosines, 2) + 0.0).tolist())

    @property
    def decoded_bytes(self) -> int:
        rows, columns = self.size
        bits = rows * columns * self.count("SamplesPerPixel", 1) * self.frames * self.count("BitsAllocated")
        return (bits + 7) // 8


def read_header(path: Path) -> DicomHeader:
    """The header of a file. Raises FileError if it is damaged or no DICOM, NotSupportedError if it is deflated."""
    size = files.check_regular(path)
    with _parse_errors_as_file_errors(path), path.open("rb") as file:
        start = file.read(PREAMBLE + 4)
        if not has_mark(start) and not is_bare(start):
            raise FileError(f"{path}: not a DICOM file: the mark DICM does not stand after its first {PREAMBLE} bytes")
        syntax = _syntax(file)
        if syntax is not None and (syntax.is_private or not syntax.is_transfer_syntax):
            raise NotSupportedError(
                f"{path}: its transfer syntax {_shown(syntax)} (the kind of compression) is not known"
            )
        if syntax is not None and syntax.is_deflated:
            raise NotSupportedError(f"{path}: deflated DICOM files are not read: rewrite it uncompressed (dcmconv +te)")
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*KEYWORDS, *_PRIVATE_TAGS])
        if syntax is None:
            syntax = ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        if file.tell() > size:
            raise FileError(
                f"{path}: cut short (truncated): an element's length goes past the end of file ({size} bytes)"
            )
        at, length = _pixel_element(file, syntax)
    return DicomHeader(path, dataset, syntax, at, length)


def _syntax(file: BinaryIO) -> UID | None:
    """The transfer syntax in the file meta information; None for a file that does not state it."""
    file.seek(0)
    read_preamble(file, force=True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _, __: BaseTag(tag).group != _META_GROUP)
    stated = str(meta.get("TransferSyntaxUID", ""))
    return UID(stated) if stated else None


def check_pixels(header: DicomHeader) -> None:
    """Raise unless the pixels are there, whole, of one value each, and can be decoded here.

    A 2D image without a place may have colours.
    """
    path = header.path
    if not header.pixels_at:
        raise FileError(f"{path}: no pixel data: not an image (a report, a plan, or cut short)")
    if not header.decoded_bytes:
        raise FileError(f"{path}: rows, columns and bits of its pixels must be stated; got {header.size}")
    colour = header.text("PhotometricInterpretation")
    has_palette = colour == "PALETTE COLOR" and header.is_segmentation
    is_grey = header.count("SamplesPerPixel", 1) == 1 and (colour.startswith("MONOCHROME") or has_palette)
    if not is_grey and not (header.is_flat and header.is_colour):
        raise NotSupportedError(f"{path}: a colour image (RGB or palette), not a volume of one value per voxel")
    if any(header.unused_bits[1:]) and header.syntax.is_encapsulated and header.syntax != RLELossless:
        raise NotSupportedError(f"{path}: compressed values that do not fill the lowest bits (HighBit) are not read")
    if header.syntax.is_encapsulated:
        _check_compressed(header)
    else:
        _check_native(header)


def numbers(item: Dataset, keyword: str, count: int, path: Path) -> FloatArray | None:
    """Finite numbers of an attribute; None if it is absent or empty. Raises FileError for anything else."""
    with _parse_errors_as_file_errors(path, keyword):
        value = item.get(keyword)
        if value is None or value == "":
            return None
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if array.shape != (count,) or not np.isfinite(array).all():
        raise FileError(f"{path}: {keyword} must be {count} finite numbers; got {array.size}")
    return array


def text(item: Dataset, keyword: str, path: Path) -> str:
    """A text; empty if it is absent."""
    with _parse_errors_as_file_errors(path, keyword):
        value = item.get(keyword)
        return "" if value is None or (value != 0 and not value) else str(value)


def items(dataset: Dataset, keyword: str, path: Path) -> list[Dataset]:
    """The items of a sequence; none if it is absent."""
    with _parse_errors_as_file_errors(path, keyword):
        return list(dataset.get(keyword) or [])


def nested_items(dataset: Dataset, path: Path) -> list[Dataset]:
    """The items of all its sequences."""
    with _parse_errors_as_file_errors(path):
        return [item for element in dataset if element.VR == "SQ" for item in element.value]


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, which quote the file's text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _parse_errors_as_file_errors(path: Path, what: str = "its header") -> Iterator[None]:
    """Inside, an error of pydicom becomes a FileError of one line that quotes nothing."""
    try:
        with quiet():
            yield
    except (FileError, NotSupportedError):
        raise
    except RecursionError as error:
        raise FileError(f"{path}: damaged: its sequences are nested too deep") from error
    except PARSE_ERRORS as error:
        raise FileError(f"{path}: damaged: {what} cannot be parsed ({type(error).__name__})") from error


def _pixel_element(file: BinaryIO, syntax: UID) -> tuple[int, int]:
    """Offset and stated length of the pixels, which come next in the file; zeros if there are none."""
    order = "<" if syntax.is_little_endian else ">"
    start = file.read(8)
    if len(start) < 8:
        return 0, 0
    group, element, kind, length = struct.unpack(f"{order}HH2sH", start)
    if BaseTag(group << 16 | element) not in (0x7FE00008, 0x7FE00009, 0x7FE00010):
        return 0, 0
    if syntax.is_implicit_VR:
        length = struct.unpack(f"{order}L", start[4:])[0]
    elif kind in _WITH_LONG_LENGTH:
        length = struct.unpack(f"{order}L", file.read(4))[0]
    return file.tell(), length


def _check_native(header: DicomHeader) -> None:
    there = min(header.pixels_length, header.path.stat().st_size - header.pixels_at)
    is_halved = header.text("PhotometricInterpretation") == _HALVED
    expected = header.decoded_bytes // 3 * 2 if is_halved else header.decoded_bytes
    if header.pixels_length == _UNDEFINED:
        raise FileError(f"{header.path}: damaged: its pixels state no length although they are not compressed")
    if there < expected:
        raise FileError(
            f"{header.path}: the pixel data are cut short (truncated): {expected} bytes expected for {header.frames} "
            f"frames of size {header.size}, {there} there"
        )


def _check_compressed(header: DicomHeader) -> None:
    _check_decoder(header)
    there = _compressed_bytes(header)
    expected = header.decoded_bytes
    if expected > header.frames * _MAX_FRAME or expected > there * _MAX_INFLATION:
        raise FileError(
            f"{header.path}: {there} bytes of compressed pixel data cannot hold the stated size: {header.frames} "
            f"frames of {header.size}, {expected} bytes"
        )


def _check_decoder(header: DicomHeader) -> None:
    """Raise NotSupportedError, with the package to install, if no decoder for the compression is here."""
    syntax = header.syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise NotSupportedError(
            f"{header.path}: its transfer syntax {_shown(syntax)} is not of pixels that can be read"
        ) from None
    if not decoder.is_available:
        raise NotSupportedError(
            f"{header.path}: no decoder for its transfer syntax is installed ({_shown(syntax)}): install one with "
            f"`pip install python-gdcm`, or rewrite the files uncompressed (dcmdjpeg)"
        )
    # Pillow and GDCM are listed for this transfer syntax, and decode its 8 bits only.
    if syntax == JPEGExtended12Bit and header.count("BitsStored") > 8 and "pylibjpeg" not in decoder.available_plugins:
        raise NotSupportedError(
            f"{header.path}: no decoder for JPEG of 12 bits is installed: install one with `pip install "
            f"pylibjpeg-libjpeg`, or rewrite the files uncompressed (dcmdjpeg)"
        )


def _compressed_bytes(header: DicomHeader) -> int:
    """The bytes in the items of compressed pixels. Raises FileError if the last item is cut."""
    size, total = header.path.stat().st_size, 0
    with header.path.open("rb") as file:
        file.seek(header.pixels_at)
        while len(start := file.read(8)) == 8:
            group, element, length = struct.unpack("<HHL", start)
            tag = group << 16 | element
            if tag == _DELIMITER:
                return total
            if tag != _ITEM or file.tell() + length > size:
                break
            total += length
            file.seek(length, 1)
    raise FileError(
        f"{header.path}: the compressed pixel data are cut short (truncated) or damaged: they do not end after {total} "
        f"bytes in a file of {size}"
    )


def _shown(syntax: UID) -> str:
    """A known syntax's name from pydicom's table, else the UID's digits."""
    return (
        syntax.name if syntax.is_transfer_syntax else "".join(c for c in syntax if c in "0123456789.")[:64] or "(none)"
    )
