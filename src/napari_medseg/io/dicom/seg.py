"""DICOM-SEG as labels: BINARY, FRACTIONAL (from one half on) and LABELMAP are read; highdicom writes them.

Segment numbers are the label ids. Overlapping segments are refused, with sets of segments that do not overlap. Empty
frames may be absent: the grid spans from the first to the last frame that is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from napari_medseg import geometry
from napari_medseg.errors import FileError, GridMismatchError, InputError, MedsegError, NotSupportedError, warn
from napari_medseg.geometry import AxisOrder
from napari_medseg.io import attributes, choice
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.dicom.codes import colour_of
from napari_medseg.io.dicom.geometry import PlaneStack, sparse_stack
from napari_medseg.io.dicom.header import DicomHeader, check_pixels, items, numbers, read_header, text
from napari_medseg.io.dicom.mark import is_dicom
from napari_medseg.io.dicom.pixels import decode
from napari_medseg.io.dicom.planes import DicomPlane, geometry_of, planes_of
from napari_medseg.io.dicom.series import Series, choose
from napari_medseg.io.dicom.stacks import arranged
from napari_medseg.io.disk import files, memory
from napari_medseg.io.stored import Stored, Unread, grid_of, in_memory
from napari_medseg.volume import RESAMPLE, Colour, Grid, LazyArray, label_dtype

Array = npt.NDArray[Any]

_BATCH = 256
"""Frames that are decoded at once."""
_MAX_LABELMAP = 2**16 - 1
_MAX_CIELAB = 2**16 - 1
_VOXEL_BYTES = 4
"""The largest type of a label."""


@dataclass(frozen=True)
class _Segments:
    """The description of a file's segments."""

    header: DicomHeader
    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    planes: Sequence[DicomPlane]
    """One for each frame, in the order of the stack."""
    stack: PlaneStack
    is_labelmap: bool
    least: int
    """The least stored value of a voxel that belongs to the segment."""

    @property
    def where(self) -> Path:
        return self.header.path


def load(path: Path, series: Series) -> Stored:
    """The labels of a segmentation file: all of them, or some: `FILE#1,3`.

    Raises ChoiceError if segments overlap, InputError if a chosen one is absent, FileError for a damaged file,
    NotSupportedError for other kinds.
    """
    segments, chosen = _checked(path, series)
    data = _labelmap(segments, chosen) if segments.is_labelmap else _combined(segments, chosen)
    return _described(data, segments, chosen)


def peek(path: Path, series: Series) -> Stored:
    """As `load`, from the header: overlaps are not looked for."""
    segments, chosen = _checked(path, series)
    return _described(Unread(segments.stack.shape, _type_of(chosen)), segments, chosen)


def _checked(path: Path, series: Series) -> tuple[_Segments, set[int]]:
    """What the only file of a series says it holds, and the segments that are chosen."""
    if len(series.headers) > 1:
        names = ", ".join(h.path.name for h in series.headers[:5])
        raise InputError(f"{path}: several segmentation files ({names}): name one of them")
    segments = _segments(series.headers[0])
    chosen = _chosen(path, segments)
    memory.check(segments.where, _VOXEL_BYTES * math.prod(segments.stack.shape))
    return segments, chosen


def _type_of(chosen: set[int]) -> np.dtype[Any]:
    return label_dtype(max(chosen, default=0))


def _described(data: LazyArray, segments: _Segments, chosen: set[int]) -> Stored:
    """The labels with all that the header says about them."""
    grid = grid_of(str(segments.where), segments.stack.shape, geometry.from_itk(segments.stack.affine_lps_xyz))
    own = attributes.from_text(segments.header.private_text, str(segments.where)) or attributes.Attributes()
    labels = {number: own.labels.get(number, name) for number, name in segments.names.items() if number in chosen}
    # Our own JSON keeps the exact colours; those in CIELab come back rounded.
    colours = {i: own.colours.get(i, colour) for i, colour in segments.colours.items() if i in chosen}
    return Stored(data, grid, labels=labels, provenance=own.provenance, is_labels=True, colours=colours)


