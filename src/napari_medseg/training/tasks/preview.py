"""What a model under training sees in one slice, while it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_medseg.config import SegmentConfig
from napari_medseg.events import Work
from napari_medseg.inference.engine import segmenting
from napari_medseg.models.file import Model, as_model, load_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.saving.checkpoint import Checkpoints
from napari_medseg.volume import Grid, Segmentation, Volume, label_dtype


def latest(out: Path) -> Model:
    """The model that the training which makes `out` validated last. Raises FileError before the first validation."""
    return load_model(Checkpoints(out).last_path)


def segmenting_slice(
    volume: Volume, model: Model | str | Path, axis: int, index: int, device: str = "auto"
) -> Work[Segmentation]:
    """Segment one slice of a volume, as stored; return labels on the volume's grid, empty in all other slices.

    The network sees as much around the slice as its patch is long, and no more, so that it takes a moment. Intensities
    are standardised by this slab alone: close to what the whole image gives, and not the same.
    """
    found = as_model(model)
    reach = _reach(found.spec, volume.grid.spacing[axis])
    low, high = max(0, index - reach), min(volume.grid.shape[axis], index + reach + 1)
    slab = tuple(slice(low, high) if a == axis else slice(None) for a in range(3))
    start = [low if a == axis else 0 for a in range(3)]
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.index_to_world(start)
    data = np.asarray(volume.data[(slice(None), *slab)])
    part = replace(volume, data=data, grid=Grid((data.shape[1], data.shape[2], data.shape[3]), affine))
    seen = yield from segmenting(part, found, SegmentConfig(device=device, instances="none"))
    labels = np.zeros(volume.grid.shape, label_dtype(max(found.spec.label_ids)))
    np.moveaxis(labels, axis, 0)[index] = np.moveaxis(np.asarray(seen.data[...]), axis, 0)[index - low]
    return Segmentation(labels, volume.grid, found.spec.labels)


def _reach(spec: ModelSpec, spacing_mm: float) -> int:
    """Voxels to either side of a slice that a patch around it holds, whichever way the patch lies."""
    extents = [n * s for n, s in zip(spec.patch_zyx, spec.spacing_zyx_mm or (spacing_mm,) * 3, strict=True)]
    return math.ceil(max(extents) / spacing_mm / 2)
