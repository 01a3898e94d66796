"""Hands a 2D image to Pillow or tifffile. Runs in a child process only: see `napari_medseg.io.sandbox.parent`.

Arrays are (P, Y, X), or (P, Y, X, S) with S samples of a pixel: P pages of a TIFF, 1 in other formats.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io import units

Array = npt.NDArray[Any]

TEXT_KEY = "napari_medseg"
"""The keyword of our text in a PNG."""
_PILLOW = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
"""{suffix: the only format that Pillow tries}: it knows 40 more, which nobody asked for."""
_MODES = {"1": ("|u1", 0), "L": ("|u1", 0), "P": ("|u1", 0), "I;16": ("<u2", 0), "RGB": ("|u1", 3)} | {
    "LA": ("|u1", 2),
    "RGBA": ("|u1", 4),
}
"""{mode of Pillow: (type of a sample, samples of a pixel, 0 for no axis of them)}."""
_PER_STEP = {2: 255 // 3, 4: 255 // 15}
"""{bits of a grey sample: what Pillow makes of 1}."""
_INCH_MM, _CM_MM, _METRE_MM = 25.4, 10.0, 1000.0
_SCREENS_DPI = (72, 96)
"""What programs write that know of no size: the pixels of a screen."""
_PHOTOMETRIC = {0: "white is 0", 1: "grey", 2: "rgb", 3: "palette", 6: "ycbcr"}
"""{PhotometricInterpretation of TIFF: what it is called here}; no other one is read."""
_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, SyntaxError, OverflowError)
"""What Pillow and tifffile raise on damage (SyntaxError is Pillow's for a broken PNG)."""
_DAMAGE = (*_ERRORS, ArithmeticError, RuntimeError, AssertionError, EOFError, zlib.error, struct.error)


def prepare() -> None:
    """Load both libraries before the first request, and Pillow's few formats."""
    import tifffile  # noqa: F401
    from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401

    Image._initialized = 2  # what it could load later, it need not look for
    Image.MAX_IMAGE_PIXELS = None  # the parent judges sizes, before it asks for pixels


def answer(request: Mapping[str, Any]) -> tuple[dict[str, object], list[Array]]:
    """Facts of a file, and its pixels. request: path; voxels: whether pixels are decoded; page: which of a TIFF.

    Raises FileError for damage and NotSupportedError, without the path, which the parent has.
    """
    path, voxels = Path(request["path"]), bool(request["voxels"])
    with _told():
        if path.suffix.lower() in _PILLOW:
            return _by_pillow(path, voxels=voxels)
        return _by_tifffile(path, request["page"], voxels=voxels)


@contextmanager
def _told() -> Iterator[None]:
    """Inside, whatever the libraries raise on damage becomes one line."""
    try:
        yield
    except (FileError, NotSupportedError, MemoryError):
        raise
    except _DAMAGE as error:
        text = " ".join(str(error).split())
        reason = re.sub(r"'?/\S+'?", "", text)[:120] or type(error).__name__
        raise FileError(f"damaged or cut short (truncated): {reason}") from error


def _by_pillow(path: Path, *, voxels: bool) -> tuple[dict[str, object], list[Array]]:
    from PIL import Image, UnidentifiedImageError

    kind = _PILLOW[path.suffix.lower()]
    try:
        image = Image.open(path, formats=[kind])
    except UnidentifiedImageError as error:
        raise FileError(f"not a {kind} file, or damaged at its start") from error
    with image:
        if kind == "PNG" and getattr(image, "n_frames", 1) > 1:
            raise NotSupportedError("an animation: save the one picture that is meant")
        _check_png_bits(path, kind)
        facts = _pillow_facts(image, kind)
        if not voxels:
            return facts, []
        image.load()
        # Pillow spreads grey of 2 and 4 bits over 0 to 255, which changes the ids of a mask.
        array = np.asarray(image) // (_PER_STEP.get(_grey_bits(path), 1) if kind == "PNG" else 1)
        facts["palette"] = _palette(image)
        facts["text"] = str(image.info.get(TEXT_KEY, ""))[: 1 << 20]  # a text may come after the pixels
    return facts, [array.astype(str(facts["dtype"]), copy=False)[None]]


def _pillow_facts(image: Any, kind: str) -> dict[str, object]:
    mode = "I;16" if image.mode in ("I", "I;16B") and kind == "PNG" else image.mode
    if mode not in _MODES:
        what = "CMYK, the colours of printing" if mode == "CMYK" else f"pixels of the kind {mode}"
        raise NotSupportedError(f"{what}: save it as RGB or grey")
    dtype, samples = _MODES[mode]
    size = [1, image.height, image.width, *([samples] if samples else [])]
    return {
        "shape": size,
        "dtype": dtype,
        "colours": "palette" if mode == "P" else "rgb" if samples >= 3 else "grey",
        "alpha": mode in ("LA", "RGBA"),
        "palette": _palette(image),
        "spacing_yx_mm": _png_spacing(image) if kind == "PNG" else None,
        "dpi": _dpi(image.info.get("dpi")),
        "text": str(image.info.get(TEXT_KEY, ""))[: 1 << 20],
        "orientation": int(image.getexif().get(0x0112, 1)) if kind == "JPEG" else 1,
        "axes": "",
    }


def _check_png_bits(path: Path, kind: str) -> None:
    """Refuse colours of 16 bits in a PNG, of which Pillow gives 8 without a word."""
    if kind != "PNG":
        return
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) == 26 and head[24] == 16 and head[25] != 0:
        raise NotSupportedError("a PNG with colours or opacity of 16 bits is not read without loss: save it as TIFF")


