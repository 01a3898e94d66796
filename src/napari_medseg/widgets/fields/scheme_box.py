"""The drop-down of ways to train, with a sentence on when to use the chosen one, and the images without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QToolButton, QVBoxLayout, QWidget

from napari_medseg.training.schemes.scheme import SchemeSpec
from napari_medseg.training.schemes.table import SCHEMES, scheme_named
from napari_medseg.widgets.fields.folder_field import FolderField
from napari_medseg.widgets.fields.forms import button, caption, choice, row
from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer


class SchemeBox(QWidget):
    """The schemes; below, when to use the chosen one, and the images without labels where it takes them."""

    changed = Signal()

    def __init__(self, viewer: Viewer, labelled: Callable[[], list[Any]]) -> None:
        """labelled: the layers of the labelled cases, which a row does not take by itself."""
        super().__init__()
        self.box = choice({name: name for name in SCHEMES}, "What is learned from. Each name says more.")
        for index, spec in enumerate(SCHEMES.values()):
            tip = "\n".join(filter(None, (f"Learns {spec.summary}.", spec.when, spec.reference)))
            self.box.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
        self.setToolTip(self.box.toolTip())
        self.advice = caption()
        self.unlabelled = UnlabelledImages(viewer, labelled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for widget in (self.box, self.advice, self.unlabelled):
            layout.addWidget(widget)
        self.box.currentIndexChanged.connect(self._update)
        self.unlabelled.changed.connect(self.changed)
        self._update()

    @property
    def spec(self) -> SchemeSpec:
        """The chosen scheme."""
        return scheme_named(str(self.box.currentData()))

    @property
    def waits(self) -> bool:
        """Whether the scheme needs images that are not chosen yet."""
        return self.spec.takes_unlabelled and not self.sources

    @property
    def sources(self) -> list[Any]:
        """The layers and the folder (a Path) of images without labels; none where the scheme takes none."""
        return self.unlabelled.sources if self.spec.takes_unlabelled else []

    def _update(self, _: object = None) -> None:
        self.advice.setText(self.spec.when)
        self.unlabelled.setVisible(self.spec.takes_unlabelled)
        self.changed.emit()


class UnlabelledImages(QWidget):
    """A folder of images without labels, and rows of image layers."""

    changed = Signal()

    def __init__(self, viewer: Viewer, labelled: Callable[[], list[Any]]) -> None:
        super().__init__()
        self._viewer = viewer
        self._labelled = labelled
        self.folder = FolderField("A folder of images without labels.")
        self.folder.line.setPlaceholderText("folder of images without labels")
        self.layers: list[LayerBox] = []
        self.add_button = button("Add layer without labels", self.add, "An open image that nobody labelled.")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)
        self._layout.addWidget(self.folder)
        self._layout.addLayout(row(self.add_button))
        self.folder.changed.connect(self.changed)

    @property
    def sources(self) -> list[Any]:
        """The layers, and the folder as a Path."""
        layers = [box.layer for box in self.layers if box.layer is not None]
        path: Path | None = self.folder.path
        return layers if path is None else [*layers, path]

    def add(self) -> None:
        """Add a row, with a layer that no other row has, if there is one."""
        box = LayerBox(self._viewer, Image, "An image that nobody labelled.")
        taken = [*self._labelled(), *(other.layer for other in self.layers)]
        box.choose(next((layer for layer in reversed(box.layers) if layer not in taken), None))
        remove = QToolButton()
        remove.setText("✕")
        remove.setToolTip("Remove this image; its layer stays.")
        line = QWidget()
        inside = row(box, remove)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setStretch(0, 1)
        line.setLayout(inside)
        remove.clicked.connect(lambda _=False: self._remove(box, line))
        box.layer_changed.connect(lambda _: self.changed.emit())
        self.layers.append(box)
        self._layout.insertWidget(len(self.layers), line)
        self.changed.emit()

    def _remove(self, box: LayerBox, line: QWidget) -> None:
        self.layers.remove(box)
        self._layout.removeWidget(line)
        line.hide()
        line.deleteLater()
        self.changed.emit()
