"""Labels do not depend on how an image is chunked, cut into regions, batched, broken off and continued: bit by bit."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg import Grid, Volume, registry
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Notice, finishing, result_of
from napari_medseg.geometry import AxisMap, AxisOrder
from napari_medseg.inference.blend import RollingLogits
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import segment_regions
from napari_medseg.inference.job import Job, regions_left, working
from napari_medseg.inference.plan import Blending, ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.regions import Cores, columns, spans
from napari_medseg.inference.results.careful import CarefulNetwork, Step
from napari_medseg.inference.results.journal import Journal
from napari_medseg.inference.results.sink import Outputs
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.transforms.intensity import Statistics

SHAPE = (15, 18, 17)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    network = registry.network("unet3d")
    return ModelSpec(
        network="unet3d",
        arguments=network.arguments(in_channels=1, out_channels=4, channels=(4, 8), deep_supervision=False),
        channels=(Channel(name="image", modality="other"),),
        labels={1: "one", 2: "two", 7: "seven"},
        patch_zyx=(8, 12, 8),
        orientation="SPL",
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )


@pytest.fixture(scope="module")
def predictor(spec: ModelSpec) -> Predictor:
    torch.manual_seed(3)
    network = registry.network("unet3d").build_from(spec.arguments).eval()
    return Predictor.of(network, spec, torch.device("cpu"), "fp32")


def image(orientation: str = "SPL") -> Volume:
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*[np.linspace(-2, 2, n) for n in SHAPE], indexing="ij")
    data = (100 * np.sin(3 * z + y) * np.cos(2 * x) + rng.normal(0, 20, SHAPE)).astype(np.int16)[None]
    order = AxisOrder.between("SPL", orientation)
    return Volume(order.apply(data), Grid.from_spacing(SHAPE, (2.0, 1.0, 1.3)).reordered(order))


def plan_of(volume: Volume, spec: ModelSpec, blending: Blending, **wishes: Any) -> InferencePlan:
    return replace(resolve(ImageFacts.of(volume), spec, SegmentConfig(**wishes), Machine()), blending=blending)


def job_of(volume: Volume, plan: InferencePlan, predictor: Predictor) -> Job:
    job: Job = result_of(finishing(Job.prepare(volume, plan, predictor)))
    return job


def empty(volume: Volume, chunks: tuple[int, int, int] | None = None) -> Any:
    shape = volume.grid.shape
    return (
        np.zeros(shape, np.uint8) if chunks is None else zarr.create_array({}, shape=shape, dtype="u1", chunks=chunks)
    )


@pytest.fixture(scope="module")
def expected(spec: ModelSpec, predictor: Predictor) -> dict[tuple[str, bool], np.ndarray[Any, Any]]:
    """{(blending, resampled): the labels of one region over the whole array in memory}."""
    found = {}
    for blending in ("gaussian", "core"):
        for resampled in (False, True):
            plan = plan_of(image(), at(spec, resampled=resampled), blending)
            job, labels = job_of(image(), plan, predictor), empty(image())
            outputs, journal = Outputs(labels), Journal(None, SHAPE, SHAPE)
            list(segment_regions(job, regions_left(job, outputs, journal), outputs, journal))
            assert len(np.unique(labels)) >= 3, "the network must tell several classes apart"
            found[blending, resampled] = labels
    return found


def at(spec: ModelSpec, *, resampled: bool) -> ModelSpec:
    return replace(spec, spacing_zyx_mm=(1.5, 1.4, 0.9)) if resampled else spec


chunks = st.tuples(*[st.integers(5, 18)] * 3)


@pytest.mark.parametrize("resampled", [False, True], ids=["own_grid", "resampled"])
@pytest.mark.parametrize("blending", ["gaussian", "core"])
@given(st.data())
@settings(max_examples=4, deadline=None)
def test_labels_depend_on_volume_and_model_only(
    blending: Blending,
    resampled: bool,
    spec: ModelSpec,
    predictor: Predictor,
    expected: dict[tuple[str, bool], np.ndarray[Any, Any]],
    data: st.DataObject,
) -> None:
    orientation = data.draw(st.sampled_from(["SPL", "LIP", "ARS"]))
    volume = image(orientation)
    order = AxisOrder.between("SPL", orientation)
    stored = da.from_array(np.asarray(volume.data), chunks=(1, *data.draw(chunks)))
    volume = replace(volume, data=stored)
    plan = plan_of(volume, at(spec, resampled=resampled), blending, batch_size=data.draw(st.integers(1, 5)))
    labels = empty(volume, tuple(min(c, n) for c, n in zip(data.draw(chunks), volume.grid.shape, strict=True)))
    job, outputs = job_of(volume, plan, predictor), Outputs(labels)
    broken_off_after = data.draw(st.integers(0, 30))
    for stop in (broken_off_after, math.inf):  # the second run continues the first
        deepest, widest = data.draw(st.sampled_from([None, 7])), data.draw(st.sampled_from([120, 10_000]))
        journal = Journal(None, volume.grid.shape, labels.chunks)
        journal.done[...] = written(labels)
        # Workers take them in any order.
        boxes = data.draw(st.permutations(regions_left(job, outputs, journal, deepest=deepest, widest=widest)))
        for done, _ in enumerate(segment_regions(job, boxes, outputs, journal)):
            if done >= stop:
                break
    turned = order.apply(expected[blending, resampled])
    assert np.array_equal(np.asarray(labels[...]), turned)


class Failing:
    """Four classes by a voxel and its place in the window; memory runs out from some call on, until it is saved."""

    def __init__(self, at: float) -> None:
        self.at, self.calls, self.is_saved = at, 0, False

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls >= self.at and not self.is_saved:
            raise torch.OutOfMemoryError("CUDA out of memory")
        place = torch.linspace(-1, 1, windows.shape[-1])
        return torch.cat([windows, -windows, 1.5 * place.expand_as(windows), 0.3 - windows * windows], dim=1)


def run_short_of_memory(job: Job, at: float) -> tuple[Any, list[str]]:
    """The labels, and what the user was told, where memory runs out from one window on until all steps are taken."""
    labels, failing = empty(image()), Failing(at)
    (box,) = regions_left(job, Outputs(labels), Journal(None, SHAPE, SHAPE))
    network, accumulator = CarefulNetwork(failing, 2), job.accumulator(box, averaged=False)
    if isinstance(accumulator, RollingLogits):  # what is summed leaves the device, a few classes after the other
        network.steps.append(Step("sums", "the sums leave", accumulator.leave_device))
    network.steps.append(Step("cpu", "the network leaves", partial(setattr, failing, "is_saved", True)))
    events = list(working(job, box, Outputs(labels), network, accumulator))
    return labels, [e.message.partition(": ")[2] for e in events if isinstance(e, Notice)]


@pytest.mark.parametrize("blending", ["gaussian", "core"])
def test_out_of_memory_at_any_window_leaves_the_labels_as_they_are(
    blending: Blending, spec: ModelSpec, predictor: Predictor
) -> None:
    job = job_of(image(), plan_of(image(), spec, blending, batch_size=2), predictor)
    expected, told = run_short_of_memory(job, math.inf)
    assert told == []
    assert len(np.unique(expected)) == 4
    steps = ["1 window at once from now on", *["the sums leave"] * (blending == "gaussian"), "the network leaves"]
    for at in range(1, -(-len(job.windows) // 2) + 1):
        labels, told = run_short_of_memory(job, at)
        assert told == steps
        assert np.array_equal(labels, expected)


def written(labels: Any) -> np.ndarray[Any, Any]:
    """Per chunk whether it is in the store."""
    counts = [-(-n // c) for n, c in zip(labels.shape, labels.chunks, strict=True)]
    return np.reshape([f"c/{z}/{y}/{x}" in labels.store._store_dict for z, y, x in np.ndindex(*counts)], counts)


def test_columns_are_groups_of_whole_chunks() -> None:
    assert columns(([4, 8], [5]), 40) == [(slice(0, 8), slice(0, 5))]
    assert columns(([4, 8, 10], [5, 7]), 39) == [
        (slice(0, 4), slice(0, 5)),
        (slice(0, 4), slice(5, 7)),
        (slice(4, 10), slice(0, 5)),
        (slice(4, 10), slice(5, 7)),
    ]


@pytest.mark.parametrize("blending", ["gaussian", "core"])
def test_a_region_leaves_room_for_the_chunks_that_it_decodes(
    blending: Blending, spec: ModelSpec, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (64, 512, 512)
    journal = Journal(None, shape, (16, 16, 16))
    outputs = Outputs(zarr.create_array({}, shape=shape, dtype="u1", chunks=(16, 16, 16)))

    def widest(data: Any) -> int:
        volume = Volume(data, Grid.from_spacing(shape, (1.0, 1.0, 1.0)))
        plan = plan_of(volume, spec, blending)
        job = Job(volume, plan, predictor, (Statistics(0.0, 1.0),), plan.windows)
        boxes = regions_left(job, outputs, journal)
        return max(int(math.prod(side.stop - side.start for side in box[1:])) for box in boxes)

    lazy, in_memory = da.zeros((1, *shape), dtype=np.int16), np.zeros((1, *shape), np.int16)
    monkeypatch.setenv("MEDSEG_MEMORY_GIB", "0.04")
    thin, deep, wide = (widest(lazy.rechunk((1, *chunks))) for chunks in ((4, 16, 16), (64, 16, 16), (64, 256, 256)))
    assert 512 * 512 > widest(in_memory) > thin > deep > wide > 0
    monkeypatch.setenv("MEDSEG_MEMORY_GIB", "4")
    assert widest(lazy.rechunk((1, 64, 256, 256))) == 512 * 512


def test_what_is_left_is_in_spans_of_rows() -> None:
    done = {(2, 4), (8, 9)}
    left = spans([2, 4, 6, 8, 9], lambda row: (row.start, row.stop) in done)
    assert left == [slice(0, 2), slice(4, 8)]


def test_cores_by_hand() -> None:
    # Windows of 4 at 0, 2 and 5 over 9 samples overlap in 2..3 and 5; the middles are 3 and 5.
    core = Cores((0, 2, 5), 4, AxisMap.between(9, 9))
    assert core.edges.tolist() == [0, 3, 5, 9]
    assert core.inside(1, slice(0, 4)) == slice(3, 4)
    assert core.inside(2, slice(0, 4)) == slice(5, 5)
    assert core.map_of(1, slice(3, 5)).first.tolist() == [1, 2]


def test_samples_beyond_a_window_are_its_end_samples() -> None:
    # Two windows of 2 without overlap over 4 samples, seen at twice the spacing's density.
    axis = AxisMap.between(4, 8)
    core = Cores((0, 2), 2, axis)
    inside = core.map_of(0, core.inside(0, slice(0, 8)))
    values = np.array([10.0, 20.0])
    found = [float(values[f : f + 2] @ w) for f, w in zip(inside.first, inside.weights, strict=True)]
    assert found == [10, 12.5, 17.5, 20]  # between the samples 1 and 2 the last of the window is repeated