def save(path: Path, stored: Stored) -> None:
    """Write labels as DICOM-SEG that refers to the series `stored.source`, atomically.

    BINARY if the ids run from 1 without gaps to 16 at the most, else LABELMAP. No text about the patient is copied: the
    study and the frame of reference identify it. Raises InputError for images, for labels without a source and for ids
    above 65535, GridMismatchError if the labels do not lie on the series' grid, FileError as `check_replaceable`.
    """
    check_replaceable(path)
    if not stored.is_labels:
        raise InputError(f"{path}: images are not written as DICOM: write .nii.gz, or give labels")
    planes, order = labelled(path, stored.grid, stored.source)
    data = np.ascontiguousarray(order.apply(in_memory(stored, path)))
    ids = sorted({*np.unique(data).tolist(), *stored.labels} - {0})
    if not ids or ids[-1] > _MAX_LABELMAP:
        raise InputError(f"{path}: DICOM segmentations hold ids from 1 to {_MAX_LABELMAP}; got {ids[-1:] or 'none'}")
    from napari_medseg.io.dicom.seg_writer import dataset

    content = dataset(planes, data, {i: stored.labels.get(i) or f"label {i}" for i in ids}, stored)
    blob = BytesIO()
    content.save_as(blob, enforce_file_format=True)
    files.replace_bytes(path, blob.getvalue())


def check_replaceable(path: Path) -> None:
    """Raise FileError where a DICOM file is at the path that is not ours, such as a slice of the source."""
    if os.path.isfile(path) and is_dicom(path):
        try:
            is_ours = read_header(path).is_ours
        except MedsegError:  # damaged, or of a kind that we never write
            is_ours = False
        if not is_ours:
            raise FileError(
                f"{path}: cannot be replaced: a DICOM file that was not written by napari-medseg is there: choose "
                f"another name or remove it first"
            )


