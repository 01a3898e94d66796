"""The layers on which a person tells a session where things are: points, strokes, and the labels that come of them.

A row of the points or strokes is one prompt. Rows are values (`Row`): what the session has and what the layers hold are
compared, so that a prompt that is drawn, moved or deleted with napari's own tools is one in the session too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Points, Shapes
from napari.utils.events import EventEmitter
from skimage.measure import find_contours

from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.geometry import FloatArray, Shape3, triple_of
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.prompts import Box, Index, Lasso, Point, Prompt, Scribble, SliceMask
from napari_medseg.widgets.canvas.layers import GRID_KEY, Placement, placement, transform_of
from napari_medseg.widgets.canvas.slice_in_view import axis_in_view, turn_across

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Kind = Literal["point", "path", "rectangle", "polygon"]
HERE, NOT_HERE = "#2ca02c", "#d62728"
"""The colours of prompts that say where a label is, and where it is not."""
_LABELS_AT_MOST = 2 * 2**30
"""Bytes of the labels' image: a larger volume is refused."""
_CONTOUR = 1
"""Pixels of the border of a mask in a slice."""
_PREVIEW = "#ffd700"
"""The colour of what a click would give."""
_BRUSH = 10
"""Voxels across, and a tenth of a small volume."""
_NEAR = 0.5
"""Of a pixel: a row's plane is the voxel that it lies nearest to."""


@dataclass(frozen=True)
class Row:
    """What is drawn: hashable, so that rows can be compared as sets."""

    kind: Kind
    at: tuple[tuple[float, ...], ...]
    """Its points, in the layer's own axes, to a hundredth of a voxel."""
    label: int
    positive: bool

    @classmethod
    def of(cls, kind: Kind, vertices: npt.ArrayLike, label: int, positive: bool) -> Row:
        rounded = np.round(np.atleast_2d(np.asarray(vertices, dtype=float)), 2) + 0.0
        return cls(kind, tuple(map(tuple, rounded.tolist())), label, positive)


