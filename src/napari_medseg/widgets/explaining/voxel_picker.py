"""A row that shows a voxel of an image layer, and a button after which the next click on the canvas chooses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_medseg.geometry import Shape3
from napari_medseg.widgets.canvas.layers import voxel_at

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


class VoxelPicker(QWidget):
    """`voxel` is (z, y, x) in the layer's volume as stored, or None; `changed` is emitted when it becomes another."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Layer | None = None
        self.voxel: Shape3 | None = None
        self.setToolTip("A voxel (z, y, x) of the image as it is stored.")
        self.text = QLabel("none")
        self.button = QPushButton("Pick")
        self.button.setCheckable(True)
        self.button.setToolTip("The next click on the image chooses the voxel.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text, stretch=1)
        layout.addWidget(self.button)
        self._listening = _Listening(self, viewer)
        self.destroyed.connect(self._listening.end)

    def follow(self, layer: Layer | None) -> None:
        """Pick in this layer from now on; the voxel of another layer is forgotten."""
        if layer is not self._layer:
            self._layer = layer
            self._set(None)

    def pick(self, world: Any) -> None:
        """Choose the voxel at a place of napari's world; a place beside the image chooses none."""
        if self._layer is not None:
            self._set(voxel_at(self._layer, world, list(self._viewer.layers)))

    def _set(self, voxel: Shape3 | None) -> None:
        self.button.setChecked(False)
        self.text.setText("none" if voxel is None else "{}, {}, {}".format(*voxel))
        if voxel != self.voxel:
            self.voxel = voxel
            self.changed.emit()


class _Listening:
    """The picker's callback on the canvas. Not the picker's own method, which cannot run once Qt has deleted it."""

    def __init__(self, picker: VoxelPicker, viewer: Viewer) -> None:
        def clicked(_: object, event: Any) -> None:
            if picker.button.isChecked():
                picker.pick(event.position)

        self._callbacks, self._clicked = viewer.mouse_drag_callbacks, clicked
        self._callbacks.append(clicked)

    def end(self, _destroyed: object = None) -> None:
        """Listen no more."""
        if self._clicked in self._callbacks:
            self._callbacks.remove(self._clicked)