def _segments(header: DicomHeader) -> _Segments:
    check_pixels(header)
    kind = header.text("SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise NotSupportedError(f"{header.path}: a segmentation of a kind that is not known")
    names: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    for item in items(header.dataset, "SegmentSequence", header.path):
        number = numbers(item, "SegmentNumber", 1, header.path)
        if number is not None and number[0] > 0:
            names[int(number[0])] = text(item, "SegmentLabel", header.path)
            colour = _colour(item, header)
            if colour is not None:
                colours[int(number[0])] = colour
    planes = planes_of(header)
    try:
        stack = sparse_stack(geometry_of(planes, str(header.path)))
    except FileError as error:
        raise FileError(f"{header.path}: {error}") from error
    return _Segments(
        header, names, colours, [planes[i] for i in stack.order], stack, kind == "LABELMAP", _least(header)
    )


def _least(header: DicomHeader) -> int:
    """The least stored value of a segment's voxel: 1; of fractions one half, with a warning."""
    if header.text("SegmentationType") != "FRACTIONAL":
        return 1
    whole = header.count("MaximumFractionalValue")
    if whole < 1:
        raise FileError(f"{header.path}: damaged: its fractions do not say which value is the whole")
    least = (whole + 1) // 2
    what = "occupancies" if header.text("SegmentationFractionalType") == "OCCUPANCY" else "probabilities"
    warn(
        f"{header.path}: a segmentation of {what} from 0 to {whole}; labels are the voxels of at least {least} "
        f"(one half)"
    )
    return least


def _colour(item: Dataset, header: DicomHeader) -> Colour | None:
    cielab = numbers(item, "RecommendedDisplayCIELabValue", 3, header.path)
    if cielab is None or cielab.min() < 0 or cielab.max() > _MAX_CIELAB:
        return None
    return colour_of(cielab.astype(int).tolist())


def _chosen(path: Path, segments: _Segments) -> set[int]:
    """The segments that the path names behind its "#"; all if it names none or is a folder."""
    whole, wanted = choice.split(path)
    if not wanted or whole.is_dir():
        return set(segments.names)
    chosen = {int(word) for word in wanted.split(",") if word.isdecimal()}
    if not chosen or chosen - set(segments.names):
        there = ", ".join(f"{number} ({name})" for number, name in segments.names.items())
        raise InputError(f"{path}: no such segments: the file holds {there}: choose as {whole}#1,2")
    return chosen


def _batches(planes: Sequence[DicomPlane], slots: Sequence[int]) -> Iterator[tuple[Array, Sequence[DicomPlane], Array]]:
    """(frames, their planes, their slots) in the order of the stack; frames of one slot stay together."""
    start = 0
    while start < len(planes):
        stop = min(start + _BATCH, len(planes))
        while stop < len(planes) and slots[stop] == slots[stop - 1]:
            stop += 1
        part = planes[start:stop]
        yield decode(part[0].header, [plane.frame for plane in part]), part, np.asarray(slots[start:stop])
        start = stop


def _labelmap(segments: _Segments, chosen: set[int]) -> Array:
    """(z, y, x) from frames that hold the segment number of each voxel."""
    data = np.zeros(segments.stack.shape, _type_of(chosen))
    if len(set(segments.stack.slots)) < len(segments.planes):
        raise FileError(f"{segments.where}: damaged: two frames of its label map lie at the same position")
    known = np.array(sorted(chosen))
    for frames, _, slots in _batches(segments.planes, segments.stack.slots):
        data[slots] = np.where(np.isin(frames, known), frames, 0)
    return data


def _combined(segments: _Segments, chosen: set[int]) -> Array:
    """(z, y, x) from the masks of the chosen segments; ChoiceError, with the numbers, if two of them overlap."""
    data = np.zeros(segments.stack.shape, _type_of(chosen))
    overlaps: dict[tuple[int, int], int] = {}
    for frames, planes, slots in _batches(segments.planes, segments.stack.slots):
        owners = np.array([_segment_number(plane) for plane in planes])
        for slot in np.unique(slots).tolist():
            here = np.flatnonzero((slots == slot) & np.isin(owners, list(chosen)))
            masks = frames[here] >= segments.least
            for mask, owner in zip(masks, owners[here], strict=True):
                data[slot][mask] = owner
            if (masks.sum(axis=0) > 1).any():
                _count_overlaps(overlaps, owners[here].tolist(), masks)
    if overlaps:
        raise _overlapping(segments, chosen, overlaps)
    return data


def _segment_number(plane: DicomPlane) -> int:
    for group in plane.groups:
        for item in items(group, "SegmentIdentificationSequence", plane.path):
            number = numbers(item, "ReferencedSegmentNumber", 1, plane.path)
            if number is not None:
                return int(number[0])
    raise FileError(f"{plane.path}: damaged: frame {plane.frame + 1} does not say which segment it shows")


def _count_overlaps(overlaps: dict[tuple[int, int], int], owners: Sequence[int], masks: Array) -> None:
    for (a, one), (b, other) in combinations(zip(owners, masks, strict=True), 2):
        count = int((one & other).sum())
        if count:
            pair = (min(a, b), max(a, b))
            overlaps[pair] = overlaps.get(pair, 0) + count


def _overlapping(segments: _Segments, chosen: set[int], overlaps: Mapping[tuple[int, int], int]) -> ChoiceError:
    """The refusal: the segments that overlap, and sets of segments that do not."""
    groups: list[list[int]] = []
    for number in sorted(chosen):
        free = (g for g in groups if not any((min(number, m), max(number, m)) in overlaps for m in g))
        group = next(free, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    worst = sorted(overlaps, key=lambda pair: -overlaps[pair])[:3]
    pairs = ", ".join(f"{a} and {b} in {overlaps[a, b]} voxels" for a, b in worst)
    ways = [f"{segments.where}#{','.join(map(str, group))}" for group in groups]
    return ChoiceError(
        f"{segments.where}: segments overlap ({pairs}), and a label image holds one label per voxel: "
        f"read {' and '.join(ways)}",
        ways,
    )


def labelled(path: Path, grid: Grid, source: Path | None) -> tuple[Sequence[DicomPlane], AxisOrder]:
    """The planes of the source that labels on a grid refer to, and the order that brings the labels onto them.

    Raises as `save`, NotSupportedError for a source whose slices are resampled.
    """
    if source is None:
        raise InputError(f"{path}: a DICOM segmentation refers to the series it was drawn on: name it as the source")
    series = choose(source, as_labels=False)
    if not series.headers[0].text("SeriesInstanceUID"):
        raise InputError(f"{path}: the source {source} states no SeriesInstanceUID to refer to: write .nii.gz")
    planes, stack = arranged(series, source)
    if stack.resampling is not None:
        raise NotSupportedError(f"{path}: the source {source} is {stack.oddities[0]}: its slices cannot be labelled")
    there = Grid(stack.shape, geometry.from_itk(stack.affine_lps_xyz))
    order = grid.order_onto(there)
    if order is None:
        raise GridMismatchError(
            f"{path}: the labels must lie on the grid of their source {source}; it has {there.describe()}, the labels "
            f"{grid.describe()}: resample them first: {RESAMPLE}"
        )
    return planes, order
