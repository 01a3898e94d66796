"""Every transform that a napari layer can carry: what is made of the layer lies on it, or one line refuses it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Layer

from grids import rotation
from napari_medseg.errors import InputError
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import (
    labels_layer,
    placement,
    surface_layer,
    to_segmentation,
    to_volume,
    volume_layer,
    world_point,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Non-orthogonal slicing:UserWarning",  # napari's own, about its display
    "ignore:layer .* has no units:napari_medseg.errors.MedsegWarning",
)
MM = {"mm": 1.0, "um": 1e-3, "m": 1e3, "pixel": 1.0}
NUMBERS = st.floats(-3, 3).map(lambda x: round(x, 3))
STEPS = st.sampled_from([0.4, 1.0, 2.5]).flatmap(lambda s: st.sampled_from([s, -s]))


@st.composite
def matrices(draw: st.DrawFn, ndim: int) -> npt.NDArray[np.float64]:
    """An affine (n + 1, n + 1) of the volume or of all axes, down to nearly singular; napari takes no singular one."""
    matrix = np.eye(ndim + 1)
    size = draw(st.sampled_from([min(ndim, 3), ndim]))
    values = draw(st.lists(NUMBERS, min_size=size * (size + 1), max_size=size * (size + 1)))
    block = np.reshape(values[: size * size], (size, size))
    matrix[ndim - size : ndim, ndim - size : ndim] = np.round(block, 1) if draw(st.booleans()) else np.eye(size) + block
    matrix[ndim - size : ndim, ndim] = values[size * size :]
    assume(abs(np.linalg.det(matrix)) > 1e-6)
    return matrix


@st.composite
def transforms(draw: st.DrawFn, ndim: int, *, ours: bool = False) -> dict[str, Any]:
    """Some of the arguments of a layer that move it; those of a layer with our Grid are added to its own."""
    kinds = {
        "translate": st.tuples(*[st.floats(-200, 200)] * ndim),
        "affine": matrices(ndim),
        "shear": st.tuples(*[st.floats(-1, 1)] * (ndim * (ndim - 1) // 2)),
        "rotate": st.floats(-180, 180) if ndim == 2 else st.tuples(*[st.floats(-180, 180)] * 3),
        "scale": st.tuples(*[STEPS] * ndim),
        "units": st.tuples(*[st.sampled_from(["mm", "um", "m"])] * ndim) | st.just(("pixel",) * ndim),
    }
    if ours:
        kinds["scale"] = kinds["scale"] | st.none()
    chosen = draw(st.sets(st.sampled_from(sorted(kinds))))
    made: dict[str, Any] = {name: draw(kinds[name]) for name in sorted(chosen)}
    if "rotate" in made and ndim > 3:
        whole = np.eye(ndim)
        place = draw(st.integers(0, ndim - 3))
        whole[place : place + 3, place : place + 3] = rotation(np.deg2rad(made["rotate"]))
        made["rotate"] = whole
    if "units" in made and ndim > 3 and draw(st.booleans()):
        made["units"] = ("s", *made["units"][1:])
    return {name: value for name, value in made.items() if value is not None}


@st.composite
def foreign_layers(draw: st.DrawFn) -> Image:
    """2D, 3D, or with axes of length 1 anywhere."""
    shape = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(2, 3)))]
    for _ in range(draw(st.integers(0, 2)) if len(shape) == 3 else 0):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    data = np.random.default_rng(0).integers(0, 1000, shape)
    return Image(data, name="moved", **draw(transforms(len(shape))))


@st.composite
def moved_layers(draw: st.DrawFn) -> Image:
    """A layer as a file opens, oblique or not, which the user then moved."""
    affine = np.eye(4)
    turn = rotation(draw(st.tuples(*[st.floats(-0.6, 0.6)] * 3)))
    affine[:3, :3] = turn @ np.eye(3)[:, list(draw(st.permutations(range(3))))] * draw(st.tuples(*[STEPS] * 3))
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    data = np.random.default_rng(0).integers(0, 1000, (1, *shape))
    (content,) = volume_layer(Volume(data, Grid(shape, affine), name="moved"))
    layer = Layer.create(*content)
    for name, value in draw(transforms(3, ours=True)).items():
        setattr(layer, name, value)
    return layer


def world_mm(layer: Layer, index: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Where napari shows a voxel of the layer's own array, in mm."""
    factors = [MM.get("".join({"millimeter": "mm", "micrometer": "um", "meter": "m"}.get(str(u), str(u)))) or 1.0
               for u in layer.units]  # fmt: skip
    return np.array(layer.data_to_world(index)) * factors


