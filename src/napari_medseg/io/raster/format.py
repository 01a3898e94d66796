"""2D images: PNG, JPEG, BMP and TIFF as slices of one voxel's depth. A child process reads them.

Rows run to P and columns to L, as a radiologist sees an axial slice. A pixel is as large as the file states; where it
states nothing, it counts as 1 mm, and a note says so. Colours are three channels of an image. Pillow is used and not
imageio, which wraps it: only Pillow can be held to one format, and tells a palette from colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.io import attributes, choice
from napari_medseg.io.disk import files, memory
from napari_medseg.io.raster import colours, place
from napari_medseg.io.raster.facts import Facts
from napari_medseg.io.sandbox.parent import Limits, Reply, ask
from napari_medseg.io.stored import Stored, Unread
from napari_medseg.volume import LazyArray

Array = npt.NDArray[Any]

_PARSER = "napari_medseg.io.raster.parser"
_FOR_FACTS = Limits(memory_bytes=512 << 20, seconds=8, reply_bytes=0)
_SLOWEST_BYTES_PER_S = 10e6
"""Of decoding, on a busy machine."""
_RGB = ("red", "green", "blue")
_JPEG = (".jpg", ".jpeg")


def load(path: Path, *, as_labels: bool) -> Stored:
    """What a 2D image holds: (1, Y, X), or (C, 1, Y, X) for colours. `FILE#3` is a page of a TIFF of several.

    As labels, a palette gives its indices, and colours the ids of a table beside the file (see `colours`). Raises
    FileError for damage, NotSupportedError, PointError where a TIFF has several pages, InputError for colours that no
    table names.
    """
    file, part = choice.split(path)
    facts = _facts(file, part)
    page = _page(file, part, facts)
    _check_memory(file, facts)
    reply = _asked(file, _limits(facts), page=page, voxels=True)
    decoded = Facts.of(file, reply.facts)
    (array,) = reply.arrays
    expected = (1, *facts.shape[1:]) if page else facts.shape
    if array.shape != expected or array.dtype != facts.dtype:
        raise FileError(f"{file}: cannot be read: its pixels are not what its header says")
    return _described(array, decoded, file, as_labels=as_labels)


def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, without the pixels."""
    file, part = choice.split(path)
    facts = _facts(file, part)
    page = _page(file, part, facts)
    _check_memory(file, facts)
    shape = (1, *facts.shape[1:]) if page else facts.shape
    return _described(Unread(shape, facts.dtype), facts, file, as_labels=as_labels)


def save(path: Path, stored: Stored) -> None:
    """Write one slice, atomically, as it lies on the screen of napari: rows run to I or P, columns to P or L.

    Raises InputError for a volume, and for pixels that the format does not hold.
    """
    from napari_medseg.io.raster import writer

    writer.save(path, stored)


def _facts(file: Path, part: str) -> Facts:
    files.check_regular(file)
    return Facts.of(file, _asked(file, _FOR_FACTS, page="", voxels=False).facts)


def _asked(file: Path, limits: Limits, *, page: str, voxels: bool) -> Reply:
    request: Mapping[str, object] = {"path": str(file.absolute()), "page": page, "voxels": voxels}
    return ask(_PARSER, str(file), request, limits)


def _page(file: Path, part: str, facts: Facts) -> str:
    """The number of the chosen page as text; "" for an only page, and for all pages as channels."""
    if facts.pages == 1:
        choice.refuse_part(file, part)
        return ""
    if part == "channels" and not facts.samples:
        return ""
    others = () if facts.samples else (f"{file.name}#channels for all as channels",)
    return str(choice.point(file, part, facts.pages, f"{facts.pages} pages of one 2D image each", *others))


def _check_memory(file: Path, facts: Facts) -> None:
    memory.check(file, facts.nbytes, file.stat().st_size)


def _limits(facts: Facts) -> Limits:
    """What decoding may take: the pixels, their copy in order, and another one to send."""
    seconds = 8 + facts.nbytes / _SLOWEST_BYTES_PER_S
    return Limits(memory_bytes=(512 << 20) + 6 * facts.nbytes, seconds=seconds, reply_bytes=2 * facts.nbytes)


def _described(array: LazyArray, facts: Facts, file: Path, *, as_labels: bool) -> Stored:
    own = attributes.from_text(facts.text, str(file))
    holds_labels = as_labels or (own is not None and own.is_labels)
    table = None
    if holds_labels:
        if file.suffix.lower() in _JPEG:
            raise NotSupportedError(f"{file}: JPEG changes the values of pixels, and labels are exact: save it as PNG")
        if facts.colours == "white is 0":
            raise NotSupportedError(
                f"{file}: its white is 0, so an id of a label and what is shown for it differ: save it with black as 0"
            )
        table = colours.table_beside(file) if facts.samples >= 3 else None
        data = colours.ids(array, facts, file, table)
    else:
        data = colours.channels(array, facts, file)
        _warn_of_constant(data, file)
    spacing = place.spacing(facts)
    grid = place.grid(data.shape[-2:], spacing, facts.orientation)
    names, shades = colours.names_and_colours(own, facts, table, holds_labels=holds_labels)
    channels = own.channels if own else _RGB if len(data.shape) == 4 and data.shape[0] == 3 and _is_rgb(facts) else ()
    return Stored(
        data,
        grid,
        channels,
        names,
        own.provenance if own else {},
        is_labels=bool(own and own.is_labels),
        notes=place.notes(facts),
        colours=shades,
    )


def _is_rgb(facts: Facts) -> bool:
    return facts.colours in ("rgb", "palette")


def _warn_of_constant(data: LazyArray, file: Path) -> None:
    if isinstance(data, np.ndarray) and data.size > 1 and data.min() == data.max():
        warn(f"{file}: all pixels have the same value, {data.flat[0]}: there is nothing to see in it")
