"""A session at work: each change goes into an image of labels and into a log, one after the other.

What a window needs of a session, without the window: strokes on the image become prompts, the image follows the
session, and a fault changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box as VoxelBox
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.interactive.autosave import claim, claim_new
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.session import InteractiveSession, resume_interaction
from napari_medseg.interactive.slices import plane
from napari_medseg.io.disk import locks
from napari_medseg.prompts import Prompt, SliceMask
from napari_medseg.volume import Volume

Change = Callable[[InteractiveSession], object]
"""What is done to a session; a text that it returns is told to the user."""


@dataclass(frozen=True)
class View:
    """What a session holds after a change."""

    prompts: tuple[Prompt, ...] = ()
    millilitres: dict[int, float] = field(default_factory=dict)
    """{label: its volume in ml}, of the labels that hold a voxel."""
    locked: frozenset[int] = frozenset()
    names: dict[int, str] = field(default_factory=dict)
    """{label: its name}, of those that have one."""
    can_undo: bool = False
    can_redo: bool = False
    log: Path | None = None
    """The file that keeps it."""
    notice: str = ""
    """What the change tells the user."""
    error: str = ""
    """Why the change was refused; then the session is as it was."""


class Desk:
    """A session, the writable image (Z, Y, X) that shows it, and the file that keeps it.

    image: on the volume's grid; the session's labels are written into it. log: the name that the file gets if it is
    free; see `claim_new`. Not for use from several threads at once.
    """

    def __init__(self, volume: Volume, image: npt.NDArray[Any], log: Path) -> None:
        self.volume = volume
        self.session = InteractiveSession(volume)
        self._image = image
        self._shown: dict[int, SparseMask] = {}
        self._name = log
        self._hold: locks.Hold | None = None
        """The claim on the log that is written: none before the first change."""

    @property
    def log(self) -> Path:
        """The file that keeps the session."""
        return self._name if self._hold is None else self._hold.path

    def close(self) -> None:
        """Leave the log to others; what was done stays in it."""
        if self._hold is not None:
            self._hold.release()

    def do(self, change: Change) -> View:
        """Change the session, keep it, and show it. What is refused is told by the view's error."""
        notices: list[str] = []

        def noted(session: InteractiveSession) -> None:
            told = change(session)
            if isinstance(told, str):
                notices.append(told)

        error = self._tried(noted)
        self._show()
        return self._view(error, "".join(notices))

    def resume(self, earlier: Path | None = None) -> View:
        """Go on with the session of a log, in that log; None: in the volume's own."""

        def read(_session: InteractiveSession) -> None:
            path = earlier or self._name
            if self._hold is not None and self._hold.path == path:
                self.session = resume_interaction(path, self.volume)
                return
            hold = claim(path)
            if hold is None:
                raise InputError(f"{path}: another window works on it: close its Interact panel first")
            try:
                self.session = resume_interaction(path, self.volume)
            except MedsegError:
                hold.release()
                raise
            self.close()
            self._hold = hold

        return self.do(read)

    def paint(self, voxels: npt.NDArray[np.int64], value: int, shown: int = 0) -> View:
        """Take over a stroke that gave (n, 3) voxels of the image a value: its slices become prompts.

        shown: the axis across the slices on the screen.
        """

        def painted(session: InteractiveSession) -> None:
            for prompt in stroke_prompts(session, voxels, value, shown):
                session.add(prompt)

        error = self._tried(painted)
        self._show()
        self._restore(voxels)
        return self._view(error)

    def _tried(self, change: Change) -> str:
        before = self.session.steps
        try:
            self.session.attempt(change)
            if self.session.steps != before:
                if self._hold is None:
                    self._hold = claim_new(self._name)
                self.session.save(self._hold.path)
        except MedsegError as error:
            return str(error)
        return ""

    def _view(self, error: str, notice: str = "") -> View:
        session, millilitres = self.session, float(np.prod(self.volume.grid.spacing)) / 1000
        return View(
            session.prompts,
            {label: session.mask(label).voxels * millilitres for label in session.labels},
            session.locked,
            dict(session.names),
            session.can_undo,
            session.can_redo,
            self.log,
            notice,
            error,
        )

    def _show(self) -> None:
        """Write the masks that are other ones than before."""
        masks = {label: self.session.mask(label) for label in self.session.labels}
        changed = {label for label in self._shown | masks if self._shown.get(label) is not masks.get(label)}
        for label in changed & self._shown.keys():
            part = self._image[self._shown[label].box]
            part[part == label] = 0
        for label in changed & masks.keys():
            self._image[masks[label].box][masks[label].inside] = label
        self._shown = masks

    def _restore(self, voxels: npt.NDArray[np.int64]) -> None:
        """Show the session where a stroke was, whatever became of the stroke."""
        if len(voxels):
            box = _around(voxels)
            self._image[box] = self.session.segmentation.data[box]


def stroke_prompts(
    session: InteractiveSession, voxels: npt.NDArray[np.int64], value: int, shown: int = 0
) -> Iterator[SliceMask]:
    """What a stroke says: each of its slices holds exactly the label as it is painted there now.

    value 0 erases: then each label that lost voxels says where it is left. A dot, or a straight line, lies in slices of
    several axes: then `shown` is the axis.
    """
    extents = np.ptp(voxels, axis=0)
    axis = shown if extents[shown] == extents.min() else int(np.argmin(extents))
    shape = session.volume.grid.shape
    for index in np.unique(voxels[:, axis]).tolist():
        box = plane(axis, index, shape)
        stroke = np.zeros([n for a, n in enumerate(shape) if a != axis], dtype=bool)
        rows = voxels[voxels[:, axis] == index]
        stroke[tuple(np.delete(rows, axis, axis=1).T)] = True
        for label in [value] if value else session.labels:
            before = session.mask(label).within(box).squeeze(axis)
            mask = before | stroke if value else before & ~stroke
            if value or (mask != before).any():
                yield _slice(mask, axis, index, label)


def _slice(mask: npt.NDArray[np.bool_], axis: int, index: int, label: int) -> SliceMask:
    if mask.any():
        return SliceMask(mask, axis, index, label=label)
    return SliceMask(np.ones_like(mask), axis, index, label=label, positive=False)


def _around(voxels: npt.NDArray[np.int64]) -> VoxelBox:
    low, high = voxels.min(axis=0).tolist(), (voxels.max(axis=0) + 1).tolist()
    z, y, x = (slice(a, b) for a, b in zip(low, high, strict=True))
    return z, y, x
