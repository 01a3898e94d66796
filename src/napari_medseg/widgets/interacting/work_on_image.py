"""A session on an image of the viewer: its layers, the worker that computes it, and what the panel shows of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal

from napari_medseg import io
from napari_medseg.errors import MedsegError
from napari_medseg.geometry import FloatArray
from napari_medseg.interactive.autosave import log_path
from napari_medseg.interactive.desk import Change, Desk, View
from napari_medseg.interactive.learning.said import said
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import Index, Point, Prompt
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import bare, to_volume
from napari_medseg.widgets.canvas.prompt_layers import Canvas, Row, rows_of, seen
from napari_medseg.widgets.interacting.hover import Hover
from napari_medseg.widgets.work.in_order import InOrder

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Layer


@dataclass(frozen=True)
class _Left:
    """A layer as a session left it."""

    log: Path
    """Of the session."""
    name: str
    rows: list[Row]

    @classmethod
    def of(cls, layer: Layer, log: Path) -> _Left:
        return cls(log, layer.name, rows_of(layer))


@dataclass(frozen=True, eq=False)
class Shown:
    """An image layer's array, and where the viewer shows it."""

    data: tuple[Any, ...]
    """The array; of a multiscale image each level, since napari wraps them anew where they are set."""
    units: tuple[str, ...]
    corners: FloatArray
    """In the world: the first voxel, and the next one along each axis."""

    @classmethod
    def of(cls, image: Layer) -> Shown:
        layer = bare(image)
        ndim = layer.ndim
        corners = [layer.data_to_world(row) for row in (np.zeros(ndim), *np.eye(ndim))]
        data = tuple(layer.data) if layer.multiscale else (layer.data,)
        return cls(data, tuple(map(str, layer.units)), np.array(corners))

    def change_to(self, now: Shown) -> str:
        """What is other about the image now, in words; empty where nothing is."""
        if len(now.data) != len(self.data) or any(a is not b for a, b in zip(now.data, self.data, strict=True)):
            return "holds another image now"
        same = now.units == self.units and np.array_equal(now.corners, self.corners)
        return "" if same else "has another place or other units now"


_left: WeakKeyDictionary[Layer, _Left] = WeakKeyDictionary()
"""The layers themselves: a copy that the user made is none of them."""


