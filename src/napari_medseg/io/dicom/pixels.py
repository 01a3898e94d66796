"""The voxels of DICOM planes: decoded, and scaled to their meaning (Hounsfield units, activity, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError
from napari_medseg.io.dicom import decoder
from napari_medseg.io.dicom.header import DicomHeader
from napari_medseg.io.dicom.planes import DicomPlane
from napari_medseg.io.sandbox.parent import Limits, ask

Array = npt.NDArray[Any]

_SLOWEST_BYTES_PER_S = 2e6
"""The pace of the slowest decoder, that of JPEG 2000, on a slow machine."""


def decode(header: DicomHeader, frames: Sequence[int]) -> Array:
    """Stored values (frame, row, column) of some frames of a checked file; of colours (frame, row, column, 3) as RGB.

    Decoders of compressed pixels are C code that is not trusted: they run in a child process. Raises FileError for
    damaged pixels.
    """
    bits, as_rgb = header.count("BitsAllocated"), header.is_colour
    if bits == 1 and not header.syntax.is_encapsulated:
        return _unpacked(header, frames)
    if not header.syntax.is_encapsulated:
        try:
            syntax, unused = str(header.syntax), header.unused_bits
            return decoder.decode(header.path, frames, syntax=syntax, bits=bits, unused=unused, as_rgb=as_rgb)
        except FileError as error:
            raise FileError(f"{header.path}: {error}") from error
    size = header.decoded_bytes // header.frames * len(frames)
    limits = Limits(memory_bytes=(256 << 20) + 12 * size, seconds=8 + size / _SLOWEST_BYTES_PER_S, reply_bytes=2 * size)
    request = {
        "path": str(header.path.absolute()),
        "frames": list(frames),
        "syntax": str(header.syntax),
        "bits": bits,
        "unused": header.unused_bits,
        "as_rgb": as_rgb,
    }
    (array,) = ask(decoder.__name__, str(header.path), request, limits).arrays
    return array


def _unpacked(header: DicomHeader, frames: Sequence[int]) -> Array:
    """Frames of single bits; a frame may begin inside a byte."""
    rows, columns = header.size
    count = rows * columns
    planes = np.empty((len(frames), rows, columns), np.uint8)
    with header.path.open("rb") as file:
        for plane, frame in zip(planes, frames, strict=True):
            byte, bit = divmod(frame * count, 8)
            file.seek(header.pixels_at + byte)
            packed = np.frombuffer(file.read((bit + count + 7) // 8), np.uint8)
            plane[...] = np.unpackbits(packed, bitorder="little")[bit : bit + count].reshape(rows, columns)
    return planes


def stored_values(planes: Sequence[DicomPlane]) -> Array:
    """(plane, row, column) as stored, in the order of the planes."""
    parts = []
    for _, group in groupby(planes, key=lambda plane: plane.path):
        of_file = list(group)
        parts.append(decode(of_file[0].header, [plane.frame for plane in of_file]))
    kinds = {part.dtype for part in parts}
    if {part.shape[1:] for part in parts} != {planes[0].header.size}:
        raise FileError(f"{planes[0].path}: damaged: decoded planes are not of the stated size")
    return np.concatenate(parts, dtype=np.result_type(*kinds), casting="safe")


def scaled(values: Array, slopes: Sequence[float], intercepts: Sequence[float]) -> Array:
    """Each plane's values times its slope, plus its intercept. Whole numbers stay whole, in int16 or int32.

    Fractions give float32, or float64 if float32 does not hold the stored values.
    """
    slope, intercept = np.array(slopes)[:, None, None], np.array(intercepts)[:, None, None]
    if (slope == 1).all() and (intercept == 0).all():
        return values
    if values.dtype.kind in "iu" and (slope == np.rint(slope)).all() and (intercept == np.rint(intercept)).all():
        low, high = _range(values, slope, intercept)
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return _whole(values, slope, intercept, kind)
    is_short = values.dtype.itemsize <= 2 or values.dtype == np.float32
    result: Array = np.empty(values.shape, np.float32 if is_short else np.float64)
    np.multiply(values, slope, out=result, casting="same_kind")
    np.add(result, intercept, out=result, casting="same_kind")
    return result


def type_of_scaled(planes: Sequence[DicomPlane]) -> np.dtype[Any]:
    """The type of the scaled values that holds whatever the headers allow; `scaled` may find a smaller one."""
    headers = list({id(plane.header): plane.header for plane in planes}.values())
    return type_of_scaled_values(headers, [p.slope for p in planes], [p.intercept for p in planes])


def type_of_scaled_values(
    headers: Sequence[DicomHeader], slopes: Sequence[float], intercepts: Sequence[float]
) -> np.dtype[Any]:
    """As `type_of_scaled`, of planes with these slopes and intercepts."""
    ends = []
    for header in headers:
        bits, is_signed = header.count("BitsAllocated"), header.count("PixelRepresentation") == 1
        kind = np.dtype(f"{'i' if is_signed else 'u'}{max(1, bits // 8)}")
        used = min(header.count("BitsStored") or bits, bits)
        low, high = (-(1 << (used - 1)), (1 << (used - 1)) - 1) if is_signed else (0, (1 << used) - 1)
        ends.append(np.array([low, high], kind))
    lowest, highest = min(int(e[0]) for e in ends), max(int(e[1]) for e in ends)
    one = np.array([lowest, highest], np.result_type(*ends)).reshape(1, 1, 2)
    values = np.broadcast_to(one, (len(slopes), 1, 2))
    return scaled(values, slopes, intercepts).dtype


def _range(values: Array, slope: Array, intercept: Array) -> tuple[float, float]:
    ends = np.stack([values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)]).astype(float)
    ends = ends * slope + intercept
    return float(ends.min()), float(ends.max())


def _whole(values: Array, slope: Array, intercept: Array, kind: npt.DTypeLike) -> Array:
    """Plane by plane in 64 bits, so that no step before the result overflows."""
    result = np.empty(values.shape, kind)
    for plane, target, a, b in zip(values, result, slope.ravel(), intercept.ravel(), strict=True):
        target[...] = plane.astype(np.int64) * int(a) + int(b)
    return result
