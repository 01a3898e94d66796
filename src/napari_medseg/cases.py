"""One case of many: an image with what is annotated in it, in files or in memory, opened when it is needed.

Training, segmentation and measurement all walk over such cases. A case is small and crosses processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_medseg import io
from napari_medseg.arrays.views import onto
from napari_medseg.errors import FileError, InputError, MedsegError, warn
from napari_medseg.io import formats
from napari_medseg.io.choice import PointError
from napari_medseg.io.folders import by_channel, images_by_name, is_folder_of_images, match_by_name, partners
from napari_medseg.io.stored import image_for_labels
from napari_medseg.volume import Grid, Outline, Segmentation, Volume, plain_channels, require_order_onto


class LabelSource(Protocol):
    """Labels that are made from files of another kind, such as a mask for each object. It crosses processes."""

    def read(self, grid: Grid | None) -> Segmentation:
        """The labels. grid: that of the image, where it is known."""
        ...


class ImageSource(Protocol):
    """An image that is made from something else, such as labels. It crosses processes."""

    def read(self) -> Volume:
        """The image."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """The images and the labels of one case.

    A path may choose a part of what it names: `FOLDER#SERIES`, `FILE#TIME`, `FILE#SEGMENTS`.
    """

    name: str
    """What tells the case from the others; empty for an only one."""
    images: tuple[Path | Volume | ImageSource, ...] = ()
    """The image; several are its channels, in that order."""
    channels: tuple[str, ...] = ()
    """Names of the channels, where the images have none of their own."""
    labels: Path | Segmentation | LabelSource | None = None
    """What is annotated, by a person or another reference; None where nothing is."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """{what it is: where it lies} of further files, such as a prediction or the labels of another reader."""
    group: str = ""
    """Whom the case shows, such as a patient with several scans; empty where no other case is known to show the same.
    A training shares out whole groups."""

    def peek(self) -> Outline:
        """The image without its voxels. Raises as `volume`, but for what only the voxels show."""
        seen = [io.peek(x) if isinstance(x, Path) else _outline(_read(x)) for x in self._sources()]
        first = replace(seen[0], name=self.name or seen[0].name)
        for other in seen[1:]:
            require_order_onto(other, first, "channel", "channel")
        return replace(first, channels=self._named([channel for outline in seen for channel in outline.channels]))

    def volume(self) -> Volume:
        """The image, under the name of the case; read now where it lies in files.

        Raises as `io.read`, GridMismatchError where the channels lie apart, InputError for a case without an image.
        """
        volumes = [_read(x) for x in self._sources()]
        stacked = _stacked(volumes)
        stacked = replace(stacked, channels=self._named(stacked.channels))
        return replace(stacked, name=self.name) if self.name else stacked

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        """The labels. Raises as `io.read_segmentation`, InputError for a case without labels and for an image in a
        file of labels.

        grid: that of the image. Labels on the same grid with its axes flipped or in another order are brought onto it;
        labels in a 2D image that does not say how large its pixels are lie on it.
        """
        labels = self._labels_read(grid)
        return labels if grid is None else onto(labels, grid)

    def _labels_read(self, grid: Grid | None) -> Segmentation:
        if self.labels is None:
            raise InputError(f"case {self.name!r} has no labels: give the file or the Segmentation of its labels")
        if isinstance(self.labels, Segmentation):
            return self.labels
        return only_labels_at(self.labels, grid) if isinstance(self.labels, Path) else self.labels.read(grid)

    def load(self) -> tuple[Volume, Segmentation]:
        """Image and labels, these on the grid of the image where that takes flips and permutations of axes alone."""
        volume = self.volume()
        return volume, self.segmentation(volume.grid)

    def _named(self, own: Sequence[str]) -> tuple[str, ...]:
        """The channels' names: their own where one is no mere number, else those of the case, else numbers."""
        plain = plain_channels(len(own))
        if not set(own) <= set(plain):
            return tuple(own)
        return self.channels if len(self.channels) == len(own) else plain

    def _sources(self) -> tuple[Path | Volume | ImageSource, ...]:
        if not self.images:
            raise InputError(f"case {self.name!r} has no image: give its file or Volume")
        return self.images


