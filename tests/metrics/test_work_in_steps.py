"""Measures in steps: they tell how far they are, end with what the plain call returns, and can be left at any step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

from napari_medseg.config import MetricsConfig
from napari_medseg.events import Finished, Progress, Work, finishing
from napari_medseg.metrics import Comparison, evaluate
from napari_medseg.metrics.pairwise.edits import EditedScores
from napari_medseg.metrics.pairwise.error_map import error_map, error_map_in_steps
from napari_medseg.metrics.pairwise.instances import match_instances, match_instances_in_steps
from napari_medseg.metrics.pairwise.surface_mesh import surface_distance_mesh, surface_distance_mesh_in_steps
from napari_medseg.volume import Grid, Segmentation

SHAPE = (400, 96, 96)
CHUNKS = (200, 96, 96)
GRID = Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))
CONFIG = MetricsConfig()

Pair = dict[str, Any]
"""The two segmentations by the names of their arguments."""


class Counted:
    """A zarr array that counts how often it is read."""

    chunks = CHUNKS

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self._stored = zarr.array(data, chunks=CHUNKS)
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.reads = 0

    def __getitem__(self, box: Any) -> Any:
        self.reads += 1
        return self._stored[box]


def counted_pair() -> tuple[Pair, Counted]:
    """Three labels in two chunks, the prediction a voxel off."""
    data = np.zeros(SHAPE, np.uint8)
    for label, z in ((1, 20), (2, 150), (3, 300)):
        data[z : z + 60, 10:40, 10:40] = label
    prediction = Counted(np.roll(data, 1, axis=1))
    return {"prediction": Segmentation(prediction, GRID), "reference": Segmentation(data, GRID)}, prediction


WORKS: dict[str, Callable[[Pair], Work[Any]]] = {
    "scores": lambda pair: Comparison.in_steps(**pair),
    "edits": lambda pair: EditedScores.in_steps(**pair, config=CONFIG),
    "errors": lambda pair: error_map_in_steps(**pair),
    "surface": lambda pair: surface_distance_mesh_in_steps(**pair),
    "instances": lambda pair: match_instances_in_steps(**pair),
}
PLAIN: dict[str, Callable[[Pair], object]] = {
    "scores": lambda pair: evaluate(**pair),
    "edits": lambda pair: evaluate(**pair),
    "errors": lambda pair: np.asarray(error_map(**pair).data).tobytes(),
    "surface": lambda pair: surface_distance_mesh(**pair).distance_mm.tolist(),
    "instances": lambda pair: match_instances(**pair),
}


def value(made: Any) -> object:
    """What of a result can be compared."""
    if isinstance(made, Comparison | EditedScores):
        return made.scores
    if isinstance(made, Segmentation):
        return np.asarray(made.data).tobytes()
    return made.distance_mm.tolist() if hasattr(made, "distance_mm") else made


@pytest.mark.parametrize("name", WORKS)
def test_every_stage_is_told_to_its_end(name: str) -> None:
    pair, _ = counted_pair()
    *steps, last = finishing(WORKS[name](pair))
    assert isinstance(last, Finished)
    assert value(last.result) == PLAIN[name](pair)
    stages: dict[tuple[str, int], list[int]] = {}
    for step in steps:
        assert isinstance(step, Progress)
        stages.setdefault((step.message, step.total), []).append(step.done)
    assert all(done == list(range(1, total + 1)) for (_, total), done in stages.items())
    assert len(steps) >= 2


@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_left_reads_nothing_more(name: str) -> None:
    pair, prediction = counted_pair()
    work = WORKS[name](pair)
    next(work)
    reads = prediction.reads
    work.close()
    assert prediction.reads == reads
    for _ in WORKS[name](pair):
        pass
    assert prediction.reads > 2 * reads