class WorkOnImage(QObject):
    """Everything that is asked of it is done in order, in a worker; `changed` tells when the window can show it.

    `ended` is emitted after `close`, when all that was drawn is in the log, and the log is free for another window.
    """

    changed = Signal()
    ended = Signal()

    def __init__(self, viewer: Viewer, image: Image, parent: QObject) -> None:
        super().__init__(parent)
        self.viewer, self.image = viewer, image
        self.volume = to_volume(image, viewer.layers)
        self._began_on = Shown.of(image)
        self.canvas = Canvas(viewer, image, self.follow_rows, self._painted, self._clicked)
        self.queue = InOrder(self)
        self.view = View()
        self.label, self.positive = 1, True
        self.on_demand = False
        """Whether what is drawn waits for `run`."""
        self._drawn: dict[Row, Prompt] = {}
        """What the user sees drawn, and what the session was, or will be, told of it."""
        self._desk: Desk | None = None
        self.hover = Hover(self)
        self.queue.idle.connect(self.changed)

    @property
    def change_of_image(self) -> str:
        """What is other about the image than when the work began, in words; empty where nothing is."""
        return self._began_on.change_to(Shown.of(self.image))

    def close(self) -> None:
        """Leave the layers. What was drawn still goes into the log, also what waited for `run`: see `ended`."""
        self.on_demand = False
        self.leave_tools()
        self.hover.close()
        self.queue.drop()
        self.canvas.close()
        self.queue.idle.disconnect(self.changed)
        self.queue.idle.connect(self._end)
        self._end()

    def leave_tools(self) -> None:
        """Nothing more is drawn until a tool is taken."""
        for layer in self.canvas.layers:
            layer.mode = "pan_zoom"

    def choose(self, label: int, *, positive: bool | None = None) -> None:
        """Draw for another object, or with the other sign. None: the sign stays."""
        self.label, self.positive = label, self.positive if positive is None else positive
        self.canvas.draw_for(label, positive=self.positive)
        self.changed.emit()

    def next_label(self) -> int:
        """The smallest label that nothing has yet."""
        used = {*self.view.millilitres, *self.view.locked, *self.view.names, *(row.label for row in self._drawn)}
        return next(label for label in range(1, len(used) + 2) if label not in used)

    def do(self, change: Change) -> None:
        """Change the session as soon as what was asked for before is done."""
        self._ask(lambda desk: desk.do(change))

    def resume(self, log: Path) -> None:
        """Go on with what a log of this image holds. Layers that show the same from before it was left go."""

        def show(view: View) -> None:
            self._show(view)
            if not view.error:
                self._replace(log)

        self.queue.ask(lambda: self._at_desk().resume(log), show, lasts=True)
        self.changed.emit()

    def accept(self) -> None:
        """Lock the object, and go on to the next one."""
        label = self.label
        self.do(lambda session: session.lock(label))
        used = {label, self.next_label()}
        self.choose(max(used) if label in self.view.millilitres else label + 1)

    def run(self) -> None:
        """Tell the session what was drawn since, as one change a label."""
        self.follow_rows(now=True)

    def follow_rows(self, *, now: bool = False) -> None:
        """Bring the session to what is drawn: a row more is a prompt more, a row less one less."""
        rows = self.canvas.rows()
        for row in [row for row in self._drawn if row not in rows]:
            gone = self._drawn.pop(row)
            self.do(partial(_without, prompt=gone))
        if self.on_demand and not now:
            return
        new: dict[int, list[Prompt]] = {}
        for row in dict.fromkeys(rows):
            if row in self._drawn:
                continue
            try:
                prompt = self.canvas.prompt_of(row)
            except MedsegError as error:
                show_error(str(error))
                self._ask(lambda desk: desk.do(_nothing))  # the row goes when the window is brought to the session
                continue
            self._drawn[row] = prompt
            new.setdefault(row.label, []).append(prompt)
        for prompts in new.values():
            self.do(partial(_with, prompts=prompts))

    def compute(self, work: Callable[[InteractiveSession], Any], then: Callable[[Any], None]) -> None:
        """Something else about the session, in the worker and in its turn."""
        self.queue.ask(lambda: work(self._at_desk().session), then)

    def save(self, path: Path) -> None:
        """Write the labels to a file, once what was asked for before is done."""

        def write() -> None:
            io.write(path, self._at_desk().session.segmentation)

        self.queue.ask(write, lambda _: show_info(f"wrote {path}"), lasts=True)
        self.changed.emit()

    def said(self) -> Segmentation | str:
        """In the worker: the labels as far as the user vouches for them, or why there are none."""
        try:
            return said(self._at_desk().session)
        except MedsegError as error:
            return str(error)

    def _replace(self, log: Path) -> None:
        """Remove the layers that were left with a log, but for those that the user changed since then."""
        layers = self.viewer.layers
        left = [layer for layer in layers if bare(layer) in _left and _left[bare(layer)] == _Left.of(layer, log)]

        def remove(same: list[bool]) -> None:
            for layer, is_same in zip(left, same, strict=True):
                if is_same and layer in layers:
                    layers.remove(layer)
            for layer, what in zip(self.canvas.layers, ("labels", "clicks", "strokes"), strict=True):
                layer.name = f"{self.image.name} {what}"

        now = self.canvas.labels.data
        if left:
            self.queue.ask(lambda: _same(left, now), remove)

    def _end(self) -> None:
        """Tell the session what it was not told yet; then leave its log."""
        self.follow_rows()
        if not self.queue.left:
            self.queue.idle.disconnect(self._end)
            if self._desk is not None:
                self._desk.close()
                for layer in self.canvas.layers:
                    _left[bare(layer)] = _Left.of(layer, self._desk.log)
            self.ended.emit()

    def _ask(self, job: Callable[[Desk], View]) -> None:
        self.queue.ask(lambda: job(self._at_desk()), self._show, lasts=True)
        self.changed.emit()

    def _at_desk(self) -> Desk:
        """In the worker: its session, which reads some of the volume when it begins."""
        if self._desk is None:
            self._desk = Desk(self.volume, self.canvas.image_on_grid(), log_path(self.volume))
        return self._desk

    def _show(self, view: View) -> None:
        """The session after a change; the rows follow it once nothing waits."""
        self.view = view
        self.hover.clear()
        if view.error:
            show_error(view.error)
        elif view.notice:
            show_info(view.notice)
        self.canvas.refresh()
        if not self.queue.left:
            self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        """Draw what the session was told and still holds, and what waits for `run`."""
        waiting = [row for row in self.canvas.rows() if row not in self._drawn] if self.on_demand else []
        rows = {prompt: row for row, prompt in self._drawn.items()}
        wanted = {rows.get(p) or self.canvas.row_of(p): p for p in self.view.prompts}
        self._drawn = {row: prompt for row, prompt in wanted.items() if row is not None}
        self.canvas.show([*self._drawn, *waiting])

    def _painted(self, voxels: npt.NDArray[np.int64], value: int) -> None:
        shown, _ = self.canvas.slice_shown()
        self._ask(lambda desk: desk.paint(voxels, value, shown))

    def _clicked(self, ray: FloatArray) -> None:
        """A click in 3D: a point at the voxel that is seen there."""
        low, high = (float(limit) for limit in self.image.contrast_limits)
        at = partial(_voxel_seen, self.volume.data, ray, low, high)
        if self.on_demand:
            self.queue.ask(at, self._add_point, lasts=True)
            return
        label, positive = self.label, self.positive
        self.do(lambda session: session.add(Point(at(), label=label, positive=positive)))

    def _add_point(self, at: Index) -> None:
        self.canvas.add_point(at)
        self.follow_rows()  # after `close` nobody tells of it


def _voxel_seen(data: Any, ray: FloatArray, low: float, high: float) -> tuple[int, int, int]:
    """In the worker: the voxel of a ray that a person sees. Reads the boxes around pieces of the ray only."""
    shape = np.array(data.shape[1:])
    voxels = np.floor(ray + 0.5).astype(np.int64).clip(0, shape - 1)
    values = []
    for part in np.array_split(voxels, max(1, len(voxels) // 64)):
        first, last = part.min(axis=0), part.max(axis=0) + 1
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        block = np.asarray(data[0:1, z, y, x])[0]
        values.append(block[tuple((part - first).T)])
    at = voxels[seen(np.concatenate(values), low, high)].tolist()
    return at[0], at[1], at[2]


def _same(layers: list[Layer], labels: Any) -> list[bool]:
    """In the worker: which layers are no labels, or these."""
    return [not isinstance(layer, Labels) or np.array_equal(layer.data, labels) for layer in layers]


def _nothing(_session: InteractiveSession) -> None:
    """The window is brought to what the session is."""


def _with(session: InteractiveSession, prompts: list[Prompt]) -> Segmentation:
    return session.add_all(prompts)


def _without(session: InteractiveSession, prompt: Prompt) -> None:
    if any(prompt is known for known in session.prompts):  # else it was refused, or undone
        session.remove(prompt)
