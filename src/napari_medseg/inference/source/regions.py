"""Overlapping regions as layers of their own, beside the one label map that `segment` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_medseg.config import SegmentConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Work, run_to_end
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import load_predictor
from napari_medseg.inference.source.pipeline import region_masks
from napari_medseg.models.file import Model, as_model
from napari_medseg.volume import Segmentation, Volume


def segment_regions(
    volume: Volume, model: Model | str | Path, *, config: SegmentConfig | None = None, **knobs: Any
) -> dict[str, Segmentation]:
    """{region: its labels on the volume's grid, 1 inside} of a model whose regions overlap.

    config, or knobs: as `iter_segment`. Raises InputError for a model that gives one label per voxel.
    """
    return run_to_end(segmenting_regions(volume, as_model(model), configured(SegmentConfig, config, knobs)))


def segmenting_regions(volume: Volume, model: Model, config: SegmentConfig) -> Work[dict[str, Segmentation]]:
    """The work of `segment_regions`; yields a Progress per step and per batch of windows."""
    regions = model.spec.output.regions
    if not regions:
        raise InputError(f"{model.path}: the model gives one label per voxel, and no regions that overlap")
    plan = resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device))
    masks = yield from region_masks(volume, plan, load_predictor(model, plan))
    return {
        region.name: Segmentation(mask, volume.grid, {1: region.name}, name=f"{volume.name} {region.name}".strip())
        for region, mask in zip(regions, masks, strict=True)
    }