def _grey_bits(path: Path) -> int:
    """The bits of a sample of a grey PNG; 0 for colours."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if len(head) == 26 and head[25] == 0 else 0


def _palette(image: Any) -> list[list[int]]:
    """The colours of a palette, in order; empty without one."""
    if image.mode != "P":
        return []
    values = list(image.getpalette("RGB") or [])
    return [values[i : i + 3] for i in range(0, len(values) - 2, 3)]


def _png_spacing(image: Any) -> list[float] | None:
    """(y, x) in mm as pHYs states it; None where it states nothing, or the pixels of a screen."""
    dpi = _dpi(image.info.get("dpi"))
    return None if dpi is None or _is_screen(dpi) else [_INCH_MM / dpi[1], _INCH_MM / dpi[0]]


def _dpi(value: object) -> list[float] | None:
    """(x, y) dots per inch, both finite and positive."""
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    both = [float(v) for v in value]
    return both if all(math.isfinite(v) and v > 0 for v in both) else None


def _is_screen(dpi: list[float]) -> bool:
    return any(all(abs(value - known) < 0.5 for value in dpi) for known in _SCREENS_DPI)


def _by_tifffile(path: Path, wanted: str, *, voxels: bool) -> tuple[dict[str, object], list[Array]]:
    import tifffile

    try:
        file = tifffile.TiffFile(path, _multifile=False)  # OME may name other files, which nobody chose
    except tifffile.TiffFileError as error:
        raise FileError("not a TIFF file, or damaged at its start") from error
    with file:
        if not file.pages:
            raise FileError("a TIFF without an image in it")
        _check_chain(file)
        if not file.series:
            raise FileError("a TIFF without an image in it")
        if len(file.series) > 1:
            raise NotSupportedError(f"{len(file.series)} images of different sizes: save the one that is meant")
        series, page = file.series[0], file.pages[0].aspage()
        if any(part is None or part.parent is not file for part in series.pages):
            raise NotSupportedError("an image whose pages lie in several files: save it as one file")
        if math.prod(page.chunked) > path.stat().st_size:
            raise FileError(f"damaged: {math.prod(page.chunked)} strips or tiles are stated, more than it has bytes")
        facts, lead = _tiff_facts(file, series, page)
        if not voxels:
            return facts, []
        array = _decoded(path, series, page, facts, lead, wanted)
    return facts, [array]


def _check_chain(file: Any) -> None:
    """Refuse pages of which one leads back to an earlier one: tifffile would follow them without an end."""
    kind, handle, seen, offset = file.tiff, file.filehandle, set[int](), int(file.pages.first.offset)
    while offset:
        if offset in seen:
            raise FileError(f"damaged: its pages go round in a circle after {len(seen)}")
        seen.add(offset)
        handle.seek(offset)
        count = handle.read(kind.tagnosize)
        if len(count) < kind.tagnosize:
            return
        handle.seek(offset + kind.tagnosize + struct.unpack(kind.tagnoformat, count)[0] * kind.tagsize)
        following = handle.read(kind.offsetsize)
        offset = struct.unpack(kind.offsetformat, following)[0] if len(following) == kind.offsetsize else 0


def _tiff_facts(file: Any, series: Any, page: Any) -> tuple[dict[str, object], int]:
    """What is known of the first series, and how many axes count its pages."""
    photometric = _PHOTOMETRIC.get(int(page.photometric))
    if photometric is None:
        what = "CMYK, the colours of printing" if int(page.photometric) == 5 else f"colours of kind {page.photometric}"
        raise NotSupportedError(f"{what[:100]}: save it as RGB or grey")
    dtype = np.dtype(series.dtype)
    if dtype.kind not in "biuf":
        raise NotSupportedError(f"pixels of type {dtype}: save it as numbers without an imaginary part")
    axes, shape = str(series.axes), [int(n) for n in series.shape]
    tail = "YXS" if axes.endswith("YXS") else "SYX" if axes.endswith("SYX") else "YX"
    if not axes.endswith(tail) or "S" in axes[: -len(tail)] or min(shape, default=0) < 1:
        raise NotSupportedError(f"an image with the axes {axes[:20]} of sizes {shape[:8]}: save one 2D image of it")
    lead = len(axes) - len(tail)
    pages = math.prod(shape[:lead])
    y, x = (shape[-3:-1], shape[-2:])[tail != "YXS"][-2:]
    samples = shape[-1] if tail == "YXS" else shape[lead] if tail == "SYX" else 0
    ome = _ome_spacing(file.ome_metadata) if file.is_ome else None
    dpi = None if ome else _tiff_dpi(file, page)
    kinds = {"b": "|u1", "f": "<f4" if dtype.itemsize <= 4 else "<f8"}
    facts: dict[str, object] = {
        "shape": [pages, y, x, *([samples] if samples else [])],
        "dtype": kinds.get(dtype.kind, dtype.newbyteorder("<").str),
        "colours": "rgb" if photometric in ("rgb", "ycbcr") else photometric,
        "alpha": photometric in ("rgb", "ycbcr") and samples == 4,
        "palette": _tiff_palette(page) if photometric == "palette" else [],
        "spacing_yx_mm": ome or _tiff_spacing(file, page, dpi),
        "dpi": dpi,
        "text": str(page.description or "")[: 1 << 20],
        "orientation": int(page.tags.valueof(274, default=1)),
        "axes": axes[:lead],
    }
    return facts, lead


def _decoded(path: Path, series: Any, page: Any, facts: dict[str, Any], lead: int, wanted: str) -> Array:
    """(P, Y, X) or (P, Y, X, S). wanted: the number of a page, or "" for all."""
    shape, dtype = facts["shape"], str(facts["dtype"])
    pages, samples = shape[0], shape[3:]
    known = "JPEG" if int(page.compression) in (6, 7) else "LZW" if int(page.compression) == 5 else ""
    if known:
        return _by_libtiff(path, facts, wanted, known)
    try:
        array = series.asarray(maxworkers=1)
    except (ValueError, ImportError) as error:
        if "imagecodecs" in str(error):
            raise NotSupportedError(f"compressed by {page.compression.name}: save it without, or by deflate") from error
        raise
    planar = bool(samples) and str(series.axes)[lead] == "S"
    array = array.reshape(pages, *(samples if planar else ()), *shape[1:3], *(() if planar or not samples else samples))
    array = np.moveaxis(array, 1, -1) if planar else array
    chosen = array[int(wanted) : int(wanted) + 1] if wanted else array
    if facts["colours"] == "white is 0" and np.dtype(dtype).kind == "u":
        chosen = (1 if series.dtype.kind == "b" else np.iinfo(dtype).max) - chosen
    return np.ascontiguousarray(chosen.astype(dtype))


def _by_libtiff(path: Path, facts: dict[str, Any], wanted: str, known: str) -> Array:
    """What tifffile needs a further package for, by the libtiff inside Pillow: one page of a common kind."""
    from PIL import Image

    pages, dtype = facts["shape"][0], np.dtype(facts["dtype"])
    with Image.open(path, formats=["TIFF"]) as image:
        if image.mode not in (*_MODES, "I;16B", "F") or (dtype.itemsize > 1 and image.mode not in ("I;16", "I;16B")):
            raise NotSupportedError(f"{dtype} pixels compressed by {known}: save it without, or by deflate")
        found = []
        for page in [int(wanted)] if wanted else range(pages):
            image.seek(page)
            array = np.asarray(image.convert("RGB") if image.mode == "YCbCr" else image)
            if list(array.shape) != facts["shape"][1:]:
                raise FileError("damaged: its pages are not of the size that it states")
            found.append(array.astype(dtype, copy=False))
    return np.stack(found)


def _tiff_palette(page: Any) -> list[list[int]]:
    """The colours of the palette; 16 bits a sample in the file."""
    table = np.asarray(page.colormap)
    if table.ndim != 2 or len(table) != 3:
        raise FileError("damaged: an image of palette colours without a palette")
    return [[int(v) for v in colour] for colour in (table.T[:65536] >> 8)]


def _tiff_dpi(file: Any, page: Any) -> list[float] | None:
    """(x, y) dots per inch of a page that counts in inches, and of which no microscope says more."""
    per_unit = [_rational(page.tags.valueof(tag, default=None)) for tag in (282, 283)]
    in_inches = int(page.tags.valueof(296, default=2)) == 2 and not file.is_imagej
    return per_unit if in_inches and all(per_unit) else None


def _tiff_spacing(file: Any, page: Any, dpi: list[float] | None) -> list[float] | None:
    """(y, x) in mm as ImageJ or the resolution of the page states it; None where nothing does."""
    per_unit = [_rational(page.tags.valueof(tag, default=None)) for tag in (283, 282)]
    unit = {2: _INCH_MM, 3: _CM_MM}.get(int(page.tags.valueof(296, default=1 if file.is_imagej else 2)), 0.0)
    if file.is_imagej:
        name = str((file.imagej_metadata or {}).get("unit", "")).strip()
        unit = units.millimetres(name) or unit
    if not unit or not all(per_unit):
        return None
    if dpi is not None and _is_screen(dpi):
        return None
    return [unit / value for value in per_unit]


def _rational(value: object) -> float:
    """A fraction of two numbers; 0 for one that says nothing."""
    if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
        return 0.0
    return float(value[0]) / float(value[1])


def _ome_spacing(xml: str | None) -> list[float] | None:
    """PhysicalSizeY and X of the first image of OME-XML. The text is searched, not parsed: it may be hostile."""
    found = []
    for axis in "YX":
        size = re.search(rf'PhysicalSize{axis}="([0-9.eE+-]{{1,40}})"', xml or "")
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]{{1,20}})"', xml or "")
        scale = units.millimetres(unit[1] if unit else "µm") or 0.0
        found.append(float(size[1]) * scale if size else 0.0)
    return found if all(math.isfinite(value) and value > 0 for value in found) else None
