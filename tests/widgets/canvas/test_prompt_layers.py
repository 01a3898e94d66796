"""What is drawn on the layers of a session, in voxels of the volume: on a grid whose axes the layer turns around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_medseg.errors import InputError
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask
from napari_medseg.volume import Grid, Volume
from napari_medseg.widgets.canvas.layers import volume_layer
from napari_medseg.widgets.canvas.prompt_layers import Canvas, Row, box_of, seen

SHAPE = (6, 8, 10)
AFFINE = np.array([[0.0, 3, 0, 1], [2, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
"""The stored axes run to P, S and L: the layer shows them as (S, P, L)."""
PROMPTS: dict[str, Prompt] = {
    "point": Point((1, 5, 7), label=2),
    "not here": Point((0, 0, 0), label=1, positive=False),
    "scribble": Scribble(np.array([[1, 2, 3], [1, 3, 4], [1, 4, 5]]), label=3),
    "one voxel": Scribble(np.array([[1, 2, 3]]), label=3),
    "lasso": Lasso(np.array([[1.0, 1.0], [1.0, 6.0], [4.0, 6.0]]), axis=1, index=3, label=1),
}


@dataclass
class Told:
    """What a canvas told its owner."""

    rows: list[int] = field(default_factory=list)
    strokes: list[tuple[Any, int]] = field(default_factory=list)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def canvas(viewer: ViewerModel, told: Told) -> Canvas:
    image = Volume(np.zeros((1, *SHAPE), np.int16), Grid(SHAPE, AFFINE))
    data, arguments, _ = volume_layer(image)[0]
    layer = viewer.add_image(data, **{**arguments, "contrast_limits": (0, 1)})
    return Canvas(viewer, layer, lambda: told.rows.append(1), lambda *said: told.strokes.append(said), lambda _: None)


def same(a: Prompt, b: Prompt) -> bool:
    return type(a) is type(b) and all(np.array_equal(value, vars(b)[name]) for name, value in vars(a).items())


def shown(canvas: Canvas) -> npt.NDArray[Any]:
    return canvas.image_on_grid()


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_a_prompt_is_drawn_and_read_back(canvas: Canvas, prompt: Prompt) -> None:
    row = canvas.row_of(prompt)
    assert row is not None
    assert same(canvas.prompt_of(row), prompt)
    canvas.show([row])
    assert canvas.rows() == [row], "the layers hold what was shown"


def test_the_layer_turns_the_axes_of_the_volume(canvas: Canvas) -> None:
    assert canvas.to_layer([[1, 5, 7]]).tolist() == [[5, 1, 7]]
    assert canvas.to_grid([[5, 1, 7]]).tolist() == [[1, 5, 7]]
    assert shown(canvas).shape == SHAPE


def test_a_rectangle_in_a_slice_is_a_box_as_deep_as_it_is_long(canvas: Canvas) -> None:
    corners = [[4, 1, 2], [4, 1, 6], [4, 3, 6], [4, 3, 2]]  # of the layer: across S, 3 voxels of 2 mm by 5 of 1 mm
    box = canvas.prompt_of(Row.of("rectangle", corners, 1, True))
    assert isinstance(box, Box)
    assert (box.low, box.high) == ((1, 2, 2), (4, 7, 7)), "6 mm long, so 2 slices of 3 mm to each side"
    assert canvas.row_of(box) == Row.of("rectangle", corners, 1, True)


def test_a_box_ends_at_the_volume() -> None:
    low, high = box_of(np.array([[1.0, -4.0, 2.0], [1.0, 30.0, 5.0]]), 0, 1, SHAPE, (1.0, 1.0, 1.0))
    assert (low, high) == ((0, 0, 2), (3, 8, 6)), "one slice to each side: there is no more below"


def test_a_shape_that_lies_in_no_slice_is_refused(canvas: Canvas) -> None:
    slanted = [[0, 0, 0], [1, 2, 3], [2, 4, 4], [3, 0, 1]]
    for kind in ("rectangle", "polygon"):
        with pytest.raises(InputError, match="drawn in one slice: turn the view back"):
            canvas.prompt_of(Row.of(kind, slanted, 1, True))


@pytest.mark.parametrize("kind", ["point", "path", "rectangle", "polygon"])
def test_what_lies_outside_of_the_image_is_refused(canvas: Canvas, kind: Any) -> None:
    beyond = [[4, -9, 2], [4, -9, 6], [4, -3, 6], [4, -3, 2]]
    with pytest.raises(InputError, match=r"outside of layer .*: draw on the image"):
        canvas.prompt_of(Row.of(kind, beyond[:1] if kind == "point" else beyond, 1, True))


def test_a_painted_slice_is_shown_by_the_labels(canvas: Canvas) -> None:
    assert canvas.row_of(SliceMask(np.ones((8, 10), bool), 0, 1, label=1)) is None


def test_rows_of_the_user_are_told_and_own_ones_are_not(canvas: Canvas, told: Told) -> None:
    canvas.draw_for(3, positive=False)
    canvas.show([Row.of("point", [5, 1, 7], 1, True)])
    assert told.rows == []
    canvas.points.add([2, 2, 2])
    assert told.rows
    assert set(canvas.rows()) == {Row.of("point", [5, 1, 7], 1, True), Row.of("point", [2, 2, 2], 3, False)}
    count = len(told.rows)
    canvas.show(canvas.rows())
    assert len(told.rows) == count, "nothing is drawn anew where all is the same"


def test_a_stroke_is_told_in_voxels_of_the_volume(canvas: Canvas, told: Told) -> None:
    canvas.labels.brush_size = 1
    canvas.labels.paint((5, 1, 7), 2)
    ((voxels, value),) = told.strokes
    assert voxels.tolist() == [[1, 5, 7]]
    assert value == 2
    assert shown(canvas)[1, 5, 7] == 2


def test_masks_are_contours_in_slices_and_filled_in_3d(canvas: Canvas) -> None:
    assert canvas.labels.contour == 1
    canvas.points.mode = "add"
    canvas.viewer.dims.ndisplay = 3
    assert canvas.labels.contour == 0
    assert canvas.points.mode == "pan_zoom"
    canvas.viewer.dims.ndisplay = 2
    assert canvas.labels.contour == 1


@pytest.mark.parametrize(("axis", "index"), [(0, 4), (1, 7), (2, 9)])
def test_a_slice_is_shown_whichever_axis_it_is_along(canvas: Canvas, axis: int, index: int) -> None:
    canvas.viewer.dims.ndisplay = 3
    canvas.show_slice(axis, index)
    assert canvas.viewer.dims.ndisplay == 2
    assert canvas.slice_shown() == (axis, index)


def test_a_closed_canvas_follows_nothing(canvas: Canvas, told: Told) -> None:
    callbacks = canvas.viewer.mouse_drag_callbacks
    copied = Labels(canvas.labels.data)
    canvas.follow_copy(copied)
    canvas.close()
    canvas.close()  # again: nothing to do
    canvas.points.add([2, 2, 2])
    canvas.labels.paint((5, 1, 7), 2)
    copied.paint((5, 1, 8), 2)
    canvas.viewer.dims.ndisplay = 3
    assert told == Told()
    assert not any(called is callback for called in callbacks for callback in canvas._callbacks)


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0, 1, 5, 9, 5], 3),
        ([0, 90, 95, 200], 3),
        ([0, 300, 400, 300], 1),  # beyond the limits all is white: the first of them is seen
        ([np.nan, 2, np.nan], 1),
    ],
)
def test_the_first_of_the_brightest_is_seen(values: list[float], index: int) -> None:
    assert seen(np.array(values), 0.0, 250.0) == index


def test_a_canvas_on_a_2d_image(viewer: ViewerModel) -> None:
    layer = viewer.add_image(np.zeros((8, 10), np.uint8), contrast_limits=(0, 1), units=("mm", "mm"))
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # the shortest that takes anything
    flat = Canvas(viewer, layer, nothing, nothing, nothing)
    assert shown(flat).shape == (1, 8, 10)
    flat.labels.data[3, 4] = 5
    assert shown(flat)[0, 3, 4] == 5
    assert flat.to_layer([[0, 3, 4]]).tolist() == [[3, 4]]
    assert flat.prompt_of(Row.of("point", [3, 4], 1, True)).at == (0, 3, 4)  # type: ignore[union-attr]
    box = flat.prompt_of(Row.of("rectangle", [[1, 2], [1, 5], [4, 5], [4, 2]], 1, True))
    assert (box.low, box.high) == ((0, 1, 2), (1, 5, 6))  # type: ignore[union-attr]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (1, 2, 0, 3), (0, 2, 3, 1)])
def test_a_series_elsewhere_in_the_viewer_leaves_the_slices(canvas: Canvas, order: tuple[int, ...]) -> None:
    canvas.viewer.add_image(np.zeros((3, 6, 8, 10)), contrast_limits=(0, 1))
    canvas.viewer.dims.order = order
    axis, _ = canvas.slice_shown()
    across = next(a for a in reversed(order[:2]) if a)  # an axis of the layer that is not on the screen
    assert axis == canvas.place.order.axes[across - 1]
    for axis, index in [(0, 4), (1, 7), (2, 9)]:
        canvas.show_slice(axis, index)
        assert canvas.slice_shown() == (axis, index)
        assert 0 not in canvas.viewer.dims.displayed


def test_a_canvas_on_one_point_of_time(viewer: ViewerModel) -> None:
    units = ("s", "mm", "mm", "mm")
    layer = viewer.add_image(np.zeros((1, *SHAPE), np.uint8), contrast_limits=(0, 1), units=units)
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # the shortest that takes anything
    made = Canvas(viewer, layer, nothing, nothing, nothing)
    assert made.to_layer([[1, 3, 4]]).tolist() == [[0, 1, 3, 4]]
    assert made.to_grid([[0, 1, 3, 4]]).tolist() == [[1, 3, 4]]
    made.labels.data[0, 1, 3, 4] = 5
    assert shown(made)[1, 3, 4] == 5
    made.show_slice(2, 7)
    assert made.slice_shown() == (2, 7)
    assert made.slider_steps(2, [3, 4]) == [3, 4]
