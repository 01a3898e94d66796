"""DeepIGeoS: geodesic maps against plain shortest paths, simulated clicks, and corrections by an R-Net."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import balls
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.events import TrainProgress
from napari_medseg.interactive import correct
from napari_medseg.interactive.guided.deepigeos import (
    FARTHEST,
    STEP_PER_MM,
    clicks_for,
    distances,
    simulated_clicks,
)
from napari_medseg.interactive.guided.simulated import Corrected, Correction
from napari_medseg.models.file import write_model
from napari_medseg.prompts import Prompt
from napari_medseg.registry import network
from orientations import stored_otherwise

SPACING = (3.0, 0.5, 1.0)
LABELS = {2: "left", 5: "right"}
Case = tuple[ms.Volume, npt.NDArray[Any], ms.Segmentation]


def dijkstra(
    starts: npt.NDArray[np.int64], image: npt.NDArray[np.float32], spacing: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Shortest paths over 26 neighbours: mm times STEP_PER_MM, and the largest change among the channels."""
    out = np.full(image.shape[1:], np.inf)
    heap: list[tuple[float, tuple[int, ...]]] = [(0.0, tuple(start)) for start in starts.tolist()]
    while heap:
        distance, voxel = heapq.heappop(heap)
        if distance >= out[voxel]:
            continue
        out[voxel] = distance
        for offset in itertools.product((-1, 0, 1), repeat=3):
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            if any(offset) and min(other) >= 0 and (np.array(other) < out.shape).all():
                mm = math.hypot(*(o * s for o, s in zip(offset, spacing, strict=True)))
                change = max(abs(float(channel[voxel]) - float(channel[other])) for channel in image)
                heapq.heappush(heap, (distance + STEP_PER_MM * mm + change, other))
    return out


@pytest.mark.parametrize("spacing", [SPACING, (1.0, 1.0, 1.0)], ids=["slabs", "cubes"])
@pytest.mark.parametrize("seed", range(3))
def test_maps_equal_shortest_paths(seed: int, spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.6, (2, 5, 6, 7)).astype(np.float32)
    clicks = np.zeros((3, 5, 6, 7), dtype=bool)
    clicks[0, 0, 0, 0] = clicks[1, 4, 3, 2] = clicks[1, 0, 5, 6] = True
    found = distances(image, clicks, spacing)
    for channel in (0, 1):
        expected = dijkstra(np.argwhere(clicks[channel]), image, spacing)
        np.testing.assert_allclose(found[channel], np.minimum(expected / FARTHEST, 1), rtol=1e-5, atol=1e-6)
    assert (found[2] == 1).all(), "a class without a click"


@pytest.mark.parametrize(("voxels", "clicks"), [(0, 0), (29, 0), (30, 1), (100, 1), (101, 2), (1000, 10)])
def test_clicks_by_the_size_of_the_error(voxels: int, clicks: int) -> None:
    assert clicks_for(voxels) == clicks


def test_a_simulated_user_clicks_every_wrong_region_once_a_hundred_voxels() -> None:
    truth, labels = np.zeros((2, 12, 12, 24), np.int64)
    truth[:, :6, :2] = 1  # 144 voxels are missing
    labels[:4, 8:, 20:] = 1  # 64 voxels are too much
    labels[11, 11, 0] = 2  # one voxel too much: left alone
    clicks = simulated_clicks(labels, truth, 3, np.random.default_rng(0))
    assert clicks.sum(axis=(1, 2, 3)).tolist() == [1, 2, 0]
    assert (truth[clicks[1]] == 1).all()
    assert (labels[clicks[0]] == 1).all()


@pytest.fixture(scope="module")
def case() -> Case:
    """(volume, true labels, what a first model made of it: the right one is missing)"""
    volume, (a, b) = balls((16, 16, 20), (8, 8, 5), (8, 8, 14), radius=4)
    truth = (a * 2 + b * 5).astype(np.uint8)
    proposed = (a * 2).astype(np.uint8)
    proposed[0, 0, :3] = 9  # of another model
    return volume, truth, ms.Segmentation(proposed, volume.grid, {2: "left", 9: "other"})


