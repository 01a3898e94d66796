"""What `napari-medseg info` says about a file: what it is, where it lies, what is odd about it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg import io
from napari_medseg.errors import MedsegWarning
from napari_medseg.io import stored
from napari_medseg.io.stored import Stored
from napari_medseg.volume import Grid, LazyArray, Segmentation, Volume, require_same_grid

_SLAB = 64
"""Slices (z) that are counted at once, so that a store on the disk is not read whole."""


def describe(path: str | PathLike[str], labels: bool = False, image: str | PathLike[str] | None = None) -> list[str]:
    """Lines about an image, or about labels; with `image`, the labels must lie on its grid.

    Raises as `read` and `read_segmentation`, and GridMismatchError where labels and image lie apart.
    """
    content = io.load(path, as_labels=labels)
    name = io.strip_suffix(path)
    noun = stored.to_segmentation(content, name) if labels else stored.to_volume(content, name)
    lines = [
        f"file: {path}",
        f"format: {io.format_of(Path(path)).name}",
        *_array_lines(noun.data),
        *_grid_lines(noun.grid),
    ]
    if isinstance(noun, Segmentation):
        lines += _label_lines(noun)
    else:
        lines += _image_lines(noun)
    if isinstance(noun, Segmentation) and image is not None:
        reference = io.read(image)
        require_same_grid(noun, reference, "labels", "image")
        lines.append(f"grid: the same as that of {image}")
    return lines + _provenance_lines(content)


def _array_lines(data: LazyArray) -> list[str]:
    chunks = getattr(data, "chunks", None)
    lines = [f"shape: {' x '.join(map(str, data.shape[-3:]))} (z, y, x)", f"type: {np.dtype(data.dtype)}"]
    return lines if chunks is None else [*lines, f"chunks: {' x '.join(map(str, chunks[-3:]))}"]


def _grid_lines(grid: Grid) -> list[str]:
    spacing, origin = (", ".join(f"{value:.6g}" for value in values) for values in (grid.spacing, grid.origin))
    oblique = ", oblique" if grid.is_oblique else ""
    return [
        f"spacing: {spacing} mm (z, y, x)",
        f"origin: {origin} mm (towards S, P, L)",
        f"orientation: {grid.orientation}{oblique} (the direction that each array axis runs to)",
    ]


def _image_lines(volume: Volume) -> list[str]:
    lines = [f"channels: {len(volume.channels)} ({', '.join(volume.channels)})"]
    if isinstance(volume.data, np.ndarray):
        lines.append(f"values: {volume.data.min():.6g} to {volume.data.max():.6g}")
    return lines


def _label_lines(segmentation: Segmentation) -> list[str]:
    counts = count_labels(segmentation.data)
    present = [label for label in counts if label != 0]
    if not present:
        warnings.warn(
            f"{segmentation.name}: nothing is labelled: every voxel is background", MedsegWarning, stacklevel=3
        )
    named_only = [label for label in segmentation.labels if label != 0 and label not in counts]
    rows = [
        f"  {label}  {segmentation.label_name(label)}  {counts[label]} voxels"
        for label in sorted([*present, *named_only])
    ]
    return [f"labels: {len(present)} ({counts[0]} voxels of background)", *rows]


def count_labels(data: LazyArray) -> Counter[int]:
    """Voxels per id of labels (Z, Y, X), in memory or on the disk; a Counter, so that an absent id has 0."""
    counts: Counter[int] = Counter()
    for start in range(0, data.shape[0], _SLAB):
        slab: npt.NDArray[Any] = np.asarray(data[start : start + _SLAB])
        ids, voxels = np.unique(slab, return_counts=True)
        counts.update(dict(zip(ids.tolist(), voxels.tolist(), strict=True)))
    return counts


def _provenance_lines(content: Stored) -> list[str]:
    return [f"provenance, {key}: {_one_line(value)}" for key, value in content.provenance.items()]


def _one_line(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
