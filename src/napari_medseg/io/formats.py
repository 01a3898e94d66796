"""Volumes and labels from files and back: `read`, `read_segmentation`, `write`.

A format is a row in one table: its suffixes and its module, which is imported when it is needed. The module has
``load(path, *, as_labels) -> Stored``; ``peek``, which does the same without the voxels; and ``save(path, stored)``.
A module whose paths name many parts also has ``loader(path)``, which loads each of them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np

from napari_medseg.errors import FileError, InputError, warn
from napari_medseg.io import choice, stored
from napari_medseg.io.dicom.mark import files_below, is_dicom
from napari_medseg.io.disk import files
from napari_medseg.io.stored import Stored
from napari_medseg.volume import Grid, Outline, Segmentation, Volume

__all__ = ["FORMATS", "Format", "load", "loader", "peek", "read", "read_segmentation", "strip_suffix", "write"]


@dataclass(frozen=True)
class Format:
    """A file format: pure data. Its module is imported when the first file of the format comes."""

    name: str
    module: str
    written: tuple[str, ...]
    """Suffixes that are both read and written, lower case."""
    read_only: tuple[str, ...] = ()
    is_flat: bool = False
    """Whether it holds 2D images only."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return self.written + self.read_only

    def load(self, path: Path, *, as_labels: bool) -> Stored:
        """What the file holds, before it becomes an image or labels."""
        loaded: Stored = importlib.import_module(self.module).load(path, as_labels=as_labels)
        return loaded

    def peek(self, path: Path, *, as_labels: bool) -> Stored:
        """As `load`, from headers alone: the voxels are `stored.Unread`, or still on the disk."""
        found: Stored = importlib.import_module(self.module).peek(path, as_labels=as_labels)
        return found

    def loader(self, path: Path) -> Callable[[Path], Stored]:
        """`load` for a path and each of its parts; what all of them share is read once, where the format has such."""
        module = importlib.import_module(self.module)
        found: Callable[[Path], Stored] = getattr(module, "loader", lambda _: partial(module.load, as_labels=False))(
            path
        )
        return found

    def save(self, path: Path, content: Stored) -> None:
        """Write to a path of one of the written suffixes, atomically."""
        importlib.import_module(self.module).save(path, content)


FORMATS = {
    f.name: f
    for f in (
        Format("NIfTI", "napari_medseg.io.nifti", (".nii.gz", ".nii", ".hdr", ".img")),
        Format("NRRD", "napari_medseg.io.itk.format", (".nrrd", ".nhdr", ".seg.nrrd")),
        Format("MetaImage", "napari_medseg.io.itk.format", (".mha", ".mhd")),
        Format("OME-Zarr", "napari_medseg.io.zarr.format", (".ome.zarr", ".zarr")),
        Format("DICOM", "napari_medseg.io.dicom.format", (".dcm",), (".ima",)),
        Format(
            "2D image", "napari_medseg.io.raster.format", (".png", ".tif", ".tiff", ".bmp"), (".jpg", ".jpeg"), True
        ),
    )
}
_BY_SUFFIX = {suffix: f for f in FORMATS.values() for suffix in f.suffixes}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".dcm.gz")
_MOST_LOOKED = 10_000
"""The most files below a folder that are looked at for a DICOM file."""
_ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def read(path: str | PathLike[str]) -> Volume:
    """The image in a file or an OME-Zarr folder, as stored: axes (k, j, i), never flipped or permuted.

    A file is read into memory and keeps its type; an OME-Zarr is opened and not read. Raises FileError for a path that
    is missing, damaged or of no known format, NotSupportedError for time series.
    """
    return volume_in(path, strip_suffix(path))


def read_segmentation(path: str | PathLike[str]) -> Segmentation:
    """The labels in a file, an OME-Zarr label image or the one in an image's labels group.

    Float labels within 1e-3 of whole numbers are rounded with a warning. Raises as `read`, and InputError for
    fractions, NaN, several channels and ids outside 0 .. 2^31 - 1.
    """
    return labels_in(path, strip_suffix(path))


def volume_in(path: str | PathLike[str], name: str) -> Volume:
    """As `read`, under another name than the file's."""
    return stored.to_volume(_stored(path, as_labels=False), name)