class Canvas:
    """The layers of one session on an image, made where they are first needed.

    on_rows is called when the user changed what is drawn. on_stroke(voxels, value) is called after a stroke on the
    labels: (n, 3) voxels of the volume. on_ray(voxels) is called after a click in 3D: what lies behind the mouse.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        on_rows: Callable[[], None],
        on_stroke: Callable[[npt.NDArray[np.int64], int], None],
        on_ray: Callable[[FloatArray], None],
    ) -> None:
        self.viewer, self.image = viewer, image
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedsegWarning)  # who takes the image itself is warned
            self.place: Placement = placement(image, viewer.layers)
        self._on_rows, self._on_stroke, self._on_ray = on_rows, on_stroke, on_ray
        self._label, self._positive = 1, True
        self._quiet = False
        self._copies: WeakSet[Labels] = WeakSet()
        """The labels in other views."""
        self.preview: Shapes | None = None
        """What a click would give, made where it is first shown."""
        self.array = self._labels_array()
        shown = self.place.to_layer(self.place.order.inverse.apply(self.array))
        self.labels: Labels = self._add(Labels(shown, name=f"{image.name} labels", **self._place()))
        self.labels.metadata[GRID_KEY] = self.place.grid
        self.place = replace(self.place, beside=self.labels)  # the image may change
        self.labels.brush_size = min(_BRUSH, max(1, sorted(self.place.grid.shape)[1] // 10))
        self.points: Points = self._add(
            Points(
                ndim=image.ndim,
                name=f"{image.name} clicks",
                size=self._point_size(),
                border_color="white",
                features={"label": np.zeros(0, int), "positive": np.zeros(0, bool)},
                **self._place(),
            )
        )
        self.strokes: Shapes = self._add(
            Shapes(
                ndim=image.ndim,
                name=f"{image.name} strokes",
                face_color="transparent",
                edge_width=self._point_size() / 4,
                features={"label": np.zeros(0, int), "positive": np.zeros(0, bool)},
                **self._place(),
            )
        )
        self.labels.events.paint.connect(self._on_paint)
        for layer in (self.points, self.strokes):
            layer.events.data.connect(self._on_data)
        # napari calls its own callbacks first, and one of them warns about contours in 3D: only an emitter of napari
        # comes before that one.
        self._early = EventEmitter(source=self, type_name="ndisplay")
        self._early.connect(_entering_3d(self))
        self._callbacks = (_on_click_in_3d(self), self._early, _back_in_2d(self))
        viewer.mouse_drag_callbacks.append(self._callbacks[0])
        viewer.dims.events.ndisplay.connect(self._early, position="first")
        viewer.dims.events.ndisplay.connect(self._callbacks[2], position="last")
        self._callbacks[2](None)
        self.draw_for(1, positive=True)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.labels, self.points, self.strokes

    def image_on_grid(self) -> npt.NDArray[Any]:
        """The labels' array in the order of the volume's grid: a view."""
        return self.place.order.inverse.apply(self.array)

    def draw_for(self, label: int, *, positive: bool) -> None:
        """What is drawn from now on is of this label, and says that it is there, or not."""
        self._label, self._positive = label, positive
        colour = HERE if positive else NOT_HERE
        self.labels.selected_label = label
        self._quiet = True
        try:
            self.points.selected_data, self.strokes.selected_data = set(), set()
            self.points.current_face_color = colour
            self.strokes.current_edge_color = colour
            for layer in (self.points, self.strokes):
                layer.feature_defaults = {"label": [label], "positive": [positive]}
        finally:
            self._quiet = False

    def rows(self) -> list[Row]:
        """What the layers hold now."""
        return [*rows_of(self.points), *rows_of(self.strokes)]

    def show(self, rows: Iterable[Row]) -> None:
        """Make these the rows of the layers."""
        rows = list(rows)
        if set(rows) == set(self.rows()):
            return
        self._quiet = True
        try:
            _fill_points(self.points, [row for row in rows if row.kind == "point"])
            _fill_shapes(self.strokes, [row for row in rows if row.kind != "point"])
        finally:
            self._quiet = False
        self.draw_for(self._label, positive=self._positive)

    def prompt_of(self, row: Row) -> Prompt:
        """What a row says, in voxels of the volume. Raises InputError where it says nothing there."""
        at, shape = self.to_grid(np.array(row.at)), self.place.grid.shape
        if (at.max(axis=0) < -_NEAR).any() or (at.min(axis=0) > np.array(shape) - _NEAR).any():
            raise InputError(f"what was drawn lies outside of layer {self.image.name!r}: draw on the image")
        if row.kind == "point":
            return Point(_voxel(at[0].clip(0, np.array(shape) - 1)), label=row.label, positive=row.positive)
        if row.kind == "path":
            voxels = _between(at).clip(0, np.array(shape) - 1)
            return Scribble(voxels, label=row.label, positive=row.positive)
        axis = int(np.argmin(np.ptp(at, axis=0)))
        if np.ptp(at[:, axis]) > _NEAR:
            raise InputError("a box or lasso is drawn in one slice: turn the view back to slices (2D)")
        index = int(np.clip(round(float(at[0, axis])), 0, shape[axis] - 1))
        if row.kind == "rectangle":
            low, high = box_of(at, axis, index, shape, self.place.grid.spacing)
            return Box(low, high, label=row.label, positive=row.positive)
        return Lasso(np.delete(at, axis, axis=1), axis, index, label=row.label, positive=row.positive)

    def row_of(self, prompt: Prompt) -> Row | None:
        """How a prompt is drawn; None for a painted slice, which the labels show."""
        said = (prompt.label, prompt.positive)
        match prompt:
            case Point():
                return Row.of("point", self.to_layer(np.array([prompt.at])), *said)
            case Scribble():
                return Row.of("path", self.to_layer(_polyline(prompt.voxels)), *said)
            case Box():
                low, high = np.array(prompt.low), np.array(prompt.high) - 1
                axis = axis_in_view(self.viewer.dims, self.place)
                corners = np.repeat([(low + high) // 2], 4, axis=0)
                rows, columns = (a for a in range(3) if a != axis)
                corners[:, rows] = [low[rows], low[rows], high[rows], high[rows]]
                corners[:, columns] = [low[columns], high[columns], high[columns], low[columns]]
                return Row.of("rectangle", self.to_layer(corners), *said)
            case Lasso():
                vertices = np.insert(prompt.polygon, prompt.axis, prompt.index, axis=1)
                return Row.of("polygon", self.to_layer(vertices), *said)
            case SliceMask():
                return None

    def to_grid(self, at: npt.ArrayLike) -> FloatArray:
        """(n, layer.ndim) points of the layer -> (n, 3) points of the volume's grid."""
        return self.place.to_grid(np.atleast_2d(at))

    def to_layer(self, at: npt.ArrayLike) -> FloatArray:
        """(n, 3) points of the volume's grid -> (n, layer.ndim) points of the layer."""
        return self.place.from_grid(at)

    def slice_shown(self) -> tuple[int, int]:
        """(the axis of the volume's grid, the index) of the slice on the screen; in 3D of the last one."""
        axis = axis_in_view(self.viewer.dims, self.place)
        at = self.to_grid([self.image.world_to_data(self.viewer.dims.point)])[0]
        return axis, int(np.clip(round(float(at[axis])), 0, self.place.grid.shape[axis] - 1))

    def show_slice(self, axis: int, index: int) -> None:
        """Show a slice across an axis of the volume's grid, the patient's axes turned so that it is a plane (2D)."""
        dims = self.viewer.dims
        turn_across(dims, self.place, axis)
        dims.ndisplay = 2
        at = self.to_grid([self.image.world_to_data(dims.point)])[0]
        at[axis] = index
        point = self.image.data_to_world(self.to_layer(at[None])[0])
        dims.set_point(range(dims.ndim - len(point), dims.ndim), point)

    def slider_steps(self, axis: int, indices: Sequence[int]) -> list[int]:
        """What napari's slider says at slices across an axis of the volume's grid; empty where there is no slider."""
        axes = self.place.axes
        if len(axes) < 3:
            return []
        ours, at = axes[self.place.order.axes.index(axis)], np.zeros((len(indices), 3))
        at[:, axis] = indices
        start, _, step = self.viewer.dims.range[ours]
        return [round((self.image.data_to_world(place)[ours] - start) / step) for place in self.to_layer(at)]

    def ray(self, event: Any) -> FloatArray | None:
        """(n, 3) voxels of the volume that lie behind the mouse in 3D, the nearest first; None beside the volume."""
        start, end = self.image.get_ray_intersections(
            event.position, event.view_direction, event.dims_displayed, world=True
        )
        if start is None or end is None:
            return None
        steps = max(2, int(np.ceil(2 * np.abs(end - start).max())))
        return self.to_grid(start + np.linspace(0, 1, steps)[:, None] * (end - start))

    def add_point(self, index_zyx: Index) -> None:
        """A point as if the user had clicked in a slice."""
        self.points.add(self.to_layer(np.array([index_zyx]))[0])

    def voxel_under(self, world: Sequence[float]) -> Index | None:
        """The voxel of the volume's grid at a place of the world; None beside the volume."""
        at = self.to_grid([self.image.world_to_data(world)])[0]
        inside = (at > -_NEAR).all() and (at < np.array(self.place.grid.shape) - _NEAR).all()
        return _voxel(at) if inside else None

    def show_preview(self, mask: SparseMask) -> None:
        """Show the border of what a click would give in the slice on the screen; an empty mask takes it away."""
        if self.preview is None and not mask:
            return
        axis, index = self.slice_shown()
        outlines = [self.to_layer(line) for line in outlines_of(mask, axis, index)]
        if self.preview is None or self.preview not in self.viewer.layers:
            if not outlines:
                return
            active = self.viewer.layers.selection.active
            made = Shapes(ndim=self.image.ndim, name=f"{self.image.name} preview", **self._place())
            self.preview = self._add(made)
            self.viewer.layers.selection.active = active
        if self.preview.nshapes:
            self.preview.selected_data = set(range(self.preview.nshapes))
            self.preview.remove_selected()
        if outlines:
            width = self._point_size() / 8
            look = {"edge_color": _PREVIEW, "face_color": "transparent", "edge_width": width}
            self.preview.add(outlines, shape_type="path", **look)

    def refresh(self) -> None:
        """Draw the labels again after their array was written into."""
        self.labels.refresh(extent=False)

    def follow_copy(self, copy: Labels) -> None:
        """What is painted in a copy of the labels, in another view of the same array, counts as well."""
        copy.events.paint.connect(self._on_paint)  # once: napari connects a method twice no more than once
        self._copies.add(copy)

    def put_back(self) -> bool:
        """Add prompt layers that the user removed again, as they were; whether there were any."""
        gone = [layer for layer in (self.points, self.strokes) if layer not in self.viewer.layers]
        for layer in gone:
            self.viewer.add_layer(layer)
        return bool(gone)

    def close(self, _destroyed: object = None) -> None:
        """Follow the layers no more; they stay."""
        if self._callbacks[0] not in self.viewer.mouse_drag_callbacks:
            return  # closed before
        self.viewer.mouse_drag_callbacks.remove(self._callbacks[0])
        for callback in self._callbacks[1:]:
            self.viewer.dims.events.ndisplay.disconnect(callback)
        for labels in (self.labels, *self._copies):
            labels.events.paint.disconnect(self._on_paint)
        self.labels.contour = 0  # nobody turns contours off for 3D any more
        if self.preview is not None and self.preview in self.viewer.layers:
            self.viewer.layers.remove(self.preview)
        self.preview = None
        for layer in (self.points, self.strokes):
            layer.events.data.disconnect(self._on_data)

    def _labels_array(self) -> npt.NDArray[np.uint16]:
        shape = self.place.order.shape(self.place.grid.shape)
        if 2 * int(np.prod(shape)) > _LABELS_AT_MOST:
            raise InputError(
                f"layer {self.image.name!r} is larger than {_LABELS_AT_MOST >> 30} GiB of labels: crop the part that "
                f"you need, or use napari-medseg interact"
            )
        return np.zeros(shape, np.uint16)

    def _place(self) -> dict[str, Any]:
        return transform_of(self.image)

    def _add(self, layer: Any) -> Any:
        return self.viewer.add_layer(layer)

    def _point_size(self) -> float:
        """Voxels: a sixtieth of the image's longer side, and no less than three."""
        return max(3.0, max(self.place.grid.shape) / 60)

    def _on_data(self, event: Any) -> None:
        if not self._quiet and str(getattr(event, "action", "")) in ("added", "removed", "changed"):
            self._on_rows()

    def _on_paint(self, event: Any) -> None:
        atoms = [_painted(atom) for atom in event.value]
        if not atoms:
            return
        voxels = np.unique(np.rint(self.to_grid(np.concatenate([at for at, _ in atoms]))).astype(np.int64), axis=0)
        self._on_stroke(voxels, int(np.max(atoms[-1][1])))


