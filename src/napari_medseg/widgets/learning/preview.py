"""The prediction of the model under training on the slice in view, as a layer that each checkpoint renews.

A layer that the user has painted in stays as it is, and the next prediction gets a new one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject

from napari_medseg.errors import MedsegError
from napari_medseg.events import Work
from napari_medseg.training.saving.earlier import last_checkpoint
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.layers import labels_layer, placement, to_volume
from napari_medseg.widgets.canvas.slice_in_view import slice_in_view
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari import Viewer


class Preview(QObject):
    """Segments the slice in view by the last checkpoint, in the background; a new request replaces one that waits."""

    def __init__(self, parent: QObject, viewer: Viewer) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._background = Background(self)
        self._images: list[Any] = []
        self._out, self._device = Path(), "auto"
        self._written = 0
        self.layer: Any = None
        """The layer of the prediction; None before the first one."""
        self._picture: Any = None
        """What was last put into it: anything else is the user's."""

    def begin(self, out: Path, images: list[Any], device: str) -> None:
        """A training of the model `out` begins. images: the layers of the case that is shown, if there are any."""
        self._out, self._images, self._device, self.layer = out, images, device, None
        self._written = _written(out) if images else 0

    def renew(self) -> None:
        """Show the last checkpoint, where it is a new one."""
        written = _written(self._out) if self._images else 0
        if written != self._written:
            self._written = written
            self.show()

    def show(self) -> None:
        """Renew the prediction for the slice that the viewer shows now."""
        layers = list(self._viewer.layers)
        if not self._images or any(image not in layers for image in self._images):
            return
        try:
            volume = to_volume(self._images, layers)
        except MedsegError:  # a channel was moved meanwhile; a preview is not worth a message
            return
        axis, index = slice_in_view(self._viewer, self._images[0])
        work = partial(_segmented, volume, self._out, axis, index, self._device)
        self._background.ask_in_steps(work, self._take)

    def _take(self, labels: Segmentation | None) -> None:
        if labels is None:
            return
        layers = list(self._viewer.layers)
        if self.layer is not None and self.layer in layers:
            if np.array_equal(self.layer.data, self._picture):
                self.layer.data = placement(self.layer, layers).to_layer(labels.data)
                self._picture = self.layer.data.copy()
                return
            show_info(f"{self.layer.name!r} keeps what you painted: the next picture is in a layer of its own")
        data, arguments, _ = labels_layer(labels, layers)
        active = self._viewer.layers.selection.active
        self.layer = self._viewer.add_labels(data, **{**arguments, "name": f"{self._out.stem} so far"})
        self._picture = self.layer.data.copy()
        if active is not None:
            self._viewer.layers.selection.active = active  # the user may be painting there


def _written(out: Path) -> int:
    """When the last checkpoint was written, in ns; 0 where there is none."""
    path = last_checkpoint(out)
    return path.stat().st_mtime_ns if path.exists() else 0


def _segmented(volume: Volume, out: Path, axis: int, index: int, device: str) -> Work[Segmentation | None]:
    """In the worker. None before the first checkpoint, and where the model does not fit the image."""
    from napari_medseg.training.tasks.preview import latest, segmenting_slice

    try:
        return (yield from segmenting_slice(volume, latest(out), axis, index, device))
    except MedsegError:  # a preview is not worth a message
        return None
