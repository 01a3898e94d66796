from __future__ import annotations

import itertools
import pickle

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from grids import ORIENTATIONS, grid, grids, rotation
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.volume import (
    MAX_LABEL,
    Grid,
    LazyArray,
    Segmentation,
    Volume,
    is_named,
    places_of,
    require_same_grid,
    same_name,
)

PLAIN = Grid.from_spacing((2, 3, 4), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0))


def affine_with(index: tuple[int, int], value: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    affine = np.eye(4)
    affine[index] = value
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "match"),
    [
        pytest.param((2, 3), np.eye(4), "three positive sizes", id="two sizes"),
        pytest.param((2, 3, 0), np.eye(4), "three positive sizes", id="no voxel"),
        pytest.param((2, 3, 4), np.eye(3), "finite 4x4 affine", id="3x3 affine"),
        pytest.param((2, 3, 4), affine_with((0, 3), np.nan), "finite 4x4 affine", id="NaN"),
        pytest.param((2, 3, 4), affine_with((1, 1), 0.0), "non-zero axes", id="zero spacing"),
        pytest.param((2, 3, 4), affine_with((3, 0), 1.0), "last row 0 0 0 1", id="last row"),
        pytest.param((2, 3, 4), np.eye(4)[:, [0, 0, 2, 3]], "singular", id="two parallel axes"),
    ],
)
def test_an_impossible_grid_cannot_be_built(
    shape: tuple[int, int, int], affine: np.ndarray[tuple[int, int], np.dtype[np.float64]], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        Grid(shape, affine)


def test_a_grid_of_a_spacing() -> None:
    assert PLAIN.spacing == (3.0, 2.0, 1.0)
    assert PLAIN.origin == (10.0, 20.0, 30.0)
    assert PLAIN.orientation == "SPL"
    assert not PLAIN.is_oblique
    assert PLAIN.voxel_volume_mm3 == pytest.approx(6.0)
    assert PLAIN.index_to_world([1, 2, 3]).tolist() == [13.0, 24.0, 33.0]
    assert PLAIN.describe() == "2x3x4 at 3, 2, 1 mm, origin (10, 20, 30), SPL"


def test_an_affine_cannot_be_changed_behind_the_grid() -> None:
    affine = np.eye(4)
    built = Grid((2, 3, 4), affine)
    affine[0, 0] = 7
    assert built.spacing == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        built.affine[0, 0] = 7


@given(drawn=grids, index=st.tuples(*[st.floats(-10, 10)] * 3))
def test_index_and_world_are_inverse(drawn: Grid, index: tuple[float, float, float]) -> None:
    assert drawn.world_to_index(drawn.index_to_world(index)) == pytest.approx(np.array(index), abs=1e-6)


@given(drawn=grids)
def test_corners_are_the_outermost_voxels(drawn: Grid) -> None:
    indices = np.moveaxis(np.indices(drawn.shape), 0, -1).reshape(-1, 3)
    ends = indices[np.all((indices == 0) | (indices == np.array(drawn.shape) - 1), axis=1)]
    corners = {tuple(np.round(corner, 6)) for corner in drawn.corners}
    assert corners == {tuple(np.round(corner, 6)) for corner in drawn.index_to_world(ends)}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_grids_are_the_same_up_to_one_per_cent_of_the_smallest_spacing(orientation: str) -> None:
    one = grid(orientation)
    near, far = (np.array(one.affine) for _ in range(2))
    near[0, 3] += 0.0099 * 0.7
    far[0, 3] += 0.0101 * 0.7
    assert one.same_as(Grid(one.shape, near))
    assert not one.same_as(Grid(one.shape, far))
    assert not one.same_as(Grid((3, 4, 6), one.affine))


orders = st.builds(
    AxisOrder,
    st.sampled_from(list(itertools.permutations(range(3)))),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


@given(drawn=grids, order=orders, seed=st.integers(0, 99))
def test_a_reordered_grid_is_brought_back_voxel_by_voxel(drawn: Grid, order: AxisOrder, seed: int) -> None:
    other = drawn.reordered(order)
    back = other.order_onto(drawn)
    assert back is not None
    assert other.reordered(back).same_as(drawn)
    data = np.random.default_rng(seed).integers(0, 99, drawn.shape)
    # An axis of one voxel may stay as it is: turning it moves nothing.
    assert np.array_equal(back.apply(order.apply(data)), data)


@given(drawn=grids, order=orders, axis=st.integers(0, 2))
def test_a_grid_that_lies_elsewhere_is_not_brought_onto_the_other(drawn: Grid, order: AxisOrder, axis: int) -> None:
    affine = np.array(drawn.affine)
    affine[axis, 3] += 0.5 * min(drawn.spacing)
    assert Grid(drawn.shape, affine).reordered(order).order_onto(drawn) is None


@pytest.mark.parametrize("turn", [0.25, 0.75, 1.25])
@pytest.mark.parametrize("order", [AxisOrder((1, 0, 2), (True, False, False)), AxisOrder((2, 0, 1), (False,) * 3)])
def test_axes_half_way_between_those_of_the_patient_are_matched_too(turn: float, order: AxisOrder) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation((turn * np.pi, turn * np.pi, 0.0))
    drawn = Grid((4, 4, 4), affine)
    assert drawn.reordered(order).order_onto(drawn) == order.inverse


def test_grids_of_other_spacing_or_size_have_no_order() -> None:
    assert PLAIN.order_onto(PLAIN.with_spacing((1.5, 2.0, 1.0))) is None
    assert PLAIN.order_onto(Grid((4, 3, 2), PLAIN.affine)) is None


def test_a_small_turn_moves_the_far_corner() -> None:
    small, large = grid("SPL", angles_rad=(1e-4, 0, 0)), grid("SPL", angles_rad=(1e-1, 0, 0))
    assert small.same_as(grid("SPL"))
    assert not large.same_as(grid("SPL"))


ARRAYS = [
    pytest.param(np.zeros((1, 2, 3, 4), np.int16), id="numpy"),
    pytest.param(da.zeros((1, 2, 3, 4), dtype=np.int16), id="dask"),
    pytest.param(zarr.zeros((1, 2, 3, 4), dtype=np.int16), id="zarr"),
]


@pytest.mark.parametrize("data", ARRAYS)
def test_a_volume_wraps_its_array(data: LazyArray) -> None:
    volume = Volume(data, PLAIN)
    assert volume.data is data
    assert volume.channels == ("channel 0",)


@pytest.mark.parametrize(
    ("data", "channels", "match"),
    [
        pytest.param(np.zeros((2, 3, 4)), (), r"add the channel axis with data\[None\]", id="no channel axis"),
        pytest.param(np.zeros((1, 2, 3, 5)), (), "its grid is", id="another shape"),
        pytest.param(np.zeros((1, 2, 3, 4), complex), (), "real numbers; got dtype complex", id="complex"),
        pytest.param(np.zeros((1, 2, 3, 4)), ("T1", "T2"), "1 channels but 2 channel names", id="two names"),
    ],
)
def test_a_volume_that_does_not_fit_cannot_be_built(data: LazyArray, channels: tuple[str, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Volume(data, PLAIN, channels)
    with pytest.raises(InputError, match="volume 'ct'"):
        Volume(data, PLAIN, channels, name="ct")


@pytest.mark.parametrize(
    ("data", "labels", "match"),
    [
        pytest.param(np.zeros((2, 3, 4)), {}, "integer labels; got dtype float64", id="float"),
        pytest.param(np.zeros((1, 2, 3, 4), int), {}, "its grid is", id="a channel axis"),
        pytest.param(np.zeros((2, 3, 4), int), {-1: "x"}, "label ids from 0", id="negative id"),
        pytest.param(np.zeros((2, 3, 4), int), {MAX_LABEL + 1: "x"}, "label ids from 0", id="large id"),
    ],
)
def test_a_segmentation_that_does_not_fit_cannot_be_built(data: LazyArray, labels: dict[int, str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Segmentation(data, PLAIN, labels)


def test_labels_are_sorted_named_and_frozen() -> None:
    segmentation = Segmentation(np.zeros((2, 3, 4), int), PLAIN, {7: "spleen", 1: "liver"})
    assert list(segmentation.labels) == [1, 7]
    assert (segmentation.label_name(7), segmentation.label_name(8)) == ("spleen", "label 8")
    with pytest.raises(TypeError, match="does not support item assignment"):
        segmentation.labels[2] = "x"  # type: ignore[index]


def test_a_segmentation_crosses_processes() -> None:
    segmentation = Segmentation(np.ones((2, 3, 4), int), PLAIN, {1: "liver"}, name="case")
    copy = pickle.loads(pickle.dumps(segmentation))
    assert (copy.labels, copy.name, copy.grid.same_as(PLAIN)) == ({1: "liver"}, "case", True)
    assert np.array_equal(copy.data[:], segmentation.data[:])


def test_things_on_different_grids_are_refused_with_both_grids() -> None:
    volume = Volume(np.zeros((1, 2, 3, 4)), PLAIN, name="ct")
    apart = Segmentation(np.zeros((2, 3, 4), int), Grid.from_spacing((2, 3, 4), (3.0, 2.0, 1.0)))
    require_same_grid(volume, volume, "image", "image")
    with pytest.raises(GridMismatchError, match=r"labels and image 'ct' .* origin \(0, 0, 0\).* origin \(10, 20, 30\)"):
        require_same_grid(apart, volume, "labels", "image")


@pytest.mark.parametrize("other", ["Left_Kidney", "left kidney", " LEFT--kidney".replace("--", "-"), "left  kidney"])
def test_the_spelling_of_a_name_does_not_count(other: str) -> None:
    assert same_name("left-kidney", other)


@pytest.mark.parametrize(("a", "b"), [("CD4-", "CD4"), ("CD4-", "CD4+"), ("leftkidney", "left kidney"), ("T1", "-T1")])
def test_other_names_are_other_names(a: str, b: str) -> None:
    assert not same_name(a, b)


def test_a_name_as_it_is_written_goes_before_its_spellings() -> None:
    names = ["left-kidney", "left kidney", "liver"]
    assert places_of("left kidney", names) == [1]
    assert places_of("Left_Kidney", names) == [0, 1]
    assert places_of("spleen", names) == []
    assert not is_named(7, "Label-7")
