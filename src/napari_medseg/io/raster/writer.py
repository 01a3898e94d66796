"""Writes one slice as PNG, BMP or TIFF. JPEG is not written: it changes the values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_medseg.errors import InputError, warn
from napari_medseg.geometry import AxisOrder
from napari_medseg.io import attributes
from napari_medseg.io.disk import files
from napari_medseg.io.raster import place
from napari_medseg.io.raster.parser import TEXT_KEY
from napari_medseg.io.stored import Stored, in_memory
from napari_medseg.volume import Grid, label_dtype

Array = npt.NDArray[Any]

_TIFF = (".tif", ".tiff")
_SCREEN = "IPL"
"""The directions in which the axes run on the screen, of which one has length 1."""
_CM_MM, _METRE_MM = 10.0, 1000.0


def save(path: Path, stored: Stored) -> None:
    """See `format.save`."""
    array, grid = _slice(in_memory(stored, path), stored.grid, path)
    _warn_of_lost_place(grid, path)
    spacing = None if grid.in_pixels else (grid.spacing[1], grid.spacing[2])
    content = {attributes.KEY: attributes.to_json_object(stored)}
    text = json.dumps({**content, **({place.SPACING_KEY: spacing} if spacing else {})})
    if not content[attributes.KEY] and spacing is None:
        text = ""
    if stored.is_labels:
        array = array.astype(label_dtype(int(array.max(initial=0))))
    is_tiff = path.suffix.lower() in _TIFF
    pixels = array if is_tiff else _pixels(array, path)
    with files.replacing(path, array.nbytes) as temporary:
        if is_tiff:
            _write_tiff(temporary, pixels, spacing, text)
        elif path.suffix.lower() == ".bmp":
            if stored.labels or stored.colours or stored.provenance or spacing:
                what = "no names or colours of labels, no provenance and no size of a pixel"
                warn(f"{path}: BMP holds {what}: write .png to keep them")
            Image.fromarray(pixels).save(temporary, format="BMP")
        else:
            _write_png(temporary, pixels, spacing, text, stored)


def _slice(array: Array, grid: Grid, path: Path) -> tuple[Array, Grid]:
    """(Y, X) or (C, Y, X) of the slice, as it lies on the screen, and its grid with the slice's axis first."""
    order = AxisOrder.between(grid.orientation, _SCREEN)
    turned, there = order.apply(array), grid.reordered(order)
    check_flat(path, grid)
    axis = there.shape.index(1)
    first = AxisOrder((axis, *(a for a in range(3) if a != axis)), (False, False, False))  # type: ignore[arg-type]
    return np.take(turned, 0, axis=turned.ndim - 3 + axis), there.reordered(first)


def check_flat(path: Path, grid: Grid) -> None:
    """Raise InputError unless the grid is one slice."""
    if 1 not in grid.shape:
        raise InputError(
            f"{path}: a 2D format holds one slice; got {' x '.join(map(str, grid.shape))} voxels: write .nii.gz, or "
            f"cut one slice out"
        )


def _warn_of_lost_place(grid: Grid, path: Path) -> None:
    upright = place.grid(grid.shape, (grid.spacing[1], grid.spacing[2]), 1)
    if not upright.same_as(grid):
        warn(f"{path}: 2D formats hold no place in the patient: the position and the direction of the slice are lost")


def _pixels(array: Array, path: Path) -> Array:
    """(Y, X) of 8 or 16 bits, or (Y, X, 3) of 8 bits. Raises InputError for what PNG and BMP do not hold."""
    most = 255 if path.suffix.lower() == ".bmp" or array.ndim == 3 else 65535
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim == 3 and len(array) == 1:
        return _pixels(array[0], path)
    if (array.ndim == 3 and len(array) != 3) or array.dtype.kind not in "iu":
        what = f"{len(array)} channels" if array.ndim == 3 and len(array) != 3 else f"values of type {array.dtype}"
        raise InputError(f"{path}: this format holds no {what}: write .tif instead")
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > most:
        raise InputError(
            f"{path}: values from {low} to {high} do not fit this format (0 to {most}): write .tif instead"
        )
    # The type says how deep the pixels are: 16 bits stay 16 bits.
    kind = np.uint8 if high <= 255 and (most == 255 or array.dtype.itemsize == 1) else np.uint16
    return np.ascontiguousarray(np.moveaxis(array, 0, -1) if array.ndim == 3 else array).astype(kind)


def _write_png(path: Path, pixels: Array, spacing: tuple[float, float] | None, text: str, stored: Stored) -> None:
    image = Image.fromarray(pixels)
    if stored.is_labels and stored.colours and pixels.dtype == np.uint8:
        palette = np.zeros((256, 3), np.uint8)
        for label, colour in stored.colours.items():
            if label < len(palette):
                palette[label] = colour
        image.putpalette(palette.tobytes())  # the pixels stay ids
    info = PngInfo()
    if text:
        info.add_text(TEXT_KEY, text)
    if spacing:
        per_metre = [min(max(round(_METRE_MM / mm), 1), 2**32 - 1) for mm in spacing]
        info.add(b"pHYs", b"".join(n.to_bytes(4, "big") for n in per_metre[::-1]) + b"\x01")
    image.save(path, format="PNG", pnginfo=info)


def _write_tiff(path: Path, pixels: Array, spacing: tuple[float, float] | None, text: str) -> None:
    is_rgb = pixels.ndim == 3 and len(pixels) == 3 and pixels.dtype in (np.uint8, np.uint16)
    several = pixels.ndim == 3 and len(pixels) > 1 and not is_rgb
    data = np.moveaxis(pixels, 0, -1) if is_rgb else pixels[0] if pixels.ndim == 3 and not several else pixels
    options: dict[str, Any] = {}
    if several or is_rgb:
        options["planarconfig"] = "separate" if several else "contig"
    if spacing:
        options |= {"resolution": (_CM_MM / spacing[1], _CM_MM / spacing[0]), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path,
        np.ascontiguousarray(data.astype(np.uint8) if data.dtype == bool else data),
        photometric="rgb" if is_rgb else "minisblack",
        compression="zlib",
        metadata=None,
        description=text or None,
        **options,
    )