def groups_of(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases that show the same, in the order in which each group is met first; most often each case by itself."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.group, "" if case.group else case.name), []).append(case)
    return list(groups.values())


def labels_at(path: Path, grid: Grid | None) -> Segmentation:
    """The labels in a file. grid: that of the image, for a 2D image that does not say how large its pixels are."""
    return io.read_segmentation(path) if grid is None else formats.labels_on(path, formats.strip_suffix(path), grid)


def only_labels_at(path: Path, grid: Grid | None) -> Segmentation:
    """As `labels_at`. Raises InputError where an image lies in place of the labels."""
    found = labels_at(path, grid)
    if told := image_for_labels(found, path):
        raise InputError(told)
    return found


def cases_from_folders(images: Sequence[str | Path], labels: str | Path) -> list[Case]:
    """Cases from folders of images (one folder per channel, in that order) and of labels, paired by file name.

    In a single folder NAME_0000 and NAME_0001 are the channels of NAME, as nnU-Net names them. Raises InputError where
    no folder of images is given; else as `match_by_name`.
    """
    if not images:
        raise InputError("training needs at least one folder of images; got none")
    folders = [Path(folder) for folder in images]
    grouped = _grouped(folders[0], images_by_name(Path(labels))) if len(folders) == 1 else {}
    if grouped:
        annotated = partners(Path(labels), list(grouped))
        return [Case(name=name, images=grouped[name], labels=path) for name, path in annotated.items()]
    matched = match_by_name([*folders, Path(labels)], "; --unlabelled gives images without labels to a scheme for them")
    names = channel_names(folders)
    return [
        Case(name=name, images=with_channels(paths[:-1]), labels=paths[-1], channels=names)
        for name, paths in matched.paths.items()
    ]


def cases_of_labels(folder: str | Path) -> list[Case]:
    """Cases without images from a folder of labels. Raises as `images_by_name`, InputError for an empty folder."""
    found = images_by_name(Path(folder))
    if not found:
        raise InputError(f"{folder} holds no labels: give a folder with a label file for each case")
    return [Case(name=name, labels=path) for name, path in found.items()]


def cases_of_images(sources: Sequence[Path]) -> list[Case]:
    """Cases without labels from one source per channel, in that order: files of one case, or folders of several.

    Files of folders are matched by name. In a single folder NAME_0000 and NAME_0001 are the channels of NAME. Raises
    InputError for files beside folders; else as `match_by_name`.
    """
    folders = [is_folder_of_images(path) and not _is_one_image(path) for path in sources]
    if not any(folders):
        name = formats.strip_suffix(sources[0])
        found = {name: tuple(sources)} if len(sources) > 1 else by_channel({name: sources[0]})
        return [Case(name=name, images=with_channels(paths)) for name, paths in found.items()]
    if not all(folders):
        raise InputError(f"{', '.join(map(str, sources))}: give a file for each channel or a folder, not both")
    if len(sources) == 1:
        found = by_channel(images_by_name(sources[0]))
        return [Case(name=name, images=with_channels(paths)) for name, paths in found.items()]
    names = channel_names(sources)
    matched = match_by_name(sources).paths
    return [Case(name=name, images=with_channels(paths), channels=names) for name, paths in matched.items()]


def cases_without_labels(folder: Path) -> list[Case]:
    """The images in a folder, or in an only file, as cases to learn from without labels.

    Raises FileError for a folder without an image; else as `cases_of_images`.
    """
    found = cases_of_images([folder])
    if not found:
        raise FileError(f"{folder} holds no image that can be read: give a folder of images without labels")
    return found


def channel_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The names of folders as those of the channels in them; empty where there is one, or two have the same name."""
    names = tuple(folder.resolve().name for folder in folders)
    return names if len(names) > 1 and len(set(names)) == len(names) else ()


def warn_of_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """One warning for each thing that files of cases leave open, such as how large a pixel is. notes: {case: notes}."""
    found: dict[str, list[str]] = {}
    for name, told in notes.items():
        for note in told:
            found.setdefault(note, []).append(name)
    for note, names in found.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warn(f"{names[0]}{more}: {note}")


def _grouped(folder: Path, labels: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """{name: files of its channels} where images go with labels without the number of the channel; else empty."""
    images = images_by_name(folder)
    grouped = by_channel(images)
    return grouped if not images.keys() & labels.keys() and grouped.keys() & labels.keys() else {}


def _is_one_image(path: Path) -> bool:
    """Whether a folder is one image: a DICOM series."""
    try:
        formats.format_of(path)
    except FileError:
        return False
    return True


def with_channels(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths; an only file whose fourth axis could be time gives its channels, for a model sees no time."""
    if len(paths) != 1:
        return tuple(paths)
    try:
        io.peek(paths[0])
    except PointError:
        return (paths[0].with_name(f"{paths[0].name}#channels"),)
    except MedsegError:  # told when the image is opened
        pass
    return tuple(paths)


def _read(image: Path | Volume | ImageSource) -> Volume:
    if isinstance(image, Path):
        return io.read(image)
    return image if isinstance(image, Volume) else image.read()


def _outline(volume: Volume) -> Outline:
    return Outline(
        grid=volume.grid,
        dtype=np.dtype(volume.data.dtype),
        channels=volume.channels,
        is_labels=False,
        name=volume.name,
        provenance=volume.provenance,
    )


def _stacked(volumes: Sequence[Volume]) -> Volume:
    first = volumes[0]
    if len(volumes) == 1:
        return first
    orders = [require_order_onto(other, first, "channel", "channel") for other in volumes]
    data = np.concatenate(
        [order.apply(np.asarray(volume.data[...])) for order, volume in zip(orders, volumes, strict=True)]
    )
    return Volume(data, first.grid, tuple(channel for volume in volumes for channel in volume.channels))
