"""What a click would give, shown while the mouse rests over an object that has a mask already."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_medseg.errors import InputError
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import Index, Point

if TYPE_CHECKING:
    from napari_medseg.widgets.interacting.work_on_image import WorkOnImage

_RESTS_MS = 200
"""How long the mouse rests before a preview is worked out."""


class Hover(QObject):
    """Follows the mouse in slices while points are drawn.

    A first click looks for the scale of an object and takes longest: before it nothing is shown. Nothing is asked while
    the session works, and what comes late is dropped.
    """

    def __init__(self, work: WorkOnImage) -> None:
        super().__init__(work)
        self._work = work
        self.is_on = True
        self._at: Index | None = None
        self._rests = QTimer(self)
        self._rests.setSingleShot(True)
        self._rests.setInterval(_RESTS_MS)
        self._rests.timeout.connect(self._ask)
        self._callback = _on_move(self)
        work.canvas.viewer.mouse_move_callbacks.append(self._callback)

    def close(self) -> None:
        """Follow the mouse no more."""
        self._rests.stop()
        self._at = None
        if self._callback in self._work.canvas.viewer.mouse_move_callbacks:
            self._work.canvas.viewer.mouse_move_callbacks.remove(self._callback)

    def clear(self) -> None:
        """Take away what is shown."""
        self._rests.stop()
        self._at = None
        self._work.canvas.show_preview(SparseMask.empty())

    def moved(self, world: tuple[float, ...]) -> None:
        """The mouse is at another place of the world."""
        work, canvas = self._work, self._work.canvas
        points = canvas.viewer.layers.selection.active == canvas.points and canvas.points.mode == "add"
        if not (self.is_on and points) or work.on_demand or canvas.viewer.dims.ndisplay != 2:
            if self._at is not None:
                self.clear()
            return
        at = canvas.voxel_under(world)
        if at != self._at:
            self.clear()
            self._at = at
            if at is not None:
                self._rests.start()

    def _ask(self) -> None:
        work, at = self._work, self._at
        if at is None or work.queue.left or work.label not in work.view.millilitres:
            return
        prompt = Point(at, label=work.label, positive=work.positive)

        def show(mask: SparseMask) -> None:
            if self._at is at:
                work.canvas.show_preview(mask)

        work.compute(partial(_previewed, prompt=prompt), show)


def _previewed(session: InteractiveSession, prompt: Point) -> SparseMask:
    """In the worker: what a click would give; nothing where it would be refused."""
    try:
        return session.preview([prompt])
    except InputError:
        return SparseMask.empty()


def _on_move(hover: Hover) -> Any:
    """A mouse callback of the viewer: a function, since napari keeps it."""

    def on_move(_viewer: Any, event: Any) -> None:
        hover.moved(tuple(event.position))

    return on_move
