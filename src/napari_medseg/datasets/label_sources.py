"""Labels as data sets publish them: ids without names, masks of 0 and 255, a mask for each object, outlines in XML.

Shapes: a mask is (1, Y, X). Every source is a `LabelSource` of `cases`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_medseg import io
from napari_medseg.cases import Case, labels_at
from napari_medseg.datasets.outlines import outlines_in
from napari_medseg.errors import FileError, InputError
from napari_medseg.io.folders import images_by_name
from napari_medseg.transforms.annotated import with_ignore_label
from napari_medseg.transforms.regions import Pass
from napari_medseg.volume import Grid, Segmentation

_JPEG = (".jpg", ".jpeg")
_HALF = 127
"""A pixel of a mask is inside where it is above this; in a mask of 0 and 1, above 0."""


@dataclass(frozen=True, eq=False)
class Named:
    """A label file whose ids have names that it does not hold itself."""

    path: Path
    names: Mapping[int, str] = field(default_factory=dict)

    def read(self, grid: Grid | None) -> Segmentation:
        found = labels_at(self.path, grid)
        return replace(found, labels={**self.names, **found.labels})


@dataclass(frozen=True, eq=False)
class Own:
    """The labels of a case with what holds for its data set alone: regions, and an id of what nobody annotated."""

    case: Case
    regions: Pass
    ignored: int | None
    """The id of what nobody annotated in the set."""
    ignore_label: int | None
    """The id that this gets."""

    def read(self, grid: Grid | None) -> Segmentation:
        return with_ignore_label(self.regions.of(self.case.segmentation(grid)), self.ignored, self.ignore_label)


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask of one structure: bright pixels, or all numbers of objects, become label 1."""

    path: Path
    name: str
    objects: bool = False
    """Whether the values are numbers of objects, so that all above 0 are inside."""

    def read(self, grid: Grid | None) -> Segmentation:
        if self.path.suffix.lower() in _JPEG:  # lossy: no ids, yet halfway between black and white is exact enough
            volume = io.read(self.path)
            values, own = np.asarray(volume.data[...]).max(axis=0), volume.grid
        else:
            found = labels_at(self.path, grid)
            values, own = np.asarray(found.data[...]), found.grid
            if not self.objects and 1 < values.max() <= _HALF:
                raise FileError(
                    f"{self.path}: a mask of one structure holds 0 and 1, or black and white, as others here do; this "
                    f"one holds ids up to {values.max()}: give the folders as --images and --labels, which takes ids"
                )
        inside = values > (0 if self.objects or values.max() <= 1 else _HALF)
        placed = grid if grid is not None and own.shape == grid.shape and self.path.suffix.lower() in _JPEG else own
        return Segmentation(inside.astype(np.uint8), placed, {1: self.name}, name=io.formats.strip_suffix(self.path))


@dataclass(frozen=True, eq=False)
class MaskForEach:
    """A folder with a mask for each object; all of them together are label 1. Read once, then kept as bits."""

    folder: Path
    name: str

    def read(self, grid: Grid | None) -> Segmentation:
        bits, shape = self._union
        inside = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(1, *shape)
        placed = grid if grid is not None and grid.shape == inside.shape else Grid.from_spacing(inside.shape, (1, 1, 1))
        return Segmentation(inside, placed, {1: self.name}, name=self.folder.parent.name)

    def objects(self, grid: Grid | None) -> Segmentation:
        """The number of the object of each pixel, from 1 on; of masks that overlap the last one's."""
        together = self.read(grid)
        numbers = np.zeros(together.grid.shape, np.int32)
        for number, path in enumerate(images_by_name(self.folder).values(), start=1):
            numbers[0][np.asarray(io.read_segmentation(path).data[...])[0] > 0] = number
        return Segmentation(numbers, together.grid, name=together.name)

    @functools.cached_property
    def _union(self) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        masks = images_by_name(self.folder).values()
        found: npt.NDArray[np.bool_] | None = None
        for path in masks:
            mask = np.asarray(io.read_segmentation(path).data[...])[0] > 0
            if found is not None and found.shape != mask.shape:
                raise FileError(f"{path}: {mask.shape} pixels, where the masks beside it have {found.shape}")
            found = mask if found is None else found | mask
        if found is None:
            raise InputError(f"{self.folder}: no mask in it: a mask for each object is expected")
        return np.packbits(found), (found.shape[0], found.shape[1])


@dataclass(frozen=True, eq=False)
class Outlines:
    """Objects outlined in an XML of Aperio's ImageScope; all of them together are label 1."""

    path: Path
    name: str

    def read(self, grid: Grid | None) -> Segmentation:
        if grid is None:
            raise InputError(f"{self.path}: outlines have no size of their own: read them with their image")
        from skimage.draw import polygon

        inside = np.zeros(grid.shape, np.uint8)
        for outline in outlines_in(self.path):
            rows, columns = polygon(outline[:, 1], outline[:, 0], grid.shape[1:])
            inside[0, rows, columns] = 1
        return Segmentation(inside, grid, {1: self.name}, name=self.path.stem)