def labels_in(path: str | PathLike[str], name: str) -> Segmentation:
    """As `read_segmentation`, under another name than the file's."""
    return stored.to_segmentation(_stored(path, as_labels=True), name, str(path))


def peek(path: str | PathLike[str], *, as_labels: bool = False) -> Outline:
    """What a file holds, from its headers: grid, channels, type, whether it holds labels. No voxel is decoded.

    as_labels: take it as `read_segmentation` does. Raises as `read`, except for faults that only the voxels show, such
    as a damaged stream or labels with fractions.
    """
    source = Path(path)
    content = format_of(source).peek(source, as_labels=as_labels)
    return stored.to_outline(content, strip_suffix(path), as_labels=as_labels)


def load(path: str | PathLike[str], *, as_labels: bool = False) -> Volume | Segmentation:
    """The labels in a file that says that it holds labels, else the image.

    as_labels: take it as `read_segmentation` does, whatever the file says.
    """
    return _noun(_stored(path, as_labels=as_labels), path, as_labels=as_labels)


def loader(path: str | PathLike[str]) -> Callable[[str], Volume | Segmentation]:
    """`load` for a path and for each part that its refusal names, such as the series of a folder of DICOM files.

    What the parts share, such as the headers of that folder, is read once.
    """
    source = Path(path)
    load_part = format_of(source).loader(source)
    return lambda part: _noun(load_part(Path(part)), part)


def _noun(content: Stored, path: str | PathLike[str], *, as_labels: bool = False) -> Volume | Segmentation:
    as_noun = stored.to_segmentation if as_labels or content.is_labels else stored.to_volume
    return as_noun(content, strip_suffix(path))


def write(
    path: str | PathLike[str],
    x: Volume | Segmentation,
    *,
    provenance: Mapping[str, object] | None = None,
    source: str | PathLike[str] | None = None,
) -> None:
    """Write an image or labels. The suffix decides the format; axis order and affine are kept.

    provenance: how it was made (any value that JSON can hold), instead of what `x` says; it is written to the format's
    place for text. source: the DICOM series that labels lie on; a .dcm (DICOM-SEG) refers to it. An existing file is
    replaced at the end, and stays as it was on a fault. Raises InputError for an unknown suffix, for a .dcm without a
    source, for ids outside 0 .. 2^31 - 1 and for a provenance that JSON cannot hold, FileError where the file cannot be
    written. A 2D format holds one slice: InputError for a volume.
    """
    target = Path(path)
    files.check_name(target)
    suffix = _suffix(target)
    format_ = _BY_SUFFIX.get(suffix)
    if format_ is None or suffix not in format_.written:
        known = ", ".join(s for f in FORMATS.values() for s in f.written)
        raise InputError(f"{target}: no format is written under this name: end it in one of {known}")
    _check_source(target, format_, source)
    if format_.name != "OME-Zarr":
        files.check_no_folder(target)
    if x.grid.in_pixels and not format_.is_flat:
        warn(f"{target}: nothing says how large a pixel is, and 1 mm is written")
    content = stored.from_noun(x if provenance is None else replace(x, provenance=provenance))
    try:
        json.dumps(dict(content.provenance))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{target}: the provenance must be values that JSON can hold: {error}") from error
    format_.save(target, content if source is None else replace(content, source=Path(source)))


def check_fits(path: Path, grid: Grid, source: Path | None = None) -> None:
    """Raise as `write` would for labels on a grid, before the work that makes them. source: as of `write`.

    The suffix of the path is one that is written.
    """
    format_ = _BY_SUFFIX[_suffix(path)]
    _check_source(path, format_, source)
    if format_.name == "DICOM":
        from napari_medseg.io.dicom.seg import labelled

        labelled(path, grid, source)
    elif format_.is_flat:
        from napari_medseg.io.raster.writer import check_flat

        check_flat(path, grid)


def _check_source(path: Path, format_: Format, source: object) -> None:
    if source is not None and format_.name != "DICOM":
        raise InputError(
            f"{path}: only DICOM segmentations (.dcm) refer to a source; {format_.name} has no place for it"
        )


def _stored(path: str | PathLike[str], *, as_labels: bool) -> Stored:
    source = Path(path)
    return format_of(source).load(source, as_labels=as_labels)