@given(layer=foreign_layers() | moved_layers())
@settings(max_examples=100)
def test_a_result_lies_on_its_image_or_the_image_is_refused(layer: Image) -> None:
    try:
        volume = to_volume(layer, [layer])
    except InputError:
        with pytest.raises(InputError, match=r"\Alayer 'moved' [^\n]+\Z"):
            to_volume(layer, [layer])
        return
    # Each voxel gets a label of its own, by its value in the image: they cannot be mixed up.
    ids = np.arange(1, layer.data.size + 1).reshape(layer.data.shape)
    numbered = Image(
        ids, **{n: getattr(layer, n) for n in ("scale", "translate", "rotate", "shear", "affine", "units")}
    )
    numbered.metadata.update(layer.metadata)
    as_labels = Segmentation(np.asarray(to_volume(numbered).data)[0], volume.grid, {1: "first"}, name="found")

    made = Layer.create(*labels_layer(as_labels, [layer]))

    back = to_segmentation(made, [layer, made])
    assert back.grid.same_as(volume.grid)
    np.testing.assert_array_equal(np.asarray(back.data), as_labels.data)
    # A layer that was turned by less than a hundredth of a voxel still counts as lying where its metadata say.
    reach = 1e-6 * (1 + np.abs(volume.grid.affine).max()) + 0.01 * min(volume.grid.spacing)
    for index in itertools.product(*({0, n - 1} for n in made.data.shape)):
        (own,) = np.argwhere(ids == made.data[index])
        np.testing.assert_allclose(world_mm(made, index), world_mm(layer, tuple(own)), atol=reach)
        (on_grid,) = np.argwhere(as_labels.data == made.data[index])
        np.testing.assert_allclose(made.data_to_world(index), world_point(made, on_grid, [layer]), atol=reach)
    (content,) = volume_layer(volume, [layer])
    again = to_volume(Layer.create(*content), [layer])
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(volume.data))
    assert again.grid.same_as(volume.grid)


@given(layer=foreign_layers())
@settings(max_examples=40)
def test_the_grid_of_a_foreign_layer_is_where_napari_shows_it(layer: Image) -> None:
    try:
        place = placement(layer)
    except InputError:
        return
    numbers = place.from_layer(np.arange(layer.data.size).reshape(layer.data.shape))
    for index in itertools.product(*({0, n - 1} for n in layer.data.shape)):
        (on_grid,) = np.argwhere(numbers == np.ravel_multi_index(index, layer.data.shape))
        shown = world_mm(layer, index)
        # An axis of length 1 that is left out moves nothing: the volume's own axes are the others, in order.
        world = place.grid.index_to_world(on_grid) * (-1, 1, 1)
        kept = [w for w in world if np.isclose(shown, w, atol=1e-6 * (1 + abs(w))).any()]
        assert len(kept) >= min(3, layer.ndim)


def test_a_layer_turned_out_of_its_volume_is_refused() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0, -1], [1, 0]]
    layer = Image(np.zeros((1, 3, 4, 5)), rotate=turn, units="mm", name="movie")
    with pytest.raises(InputError, match="layer 'movie' is turned out of its volume, into axis 0 of length 1"):
        to_volume(layer)


def test_a_layer_that_is_squashed_flat_is_refused_by_its_name() -> None:
    flat = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1.0001, 0], [0, 0, 0, 1]])
    layer = Image(np.zeros((3, 4, 5)), affine=flat, units="mm", name="flat")
    with pytest.raises(InputError, match="layer 'flat' has a scale or transform that is of no use: "):
        to_volume(layer)


def test_a_time_of_length_1_is_left_out_before_a_plane() -> None:
    layer = Image(np.zeros((1, 1, 4, 5)), scale=(9, 2, 1, 1), units=("mm", "s", "mm", "mm"), name="frame")
    assert to_volume(layer).grid.spacing == (9, 1, 1)


def test_the_labels_of_a_slice_are_a_slice() -> None:
    image = Image(np.zeros((6, 7)), scale=(2, 3), rotate=30, units="mm")
    found = Segmentation(np.ones((1, 6, 7), np.uint8), to_volume(image).grid, name="found")
    made = Layer.create(*labels_layer(found, [image]))
    assert isinstance(made, Labels)
    assert made.data.shape == (6, 7)
    made.paint((1, 2), 5)
    assert (np.asarray(found.data)[0, 1, 2], np.asarray(to_segmentation(made, [image]).data)[0, 1, 2]) == (5, 5)


def test_a_layer_is_not_laid_on_one_that_has_another_grid() -> None:
    points, other = Layer.create(np.zeros((2, 3)), {}, "points"), Image(np.zeros((3, 4, 5)), rotate=(30, 0, 0))
    found = Segmentation(np.zeros((3, 4, 5), np.uint8), Grid.from_spacing((3, 4, 5), (1, 1, 1)))
    made = Layer.create(*labels_layer(found, [points, other]))
    np.testing.assert_array_equal(made.rotate, np.eye(3))


def test_a_surface_lies_on_turned_labels() -> None:
    from napari_medseg.metrics.pairwise.surface_mesh import SurfaceMesh

    layer = Labels(np.zeros((3, 4, 5), np.uint8), scale=(2, 1, 1), rotate=(30, 20, 0), units="mm")
    corners = np.array([[0, 0, 0], [2, 3, 4], [1, 0, 2]], float)
    mesh = SurfaceMesh(corners, np.array([[0, 1, 2]]), np.zeros(3), placement(layer).grid)
    (vertices, _, _), _, _ = surface_layer(mesh, layer)
    np.testing.assert_allclose(vertices, [layer.data_to_world(corner) for corner in corners], atol=1e-9)