@pytest.fixture(scope="module")
def correction(case: Case) -> Correction:
    volume, truth, proposal = case
    return Correction.of(volume, ms.Segmentation(truth, volume.grid), proposal, list(LABELS))


@pytest.fixture(scope="module")
def model(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ms.Model:
    volume, truth, _ = case
    options: dict[str, Any] = {
        "epochs": 20,
        "val": 0,
        "device": "cpu",
        "batch_size": 1,
        "learning_rate": 4e-3,
        "patch_zyx": volume.grid.shape,
        "augment": False,
        "report": False,
        "arguments": {"width": 4, "dropout": 0.0},
    }
    out = tmp_path_factory.mktemp("rnet") / "rnet.safetensors"
    events = list(
        ms.iter_train([(volume, ms.Segmentation(truth, volume.grid, LABELS))], scheme="clicks", out=out, **options)
    )
    steps = [event for event in events if isinstance(event, TrainProgress)]
    assert steps[-1].loss < steps[0].loss
    return ms.load_model(out)


def test_rounds_keep_their_clicks_and_the_clicked_voxels(correction: Correction, model: ms.Model) -> None:
    rng = np.random.default_rng(0)
    start = Corrected.of(correction, 3)
    first = start.after_a_round(model.load_network(), correction, rng)
    second = first.after_a_round(model.load_network(), correction, rng)
    assert not start.clicks.any()
    assert first.clicks[2].any(), "the right one was missing"
    assert (second.clicks & first.clicks == first.clicks).all()
    for channel in range(3):
        assert (second.labels[second.clicks[channel]] == channel).all()


def test_prompts_correct_what_any_model_made(case: Case, model: ms.Model) -> None:
    volume, truth, proposal = case
    prompts: list[Prompt] = [
        ms.Point((8, 8, 14), label=5),
        ms.Point((1, 1, 18), label=5, positive=False),
        ms.SliceMask(truth[:, :, 5] == 2, axis=2, index=5, label=2),
    ]
    found = correct(volume, stored_otherwise(proposal), prompts, model)
    data = np.asarray(found.data[...])
    assert data[8, 8, 14] == 5
    assert data[1, 1, 18] == 0
    np.testing.assert_array_equal(data[1:, :, 5] == 2, truth[1:, :, 5] == 2)
    assert (data[0, 0, :3] == 9).all()
    assert found.labels == {2: "left", 5: "right", 9: "other"}
    assert proposal.data[8, 8, 14] == 0, "the given segmentation is not changed"


def test_bad_requests_say_the_way_out(case: Case, model: ms.Model, tmp_path: Path) -> None:
    volume, _, proposal = case
    with pytest.raises(InputError, match="corrects labels 2, 5; got a prompt of 1"):
        correct(volume, proposal, [ms.Point((8, 8, 14), label=1)], model)
    with pytest.raises(InputError, match="lies outside of the volume"):
        correct(volume, proposal, [ms.Point((99, 8, 14), label=5)], model)
    empty = ms.Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid)
    with pytest.raises(InputError, match="there is nothing to correct"):
        correct(volume, empty, [], model)
    other = ms.Segmentation(np.zeros((2, 2, 2), np.uint8), ms.Grid.from_spacing((2, 2, 2), (1, 1, 1), (0, 0, 0)))
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        correct(volume, other, [], model)
    path = tmp_path / "pnet.safetensors"
    spec = replace(model.spec, network="deepigeos_pnet")
    write_model(path, spec, network("deepigeos_pnet").build_from(spec.arguments).state_dict())
    with pytest.raises(InputError, match="takes a model of deepigeos_rnet; this is deepigeos_pnet"):
        correct(volume, proposal, [], path)