def rows_of(layer: Layer) -> list[Row]:
    """What a layer of points or strokes holds now; nothing for another layer."""
    if isinstance(layer, Points):
        return [Row.of("point", at, *_said(layer, n)) for n, at in enumerate(layer.data)]
    if not isinstance(layer, Shapes):
        return []
    kinds: dict[str, Kind] = {"path": "path", "rectangle": "rectangle", "polygon": "polygon", "ellipse": "polygon"}
    drawn = zip(layer.data, layer.shape_type, strict=True)
    return [Row.of(kinds.get(kind, "path"), at, *_said(layer, n)) for n, (at, kind) in enumerate(drawn)]


def _painted(atom: Sequence[Any]) -> tuple[npt.NDArray[np.intp], Any]:
    """((n, ndim) voxels, what they became) of an edit in napari's history.

    That is (indices, before, after), since napari 0.9 for the brush (box, mask in it or None for all, before, after).
    """
    if len(atom) == 3:
        where, _, after = atom
        return np.stack([np.asarray(index).ravel() for index in where], axis=1), after
    box, mask, _, after = atom
    inside = np.ones([side.stop - side.start for side in box], bool)
    if mask is not None:
        inside &= np.reshape(mask, inside.shape)
    return np.argwhere(inside) + [side.start for side in box], after


