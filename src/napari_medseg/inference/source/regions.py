"""Overlapping regions by themselves, beside the one label map that `segment` gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.config import SegmentConfig, configured
from napari_medseg.events import Work, run_to_end
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import load_predictor
from napari_medseg.inference.results.wanted import region_names
from napari_medseg.inference.source.pipeline import fill_regions
from napari_medseg.io.zarr.format import filling_labels
from napari_medseg.models.file import Model
from napari_medseg.models.several import ModelSet, as_models
from napari_medseg.volume import Segmentation, Volume


def segment_regions(
    volume: Volume, model: Model | str | Path, *, config: SegmentConfig | None = None, **knobs: Any
) -> dict[str, Segmentation]:
    """{region: its labels on the volume's grid, 1 inside} of a model whose regions overlap.

    config, or knobs: as `iter_segment`, which fills regions and labels at once. Raises InputError for a model that
    gives one label per voxel.
    """
    return run_to_end(segmenting_regions(volume, as_models(model), configured(SegmentConfig, config, knobs)))


def segmenting_regions(volume: Volume, model: Model | ModelSet, config: SegmentConfig) -> Work[dict[str, Segmentation]]:
    """The work of `segment_regions`; yields a Progress per step and per batch of windows."""
    region_names(model)
    assert isinstance(model, Model), "a set has no regions"
    plan = resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device))
    with new_regions(volume, model, {}, {}) as regions:
        arrays = [region.data for region in regions.values()]
        yield from fill_regions(volume, plan, load_predictor(model, plan), arrays)
    return regions


@contextmanager
def new_regions(
    volume: Volume, model: Model, paths: Mapping[str, Path] | None, made_by: Mapping[str, object]
) -> Iterator[dict[str, Segmentation]]:
    """{region: labels to be filled inside} of a model; nothing where paths is None.

    paths: {region: store}; regions without one are in memory.
    """
    if paths is None:
        yield {}
        return
    with ExitStack() as stores:
        found: dict[str, Segmentation] = {}
        for name in region_names(model):
            path, data = paths.get(name), None
            if path is not None:
                filling = filling_labels(path, volume.grid, {1: name}, dtype=np.uint8, provenance=made_by)
                data = stores.enter_context(filling)
            array: Any = np.zeros(volume.grid.shape, np.uint8) if data is None else data
            title = f"{volume.name} {name}".strip()
            found[name] = Segmentation(array, volume.grid, {1: name}, name=title, provenance=made_by)
        yield found
