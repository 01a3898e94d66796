"""Comparisons that follow edits: as if measured afresh, though only touched labels are computed and little is read."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg import Grid, Scores, Segmentation, evaluate
from napari_medseg.arrays.boxes import Box
from napari_medseg.config import Preset
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics import Comparison

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
SPACING = (2.5, 1.0, 0.5)
SHAPE = (7, 12, 14)


def segmentation(data: Any) -> Segmentation:
    return Segmentation(data, Grid.from_spacing(data.shape, SPACING))


def assert_same(found: Scores, expected: Scores) -> None:
    assert str(found.rows) == str(expected.rows), "to the last digit; in a text, NaN equals NaN"
    assert (found.voxels, found.agreeing, found.background) == (
        expected.voxels,
        expected.agreeing,
        expected.background,
    )


def box(*ends: tuple[int, int]) -> Box:
    z, y, x = (slice(start, stop) for start, stop in ends)
    return z, y, x


@st.composite
def strokes(draw: st.DrawFn) -> tuple[Box, int]:
    ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in SHAPE]
    return box(*((low, high) for low, high in ends)), draw(st.integers(0, 4))


labels = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 3), fill=st.just(0))


@settings(max_examples=15, deadline=None)
@given(
    prediction=labels,
    reference=labels,
    painted=st.lists(st.tuples(strokes(), st.booleans()), min_size=1, max_size=4),
    block_voxels=st.sampled_from([30, 400, 10_000]),
    preset=st.sampled_from(get_args(Preset)),
)
def test_strokes_measure_as_if_afresh(
    prediction: Labels,
    reference: Labels,
    painted: list[tuple[tuple[Box, int], bool]],
    block_voxels: int,
    preset: Preset,
) -> None:
    b, a = segmentation(prediction), segmentation(reference)
    comparison = Comparison(prediction=b, reference=a, preset=preset, block_voxels=block_voxels)
    assert_same(comparison.scores, evaluate(prediction=b, reference=a, preset=preset))
    for (where, label), in_prediction in painted:
        array = prediction if in_prediction else reference
        before, rows = array.copy(), {row.label: row for row in comparison.scores.rows}
        array[where] = label
        scores = comparison.update(where)
        assert_same(scores, evaluate(prediction=b, reference=a, preset=preset))
        repainted = before != array
        assert comparison.computed <= set(before[repainted].tolist()) | {label}
        assert all(row is rows[row.label] for row in scores.rows if row.label not in comparison.computed)


def tiles(seed: int, shape: tuple[int, int, int] = (21, 22, 23)) -> Labels:
    """Boxes of three ids, one over the other: flat faces, some of which meet those of `tiles` of other seeds."""
    rng, array = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    for label in rng.integers(0, 4, 12):
        low = rng.integers(0, 18, 3)
        high = low + rng.integers(2, 13, 3)
        z, y, x = (slice(*ends) for ends in zip(low, high, strict=True))
        array[z, y, x] = label
    return array


@pytest.mark.parametrize("spacing", [(1.0, 1.2, 1.1), (1.0, 1.0, 1.0)], ids=str)
def test_scores_do_not_depend_on_the_blocks(spacing: tuple[float, float, float]) -> None:
    for seed in range(8):
        pair = [Segmentation(a, Grid.from_spacing(a.shape, spacing)) for a in (tiles(seed), tiles(seed + 100))]
        small = Comparison(prediction=pair[0], reference=pair[1], block_voxels=1).scores
        pd.testing.assert_frame_equal(
            small.to_frame(), evaluate(prediction=pair[0], reference=pair[1]).to_frame(), rtol=1e-12
        )


def test_single_voxels_anywhere_are_followed() -> None:
    rng, array, reference = np.random.default_rng(0), tiles(1), tiles(2)
    b, a = segmentation(array), segmentation(reference)
    comparison = Comparison(prediction=b, reference=a, block_voxels=1)
    for z, y, x in rng.integers(0, 21, (30, 3)):
        array[z, y, x] = rng.integers(0, 4)
        assert_same(comparison.update(box((z, z + 1), (y, y + 1), (x, x + 1))), evaluate(prediction=b, reference=a))


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
@pytest.mark.parametrize("preset", get_args(Preset))
def test_one_slice_is_measured_in_its_plane_in_blocks_and_after_strokes(axis: int, preset: Preset) -> None:
    prediction, reference = (np.expand_dims(tiles(seed).max(axis), axis) for seed in (1, 2))
    stored, other = (zarr.array(array, chunks=(4, 4, 4)) for array in (prediction, reference))
    b, a = segmentation(stored), segmentation(other)
    comparison = Comparison(prediction=b, reference=a, preset=preset, block_voxels=1)
    whole = evaluate(prediction=segmentation(prediction), reference=segmentation(reference), preset=preset)
    pd.testing.assert_frame_equal(comparison.scores.to_frame(), whole.to_frame(), rtol=1e-12)
    stroke = [slice(5, 12)] * 3
    stroke[axis] = slice(0, 1)
    z, y, x = stroke
    stored[z, y, x] = prediction[z, y, x] = 3
    painted = comparison.update((z, y, x))
    afresh = evaluate(prediction=segmentation(prediction), reference=segmentation(reference), preset=preset)
    pd.testing.assert_frame_equal(painted.to_frame(), afresh.to_frame(), rtol=1e-12)
    assert (painted.rows[-1].label, painted.rows[-1].asd_mm) != (3, whole.rows[-1].asd_mm)


def organs() -> tuple[Labels, Labels]:
    """Three blocks, of which the prediction has each somewhat elsewhere."""
    reference, prediction = np.zeros((2, 24, 40, 40), np.uint8)
    for label, start in enumerate((2, 14, 26), start=1):
        reference[4:20, 5:30, start : start + 10] = label
        prediction[5:21, 3:29, start + 1 : start + 10] = label
    return prediction, reference


def test_only_the_labels_under_the_brush_are_computed() -> None:
    prediction, reference = organs()
    comparison = Comparison(prediction=segmentation(prediction), reference=segmentation(reference))
    assert comparison.computed == {1, 2, 3}
    stroke = box((10, 11), (10, 20), (14, 17))  # label 2, and background beside it
    prediction[stroke] = 3
    comparison.update(stroke)
    assert comparison.computed == {2, 3}
    comparison.update(stroke)
    assert comparison.computed == frozenset(), "nothing has changed since"


def test_a_hole_counts_though_the_surface_stays() -> None:
    prediction, reference = np.zeros((2, 5, 5, 5), np.uint8)
    prediction[1:4, 1:4, 1:4] = reference[1:4, 1:4, 1:4] = 1  # all of its voxels but one are surface
    comparison = Comparison(prediction=segmentation(prediction), reference=segmentation(reference))
    prediction[2, 2, 2] = 0
    row = comparison.update(box((2, 3), (2, 3), (2, 3))).rows[0]
    assert comparison.computed == {1}
    assert (row.dice, row.asd_mm) == (2 * 26 / 53, 0.0)


def test_a_label_that_is_painted_over_loses_its_row() -> None:
    prediction, reference = organs()
    comparison = Comparison(prediction=segmentation(prediction), reference=segmentation(np.zeros_like(reference)))
    stroke = box((0, 24), (0, 40), (13, 26))
    prediction[stroke] = 0
    assert [row.label for row in comparison.update(stroke).rows] == [1, 3]
    assert comparison.computed == frozenset()


def test_a_box_may_leave_the_image() -> None:
    prediction, reference = organs()
    comparison = Comparison(prediction=segmentation(prediction), reference=segmentation(reference))
    prediction[:2, :2, :2] = 7
    assert comparison.update(box((-5, 2), (-5, 2), (-5, 90))).rows[-1].label == 7


def test_the_box_is_in_the_prediction_s_own_order() -> None:
    prediction, reference = organs()
    order = AxisOrder.between("SPL", "RAI")
    moved = Segmentation(
        np.ascontiguousarray(order.apply(prediction)), Grid.from_spacing(reference.shape, SPACING).reordered(order)
    )
    comparison = Comparison(prediction=moved, reference=segmentation(reference), block_voxels=2000)
    stroke = box((0, 3), (5, 30), (8, 16))
    np.asarray(moved.data)[stroke] = 9
    found = comparison.update(stroke)
    assert found.rows[-1].label == 9
    assert_same(found, evaluate(prediction=moved, reference=segmentation(reference)))


def test_a_stroke_of_no_valid_id_is_refused_and_forgotten() -> None:
    prediction, reference = organs()
    signed = prediction.astype(np.int16)
    b, a = segmentation(signed), segmentation(reference)
    comparison = Comparison(prediction=b, reference=a, block_voxels=2000)
    signed[0, 0, 0], signed[-1, -1, -1] = 2, -1
    with pytest.raises(InputError, match="the prediction needs label ids from 0 to 2147483647; got -1"):
        comparison.update(box((0, 24), (0, 40), (0, 40)))
    signed[-1, -1, -1] = 0
    assert_same(comparison.update(box((0, 24), (0, 40), (0, 40))), evaluate(prediction=b, reference=a))


@dataclass
class Spy:
    """An array that counts how often each voxel is read."""

    data: Labels
    chunks: tuple[int, int, int]
    reads: Labels = field(init=False)

    def __post_init__(self) -> None:
        self.reads = np.zeros(self.data.shape, np.int32)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.data.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __getitem__(self, where: Box) -> Labels:
        self.reads[where] += 1
        return self.data[where]


def test_every_voxel_is_read_once_and_a_stroke_reads_its_surroundings() -> None:
    b, a = (Spy(array, (5, 8, 8)) for array in organs())
    comparison = Comparison(prediction=segmentation(b), reference=segmentation(a), block_voxels=2000)
    for spy in (b, a):
        assert (spy.reads == 1).all()
        spy.reads[...] = 0
    b.data[23, 39, 39] = 1
    comparison.update(box((23, 24), (39, 40), (39, 40)))
    assert comparison.computed == {1}
    for spy in (b, a):
        assert 0 < np.count_nonzero(spy.reads) < spy.reads.size // 4


def test_memory_follows_the_block_and_the_surfaces_not_the_volume() -> None:
    prediction, reference = np.zeros((2, 112, 224, 224), np.uint8)
    z, y, x = np.ogrid[:41, :41, :41]
    ball = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 20**2
    for label, first in enumerate(((10, 10, 30), (60, 100, 60), (40, 170, 175)), start=1):
        for array, shift in ((reference, 0), (prediction, 2)):
            array[tuple(slice(f + shift, f + shift + 41) for f in first)][ball] = label
    b, a = (segmentation(zarr.array(array, chunks=(16, 32, 32))) for array in (prediction, reference))
    expected = evaluate(prediction=segmentation(prediction), reference=segmentation(reference))
    tracemalloc.start()
    scores = Comparison(prediction=b, reference=a, block_voxels=1 << 16).scores
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_same(scores, expected)
    assert peak < reference.size / 2, f"{peak} bytes for two volumes of {reference.size}"
