"""One case of many: an image with what is annotated in it, in files or in memory, opened when it is needed.

Training, segmentation and measurement all walk over such cases. A case is small and crosses processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_medseg import io
from napari_medseg.errors import InputError
from napari_medseg.io.folders import match_by_name
from napari_medseg.volume import Outline, Segmentation, Volume, require_same_grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """The images and the labels of one case.

    A path may choose a part of what it names: `FOLDER#SERIES`, `FILE#TIME`, `FILE#SEGMENTS`.
    """

    name: str
    """What tells the case from the others; empty for an only one."""
    images: tuple[Path | Volume, ...] = ()
    """The image; several are its channels, in that order."""
    labels: Path | Segmentation | None = None
    """What is annotated, by a person or another reference; None where nothing is."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """{what it is: where it lies} of further files, such as a prediction or the labels of another reader."""

    def peek(self) -> Outline:
        """The image without its voxels. Raises as `volume`, but for what only the voxels show."""
        seen = [io.peek(x) if isinstance(x, Path) else _outline(x) for x in self._sources()]
        first = replace(seen[0], name=self.name or seen[0].name)
        for other in seen[1:]:
            require_same_grid(first, other, "channel", "channel")
        return replace(first, channels=tuple(channel for outline in seen for channel in outline.channels))

    def volume(self) -> Volume:
        """The image, under the name of the case; read now where it lies in files.

        Raises as `io.read`, GridMismatchError where the channels lie apart, InputError for a case without an image.
        """
        volumes = [io.read(x) if isinstance(x, Path) else x for x in self._sources()]
        stacked = _stacked(volumes)
        return replace(stacked, name=self.name) if self.name else stacked

    def segmentation(self) -> Segmentation:
        """The labels. Raises as `io.read_segmentation`, InputError for a case without labels."""
        if self.labels is None:
            raise InputError(f"case {self.name!r} has no labels: give the file or the Segmentation of its labels")
        return io.read_segmentation(self.labels) if isinstance(self.labels, Path) else self.labels

    def load(self) -> tuple[Volume, Segmentation]:
        """Image and labels."""
        return self.volume(), self.segmentation()

    def _sources(self) -> tuple[Path | Volume, ...]:
        if not self.images:
            raise InputError(f"case {self.name!r} has no image: give its file or Volume")
        return self.images


def cases_from_folders(images: Sequence[str | Path], labels: str | Path) -> list[Case]:
    """Cases from folders of images (one folder per channel, in that order) and of labels, paired by file name.

    Raises InputError where no folder of images is given; else as `match_by_name`.
    """
    if not images:
        raise InputError("training needs at least one folder of images; got none")
    matched = match_by_name([Path(folder) for folder in (*images, labels)])
    return [Case(name=name, images=paths[:-1], labels=paths[-1]) for name, paths in matched.paths.items()]


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
    for other in volumes[1:]:
        require_same_grid(first, other, "channel", "channel")
    data = np.concatenate([np.asarray(volume.data[...]) for volume in volumes])
    return Volume(data, first.grid, tuple(channel for volume in volumes for channel in volume.channels))