def _on_click_in_3d(canvas: Canvas) -> Callable[[Any, Any], Any]:
    """A mouse callback of the viewer: a click without a drag while the points are the active layer."""

    def on_mouse(viewer: Any, event: Any) -> Any:
        # `!=`: the panel's layers are proxies, which are equal to napari's and never the same.
        if viewer.dims.ndisplay != 3 or viewer.layers.selection.active != canvas.points:
            return
        ray = canvas.ray(event)
        yield
        while event.type == "mouse_move":
            ray = None
            yield
        if ray is not None:
            canvas._on_ray(ray)

    return on_mouse


def _entering_3d(canvas: Canvas) -> Callable[[Any], None]:
    """In 3D masks are filled. napari puts points on a plane there, not on what is seen."""

    def follow(_event: Any) -> None:
        if canvas.viewer.dims.ndisplay == 3:
            canvas.labels.contour = 0
            if canvas.points.mode == "add":
                canvas.points.mode = "pan_zoom"

    return follow


def _back_in_2d(canvas: Canvas) -> Callable[[Any], None]:
    """In slices masks are contours, so that the image in them is seen."""

    def follow(_event: Any) -> None:
        if canvas.viewer.dims.ndisplay == 2:
            canvas.labels.contour = _CONTOUR

    return follow


