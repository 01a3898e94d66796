"""Files of several folders that belong together: their names are equal without the format's suffix."""

from __future__ import annotations

import itertools
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.io import formats
from napari_medseg.io.choice import PointError


def natural(name: str) -> tuple[list[str | int], str]:
    """The key that sorts names as people do: numbers in them by value, so that t2 comes before t10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if odd else part for part, odd in zip(parts, itertools.cycle((False, True)), strict=False)], name


def is_folder_of_images(path: Path) -> bool:
    """Whether a path is a folder that holds images. An OME-Zarr is a folder too, and one image."""
    return path.is_dir() and path.suffix.lower() != ".zarr"


def images_by_name(folder: Path) -> dict[str, Path]:
    """{name without suffix: path} of the images in a folder, in natural order; hidden files are passed over.

    Beside volumes, 2D images are passed over too: they are previews and plots. Raises FileError where the folder
    is missing, InputError where two images have the same name.
    """
    if not folder.exists():
        raise FileError(f"no such folder: {folder}")
    if not folder.is_dir():
        formats.check_no_archive(folder)
        raise FileError(f"{folder}: a file, where a folder is expected: give the folder that holds it")
    found: dict[str, Path] = {}
    images = list(filter(_is_image, sorted(folder.iterdir(), key=lambda path: natural(path.name))))
    volumes = [path for path in images if not formats.is_flat(path)]
    for path in volumes or images:
        name = _composed(formats.strip_suffix(path))
        if name in found:
            segmented = any(p.name.lower().endswith(".seg.nrrd") for p in (found[name], path))
            way_out = "move the segmentations to a folder of their own" if segmented else "keep one of them"
            raise InputError(f"{folder}: {found[name].name} and {path.name} have the same name: {way_out}")
        found[name] = path
    return {name: found[name] for name in sorted(found, key=natural)}


def _composed(name: str) -> str:
    """A name as another system may write it: ö as one character, or as o and its dots. The eye sees no difference."""
    return unicodedata.normalize("NFC", name)


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its name. In a NIfTI pair only the header counts."""
    suffixes = tuple(suffix for format_ in formats.FORMATS.values() for suffix in format_.suffixes)
    is_second_half = any(
        path.suffix == image and path.with_suffix(header).exists()
        for image, header in ((".img", ".hdr"), (".IMG", ".HDR"))
    )
    return path.name.lower().endswith(suffixes) and not path.name.startswith(".") and not is_second_half


def by_channel(images: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """{name: the files of its channels} of images named as nnU-Net does: NAME_0000 and NAME_0001 are one case.

    Where a name has no such ending, or a number is missing, each image is a case of its own.
    """
    groups: dict[str, list[Path]] = {}
    for name in sorted(images, key=natural):
        stem, mark, number = name.rpartition("_")
        channels = groups.setdefault(stem, [])
        if not mark or number != f"{len(channels):04d}":
            return {name: (path,) for name, path in images.items()}
        channels.append(images[name])
    return {stem: tuple(paths) for stem, paths in groups.items()}


@dataclass(frozen=True)
class Matches:
    """The images of several folders that have the same name."""

    paths: Mapping[str, tuple[Path, ...]]
    """{name: its path in each folder} for the names that are in all folders, in natural order."""
    alone: Mapping[str, tuple[bool, ...]]
    """{name: whether each folder has it} for all other names, in natural order."""


def match_by_name(folders: Sequence[Path], hint: str = "") -> Matches:
    """Match the images of folders by their names without the format's suffix. One warning names those left out.

    hint: what can be done with those that the last folder lacks, at the end of the warning.
    Raises as `images_by_name`, and InputError where no name is in all folders.
    """
    found = [images_by_name(folder) for folder in folders]
    names = sorted(set().union(*found), key=natural)
    common = [name for name in names if all(name in images for images in found)]
    where = " and ".join(map(str, folders))
    if not common:
        _require_images(folders, found)
        raise InputError(
            f"{where} have no image of the same name: {' against '.join(map(_some, found))}: files are paired by name "
            f"without the suffix: rename those of one folder"
        )
    alone = {name: tuple(name in images for images in found) for name in names if name not in common}
    if alone:
        more = hint if any(not has[-1] for has in alone.values()) else ""
        warnings.warn(
            f"{len(alone)} images are not in all of {where} and are left out: {_some(list(alone))}{more}",
            MedsegWarning,
            stacklevel=2,
        )
    return Matches({name: tuple(images[name] for images in found) for name in common}, alone)


def partners(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """{name: path} of the images of a folder that have these names. One warning lists the names that are missing.

    A file is the partner of an only name. Raises as `images_by_name`, and InputError where no name has a partner.
    """
    if not is_folder_of_images(path):
        if len(names) > 1:
            formats.check_no_archive(path)
            raise InputError(f"{path}: {len(names)} cases need a folder with an image of the same name for each")
        return {names[0]: path}
    there = images_by_name(path)
    found = {name: there[_composed(name)] for name in names if _composed(name) in there}
    if not found:
        _require_images([path], [there])
        raise InputError(
            f"{path} has no image of the same name: {_some(there)} against {_some(list(names))}: rename one of them"
        )
    missing = [name for name in names if name not in found]
    if missing:
        warnings.warn(
            f"{len(missing)} cases have no image of their name in {path}: {_some(missing)}", MedsegWarning, stacklevel=2
        )
    return found


def _require_images(folders: Sequence[Path], found: Sequence[Mapping[str, Path]]) -> None:
    """Raise InputError for a folder whose files are all of other formats: its names are not what is wrong."""
    for folder, images in zip(folders, found, strict=True):
        others = [] if images else sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if others:
            known = ", ".join(suffix for format_ in formats.FORMATS.values() for suffix in format_.suffixes)
            raise InputError(
                f"{folder}: none of its {len(others)} files, such as {others[0]:.100}, is an image of a known format: "
                f"names end in {known}"
            )


def time_points(path: Path) -> list[Path]:
    """The paths of the time points in a label file, in order. A file of one volume is its only point."""
    try:
        formats.peek(path, as_labels=True)
    except PointError as series:
        return [Path(point) for point in series.points]
    return [path]


def _some(names: dict[str, Path] | list[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "") if listed else "none"