def format_of(path: Path) -> Format:
    """The format of an existing file or folder, or of a part of one (`FOLDER#SERIES`, `FILE#3`). Raises FileError."""
    whole, part = choice.split(path)
    if part and not whole.name.lower().endswith(_ARCHIVES):
        return FORMATS["OME-Zarr"] if _is_zarr(whole) else _BY_SUFFIX.get(_suffix(whole), FORMATS["DICOM"])
    status = files.status_of(whole)
    suffix = _suffix(path)
    if path.is_dir():
        return _format_of_folder(path)
    if suffix in (".ome.zarr", ".zarr"):
        raise FileError(f"{path}: an OME-Zarr is a folder; this is a file of {status.st_size} bytes")
    if suffix not in _BY_SUFFIX and is_dicom(path):
        return FORMATS["DICOM"]
    check_no_archive(whole)
    if suffix not in _BY_SUFFIX:
        raise FileError(f"{path}: not a known image format: its name must end in one of {', '.join(_BY_SUFFIX)}")
    return _BY_SUFFIX[suffix]


def check_no_archive(path: Path) -> None:
    """FileError for a name of an archive."""
    if path.name.lower().endswith(_ARCHIVES):
        raise FileError(f"{path}: an archive: unpack it, and name the folder or file that comes out")


def is_flat(path: Path) -> bool:
    """Whether a file, by its name, is a 2D image."""
    found = _BY_SUFFIX.get(_suffix(path))
    return found is not None and found.is_flat


def labels_on(path: str | PathLike[str], name: str, grid: Grid) -> Segmentation:
    """As `labels_in`, for labels that belong to an image on this grid.

    A 2D image that does not say how large its pixels are takes their size from the grid, if it has as many of them: a
    camera states a size, and a program that draws masks drops it. A camera also turns its pictures by Exif, and a mask
    is drawn on what is shown: both are upright.
    """
    labels = labels_in(path, name)
    if not labels.grid.in_pixels:
        return labels
    size = np.diag([*np.abs(grid.affine[:3, :3]).sum(axis=1), 1.0])
    upright = Grid(labels.grid.shape, size @ labels.grid.affine, in_pixels=grid.in_pixels)
    if upright.order_onto(grid) is not None:
        return replace(labels, grid=upright)
    return replace(labels, grid=grid) if labels.grid.shape == grid.shape else labels


def strip_suffix(path: str | PathLike[str]) -> str:
    """The file name without its format's suffix: "a.b.nii.gz" becomes "a.b", a part "a.nii#3" becomes "a#3"."""
    whole, part = choice.split(Path(path))
    if part:
        return f"{strip_suffix(whole)}#{part}"
    name = Path(path).name
    return name[: len(name) - len(_suffix(Path(path)))]


def _suffix(path: Path) -> str:
    """The longest known suffix of a name, lower case; for an unknown name whatever follows its last dot."""
    name = path.name.lower()
    known = [suffix for suffix in _BY_SUFFIX if name.endswith(suffix) and name != suffix]
    # A number behind a dot is part of the name: folders of DICOM series are often called by their UIDs.
    return max(known, key=len, default="" if path.suffix[1:].isdecimal() else path.suffix.lower())


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _ZARR_FILES) or path.suffix.lower() == ".zarr"


def _format_of_folder(path: Path) -> Format:
    if _is_zarr(path):
        return FORMATS["OME-Zarr"]
    if any(is_dicom(file) for file in sorted(path.iterdir())):
        return FORMATS["DICOM"]
    inside = sorted(file.name for file in path.iterdir() if _suffix(file) in _BY_SUFFIX and file.name[0] != ".")
    if inside:
        raise FileError(
            f"{path}: a folder of {len(inside)} files such as {inside[0]:.100}, where one image is expected: name one "
            f"of them; segment, interact and propagate take all with --images {path}, other commands in a loop of the "
            f"shell over {path}/*{_suffix(path / inside[0])}"
        )
    if any(is_dicom(file) for file in islice(files_below(path), _MOST_LOOKED)):
        return FORMATS["DICOM"]
    archives = [file.name for file in sorted(path.iterdir()) if file.name.lower().endswith(_ARCHIVES)]
    packed = f"; unpack {archives[0]:.100} first" if archives else ""
    raise FileError(
        f"{path}: no image in this folder: neither an OME-Zarr (zarr.json, .zattrs) nor a DICOM series{packed}"
    )