def box_of(corners: FloatArray, axis: int, index: int, shape: Shape3, spacing: Sequence[float]) -> tuple[Index, Index]:
    """The box of a rectangle in a slice: as far up and down as its longer side, and no farther than the volume.

    The slice stays in the middle: that is where the box says what it holds.
    """
    low = np.floor(corners.min(axis=0) + 0.5).astype(int).clip(0, np.array(shape) - 1)
    high = np.floor(corners.max(axis=0) + 0.5).astype(int).clip(0, np.array(shape) - 1) + 1
    longest_mm = max((high[a] - low[a]) * spacing[a] for a in range(3) if a != axis)
    reach = min(round(longest_mm / spacing[axis]), index, shape[axis] - 1 - index)
    low[axis], high[axis] = index - reach, index + reach + 1
    return _voxel(low), _voxel(high)


def outlines_of(mask: SparseMask, axis: int, index: int) -> list[FloatArray]:
    """The closed lines (n, 3) around a mask in a slice, in voxels of the volume."""
    if not mask.box[axis].start <= index < mask.box[axis].stop:
        return []
    plane = np.pad(mask.inside.take(index - mask.box[axis].start, axis), 1)
    low = [side.start - 1 for a, side in enumerate(mask.box) if a != axis]
    return [np.insert(line + low, axis, index, axis=1) for line in find_contours(plane.astype(np.float32), 0.5)]


def seen(values: npt.NDArray[Any], low: float, high: float) -> int:
    """Which sample of a ray a person sees, nearest first: the first as bright as the brightest that the screen shows.

    low, high: the image's limits of contrast; all beyond them looks the same.
    """
    shown = np.nan_to_num(np.asarray(values, dtype=float), nan=low).clip(low, high)
    return int(np.argmax(shown >= shown.max()))


def _said(layer: Any, n: int) -> tuple[int, bool]:
    return int(layer.features["label"].iloc[n]), bool(layer.features["positive"].iloc[n])


def _colours(rows: Sequence[Row]) -> list[str]:
    return [HERE if row.positive else NOT_HERE for row in rows]


def _features(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "label": np.array([row.label for row in rows], dtype=int),
        "positive": np.array([row.positive for row in rows], dtype=bool),
    }


def _fill_points(layer: Points, rows: Sequence[Row]) -> None:
    layer.selected_data = set()
    layer.data = np.array([row.at[0] for row in rows]) if rows else np.zeros((0, layer.ndim))
    layer.features = _features(rows)
    if rows:
        layer.face_color = _colours(rows)


def _fill_shapes(layer: Shapes, rows: Sequence[Row]) -> None:
    layer.selected_data = set(range(layer.nshapes))
    layer.remove_selected()
    if rows:
        layer.add([np.array(row.at) for row in rows], shape_type=[row.kind for row in rows])
        layer.features = _features(rows)
        layer.edge_color = _colours(rows)


def _voxel(at: npt.ArrayLike) -> Index:
    return triple_of(max(0, int(np.floor(v + 0.5))) for v in np.asarray(at, dtype=float).tolist())


def _between(at: FloatArray) -> npt.NDArray[np.int64]:
    """(n, 3) voxels along a polyline, each once, in their order."""
    parts = [at[:1]]
    for a, b in pairwise(at):
        steps = max(1, int(np.ceil(np.abs(b - a).max())))
        parts.append(a + np.linspace(0, 1, steps + 1)[1:, None] * (b - a))
    voxels = np.floor(np.concatenate(parts) + 0.5).astype(np.int64)
    kept = np.concatenate([[True], (np.diff(voxels, axis=0) != 0).any(axis=1)])
    found: npt.NDArray[np.int64] = voxels[kept]
    return found


def _polyline(voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The voxels of a scribble as a path, which needs two points."""
    return voxels if len(voxels) > 1 else np.repeat(voxels, 2, axis=0)
