"""Layers and nouns: nothing moves, nothing is copied, nothing is believed that no longer holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Layer

from napari_medseg.arrays.views import onto
from napari_medseg.errors import GridMismatchError, InputError, MedsegWarning
from napari_medseg.geometry import AxisOrder
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import (
    GRID_KEY,
    labels_layer,
    placement,
    to_segmentation,
    to_volume,
    volume_layer,
)
from orientations import ORIENTATIONS, SHAPE, grid_of


def labels_on(grid: Grid, **names: str) -> Segmentation:
    data = np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.int32)
    data[1, 2, 3] = 2**31 - 1
    return Segmentation(data, grid, {int(k[1:]): v for k, v in names.items()}, name="organs")


def as_layer(segmentation: Segmentation) -> Labels:
    return Layer.create(*labels_layer(segmentation))


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.1, 0.25)], ids=["straight", "oblique"])
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_labels_come_back_bit_exact_on_their_grid(
    axes: tuple[int, ...], signs: tuple[int, ...], angles: tuple[float, float, float]
) -> None:
    segmentation = labels_on(grid_of(axes, signs, angles), _1="liver", _3="left kidney")
    back = to_segmentation(as_layer(segmentation))
    np.testing.assert_array_equal(np.asarray(back.data), segmentation.data)
    np.testing.assert_array_equal(back.grid.affine, segmentation.grid.affine)
    assert dict(back.labels) == {1: "liver", 3: "left kidney"}
    assert np.shares_memory(back.data, segmentation.data)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_a_landmark_lies_in_naparis_world_where_it_lies_in_the_patient(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    grid = grid_of(axes, signs)
    data = np.zeros(grid.shape, np.uint8)
    data[4, 1, 5] = 9
    layer = as_layer(Segmentation(data, grid))
    inferior, posterior, left = layer.data_to_world(np.argwhere(layer.data == 9)[0])
    np.testing.assert_allclose((-inferior, posterior, left), grid.index_to_world((4, 1, 5)), atol=0.01)
    assert tuple(str(u) for u in layer.units) == ("millimeter",) * 3


@given(
    angles=st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_an_oblique_volume_keeps_its_centre_and_its_grid(
    angles: tuple[float, float, float], orientation: Any, shape: tuple[int, int, int]
) -> None:
    axes, signs = orientation
    grid = grid_of(axes, signs, angles, shape)
    volume = Volume(np.zeros((1, *shape), np.float32), grid, name="mr")
    layer = Layer.create(*volume_layer(volume)[0])
    shown = np.array(layer.data_to_world((np.array(layer.data.shape) - 1) / 2))
    centre = grid.index_to_world((np.array(shape) - 1) / 2)
    np.testing.assert_allclose(shown * (-1, 1, 1), centre, atol=1e-6)
    np.testing.assert_array_equal(to_volume(layer).grid.affine, grid.affine)


def test_an_image_is_wrapped_and_never_copied() -> None:
    data = np.zeros((1, *SHAPE), np.int16)
    layer = Layer.create(*volume_layer(Volume(data, grid_of((2, 0, 1), (1, -1, 1)), name="ct"))[0])
    back = to_volume(layer)
    assert np.shares_memory(back.data, data)
    assert (back.name, back.channels, back.data.shape) == ("ct", ("channel 0",), data.shape)


def test_channels_become_layers_and_layers_channels() -> None:
    data = np.random.default_rng(1).normal(size=(2, *SHAPE))
    grid = grid_of((0, 1, 2), (-1, 1, 1))
    layers = [Layer.create(*d) for d in volume_layer(Volume(data, grid, ("T1", "FLAIR"), name="brain"))]
    assert [layer.name for layer in layers] == ["brain T1", "brain FLAIR"]
    back = to_volume(layers)
    assert isinstance(back.data, da.Array)
    assert back.channels == ("T1", "FLAIR")
    np.testing.assert_array_equal(np.asarray(back.data[:, 1:3]), data[:, 1:3])


def test_channels_may_be_stored_in_another_order() -> None:
    data = np.random.default_rng(1).normal(size=(1, *SHAPE))
    first = Volume(data, Grid.from_spacing(SHAPE, (2.0, 1.0, 1.5)), name="T1")
    order = AxisOrder((2, 0, 1), (True, False, True))
    second = Volume(order.apply(data), first.grid.reordered(order), name="FLAIR")
    back = to_volume([Layer.create(*volume_layer(one)[0]) for one in (first, second)])
    assert back.grid.same_as(first.grid)
    np.testing.assert_array_equal(np.asarray(back.data[:, :, :, :]), np.concatenate([data, data]))


def test_channels_on_different_grids_are_refused() -> None:
    layers = [
        Layer.create(*volume_layer(Volume(np.zeros((1, *SHAPE)), Grid.from_spacing(SHAPE, (s, 1, 1)), name=f"s{s}"))[0])
        for s in (1.0, 2.0)
    ]
    with pytest.raises(GridMismatchError, match=r"channels must lie on the same grid; layer 's1.0' has 5x6x7 at 1, 1"):
        to_volume(layers)


def test_a_zarr_image_stays_lazy(tmp_path: Path) -> None:
    store = zarr.create_array(tmp_path / "ct.zarr", shape=(1, *SHAPE), chunks=(1, 2, 2, 2), dtype="i2")
    store[:] = np.arange(store.size).reshape(store.shape)
    layer = Layer.create(*volume_layer(Volume(store, grid_of((1, 0, 2), (1, 1, 1))))[0])
    assert isinstance(layer.data, da.Array)
    back = to_volume(layer)
    assert isinstance(back.data, da.Array)
    np.testing.assert_array_equal(np.asarray(back.data), store[:])


def test_a_label_store_in_display_order_is_painted_in_place(tmp_path: Path) -> None:
    store = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=(2, 2, 2), dtype="u1")
    layer = as_layer(Segmentation(store, grid_of((0, 1, 2), (-1, 1, -1))))
    layer.paint((2, 3, 3), 4)
    assert store[2, 3, 3] == 4
    assert to_segmentation(layer).data is store
    layer.undo()
    assert store[2, 3, 3] == 0


def test_a_label_store_in_another_order_is_loaded_to_be_painted(tmp_path: Path) -> None:
    store = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=(2, 2, 2), dtype="u1")
    store[4, 1, 2] = 3
    layer = as_layer(Segmentation(store, grid_of((2, 0, 1), (1, 1, 1))))
    layer.paint((0, 0, 0), 4)
    back = np.asarray(to_segmentation(layer).data)
    assert back.shape == SHAPE
    assert (back[4, 1, 2], back[0, 0, 0]) == (3, 4)


def test_a_store_opened_for_reading_is_loaded_and_left_alone(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=(2, 2, 2), dtype="u1")[2, 2, 2] = 3
    store = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    layer = as_layer(Segmentation(store, grid_of((0, 1, 2), (1, 1, 1))))
    layer.paint((0, 0, 0), 4)
    assert (layer.data[0, 0, 0], layer.data[2, 2, 2], store[0, 0, 0]) == (4, 3, 0)


def test_a_read_only_array_is_copied_to_be_painted() -> None:
    data = np.zeros(SHAPE, np.uint8)
    data.setflags(write=False)
    layer = as_layer(Segmentation(data, Grid.from_spacing(SHAPE, (1, 1, 1))))
    layer.paint((0, 0, 0), 1)
    assert layer.data[0, 0, 0] == 1
    assert data[0, 0, 0] == 0


def test_painting_a_permuted_view_reaches_the_segmentation() -> None:
    segmentation = labels_on(grid_of((2, 1, 0), (1, 1, -1)))
    layer = as_layer(segmentation)
    layer.data_setitem((np.array([6]), np.array([5]), np.array([4])), 77)
    assert np.asarray(segmentation.data)[4, 5, 6] == 77


def test_multiscale_data_count_at_their_finest_level() -> None:
    levels = [np.zeros(SHAPE), np.zeros((3, 3, 4))]
    layer = Image(levels, multiscale=True, scale=(2, 1, 1), units="mm")
    volume = to_volume(layer)
    assert volume.data.shape == (1, *SHAPE)
    assert volume.grid.spacing == (2, 1, 1)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.1, 0.25)], ids=["straight", "oblique"])
@pytest.mark.parametrize("flipped", [False, True], ids=["same scale", "positive scale"])
def test_a_layer_drawn_over_another_takes_its_grid(angles: tuple[float, float, float], flipped: bool) -> None:
    grid = grid_of((1, 2, 0), (1, -1, 1), angles)
    image = Layer.create(*volume_layer(Volume(np.zeros((1, *SHAPE)), grid))[0])
    data = np.zeros(image.data.shape, np.uint8)
    data[0, 1, 2] = 1
    scale, translate = np.array(image.scale), np.array(image.translate)
    if flipped:  # as New Labels makes it when several layers are selected
        translate = np.where(scale < 0, translate + scale * (np.array(data.shape) - 1), translate)
        scale = np.abs(scale)
    drawn = Labels(data, scale=scale, translate=translate, units=image.units)
    back = to_segmentation(drawn, [image, drawn])
    np.testing.assert_array_equal(back.grid.affine, grid.affine)
    shown = image.world_to_data(drawn.data_to_world((0, 1, 2)))
    assert image.data.shape == drawn.data.shape
    expected = np.zeros(image.data.shape, np.uint8)
    expected[tuple(np.round(shown).astype(int))] = 1
    np.testing.assert_array_equal(placement(image).from_layer(expected), np.asarray(back.data))


@pytest.mark.parametrize(
    "change",
    [{"scale": (-4, 1, 1)}, {"translate": (5, 0, 0)}, {"units": ("um", "um", "um")}],
    ids=["scale", "translate", "units"],
)
def test_a_grid_in_the_metadata_is_not_believed_once_the_layer_moved(change: dict[str, Any]) -> None:
    layer = Layer.create(*volume_layer(Volume(np.zeros((1, *SHAPE)), Grid.from_spacing(SHAPE, (2, 1, 1))))[0])
    before = to_volume(layer).grid
    for name, value in change.items():
        setattr(layer, name, value)
    assert not to_volume(layer).grid.same_as(before)


def test_a_grid_in_the_metadata_of_another_shape_is_not_believed() -> None:
    grid = Grid.from_spacing(SHAPE, (2, 1, 1))
    projected = Image(np.zeros((6, 7)), scale=(1, 1), units=("mm", "mm"), metadata={GRID_KEY: grid})
    assert to_volume(projected).grid.shape == (1, 6, 7)


def test_a_foreign_layer_without_units_is_taken_as_mm_with_a_warning() -> None:
    layer = Image(np.zeros(SHAPE), scale=(2, 1, 1), name="stack")
    with pytest.warns(MedsegWarning, match="layer 'stack' has no units: its scale is taken as mm"):
        grid = to_volume(layer).grid
    assert (grid.spacing, grid.orientation) == ((2, 1, 1), "IPL")


def test_a_foreign_layer_in_micrometres_is_converted() -> None:
    layer = Image(np.zeros(SHAPE), scale=(2000, 500, 500), units=("um", "um", "um"))
    np.testing.assert_allclose(to_volume(layer).grid.spacing, (2, 0.5, 0.5))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, about its display
def test_a_foreign_layer_that_is_turned_keeps_its_turn() -> None:
    layer = Image(np.zeros(SHAPE), scale=(2, 1, 1), rotate=(20, 0, 10), translate=(3, 4, 5), units="mm")
    grid = to_volume(layer).grid
    assert grid.is_oblique
    for index in ((0, 0, 0), (4, 5, 6), (1, 0, 3)):
        np.testing.assert_allclose(np.array(layer.data_to_world(index)) * (-1, 1, 1), grid.index_to_world(index))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            Image(np.zeros((2, 4, 5, 3), np.uint8), rgb=True, name="stack"),
            "layer 'stack' holds colours and is no single 2D image",
        ),
        (
            Image(np.zeros((2, 3, 4, 5)), name="series"),
            "layer 'series' must be a volume .z, y, x.; it has 4 dimensions: right-click .* Split Stack",
        ),
        (Image(np.zeros(SHAPE), units=("s", "mm", "mm"), name="movie"), "layer 'movie' needs lengths on its axes"),
    ],
    ids=["rgb", "4D", "time"],
)
def test_what_is_no_volume_is_refused(layer: Image, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_volume(layer)


def test_colours_of_a_2d_layer_are_channels_and_its_labels_are_2d() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (4, 5, 4), np.uint8)
    layer = Image(photo, rgb=True, scale=(2, 3), translate=(7, 8), units="mm", name="photo")
    image = to_volume(layer)
    assert image.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(np.asarray(image.data)[:, 0], np.moveaxis(photo[..., :3], -1, 0))
    data, arguments, _ = labels_layer(Segmentation(np.ones((1, 4, 5), np.uint8), image.grid, {1: "cell"}), [layer])
    made = Labels(data, **arguments)
    assert made.ndim == 2
    np.testing.assert_allclose(made.data_to_world((1, 1)), layer.data_to_world((1, 1)))
    assert to_segmentation(made).grid.same_as(image.grid)
    with pytest.raises(InputError, match="one of them holds colours"):
        to_volume([layer, layer])


def test_no_layer_is_refused() -> None:
    with pytest.raises(InputError, match="choose an image layer first"):
        to_volume([])


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::5])
def test_grids_equal_up_to_flips_and_permutations_match_losslessly(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    target = labels_on(grid_of((0, 1, 2), (1, 1, 1), (0.1, 0.2, 0.1)))
    order = AxisOrder((axes[0], axes[1], axes[2]), (signs[0] < 0, signs[1] < 0, signs[2] < 0))
    other = Segmentation(order.apply(np.asarray(target.data)), target.grid.reordered(order), name="other")
    back = onto(other, target.grid)
    np.testing.assert_array_equal(np.asarray(back.data), target.data)
    assert back.grid.same_as(target.grid)


def test_a_grid_elsewhere_is_left_for_the_core_to_refuse() -> None:
    a, b = (labels_on(Grid.from_spacing(SHAPE, (s, 1, 1))) for s in (1.0, 2.0))
    assert onto(a, b.grid) is a
