"""Decodes the pixels of a DICOM file. Compressed ones are decoded in a child process only: see `io.sandbox.parent`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, JPEGLSNearLossless

from napari_medseg.errors import FileError
from napari_medseg.io.dicom.header import PARSE_ERRORS, quiet

Array = npt.NDArray[Any]


def prepare() -> None:
    """Have GDCM, if it is installed, decode only what no other decoder can: JPEG Lossless.

    This changes pydicom's table of decoders, and is for a process that does nothing else.
    """
    for syntax in (JPEGBaseline8Bit, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000):
        decoder = get_decoder(syntax)
        if "gdcm" in decoder.available_plugins and len(decoder.available_plugins) > 1:
            decoder.remove_plugin("gdcm")


def answer(request: Mapping[str, Any]) -> tuple[dict[str, object], list[Array]]:
    """The values of some frames. request: path, and the arguments of `decode`.

    Raises FileError for damage. The parent adds the path to the message.
    """
    kind = {key: request[key] for key in ("syntax", "bits", "unused", "as_rgb")}
    return {}, [decode(Path(request["path"]), request["frames"], **kind)]


def decode(
    path: Path, frames: Sequence[int], *, syntax: str, bits: int, unused: Sequence[int], as_rgb: bool = False
) -> Array:
    """The stored values (frame, row, column) of some frames (from 0); of colours (frame, row, column, 3).

    syntax: the UID of the transfer syntax. bits: the length of a stored word. unused: its bits above and below the
    value. as_rgb: turn other colours into red, green and blue. Raises FileError, without the path, for damage.
    """
    above, below = unused
    # pydicom takes the lowest bits of a word as the value. It must leave a word whole whose value lies higher.
    options = {"bits_stored": bits} if below else {}
    try:
        with quiet():
            decoded = iter_pixels(path, indices=frames, raw=not as_rgb, transfer_syntax_uid=syntax, **options)
            values = np.stack(list(decoded))
    except PARSE_ERRORS as error:
        raise FileError(f"damaged: its pixel data cannot be decoded ({type(error).__name__})") from error
    return values << above >> (above + below) if below else values
