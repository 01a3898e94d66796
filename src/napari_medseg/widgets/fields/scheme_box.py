"""The drop-down of ways to train, by kind, with a sentence on when to use the chosen one, and the images it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QToolButton, QVBoxLayout, QWidget

from napari_medseg.training.schemes.offers import KINDS, kind_of
from napari_medseg.training.schemes.scheme import SchemeSpec
from napari_medseg.training.schemes.table import SCHEMES, scheme_named
from napari_medseg.widgets.fields.folder_field import FolderField
from napari_medseg.widgets.fields.forms import Advice, add_heading, button, choice, choose, row
from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer

_LABELS_ALONE = "A case may be labels alone: choose no image in any row."


class SchemeBox(QWidget):
    """The schemes; below, when to use the chosen one, and the images without labels where it takes them."""

    changed = Signal()

    def __init__(self, viewer: Viewer, labelled: Callable[[], list[Any]]) -> None:
        """labelled: the layers of the labelled cases, which a row does not take by itself."""
        super().__init__()
        self.box = choice({}, "What is learned from. Each name says more.")
        self.box.setMaxVisibleItems(26)
        for kind in KINDS:
            add_heading(self.box, kind)
            for spec in SCHEMES.values():
                if kind_of(spec) == kind:
                    self._add(spec)
        self.setToolTip(self.box.toolTip())
        self.advice = Advice()
        self.unlabelled = ImageSources(viewer, labelled, "images without labels", "Add layer without labels")
        self.target = ImageSources(viewer, labelled, "images of the other contrast", "Add layer of the other contrast")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for widget in (self.box, self.advice, self.unlabelled, self.target):
            layout.addWidget(widget)
        choose(self.box, "supervised")
        self.box.currentIndexChanged.connect(self._update)
        self.unlabelled.changed.connect(self.changed)
        self.target.changed.connect(self.changed)
        self._update()

    @property
    def spec(self) -> SchemeSpec:
        """The chosen scheme."""
        return scheme_named(str(self.box.currentData()))

    @property
    def sources(self) -> list[Any]:
        """The layers and the folder (a Path) of images without labels; none where the scheme takes none."""
        return self.unlabelled.sources if self.spec.takes_unlabelled else []

    @property
    def targets(self) -> list[Any]:
        """The same of images of another scanner or contrast."""
        return self.target.sources if self.spec.takes_target else []

    def _add(self, spec: SchemeSpec) -> None:
        self.box.addItem(f"  {spec.name}", spec.name)
        tip = "\n".join(filter(None, (f"Learns {spec.summary}.", spec.when, spec.reference)))
        self.box.setItemData(self.box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)

    def _update(self, _: object = None) -> None:
        spec = self.spec
        network = f"Trains {spec.network}." if spec.takes != "image" else ""
        self.advice.setText(" ".join(filter(None, (spec.when, network, _LABELS_ALONE * spec.from_labels))))
        self.unlabelled.setVisible(spec.takes_unlabelled)
        self.target.setVisible(spec.takes_target)
        self.changed.emit()


class ImageSources(QWidget):
    """A folder of images that have no labels, and rows of image layers."""

    changed = Signal()

    def __init__(self, viewer: Viewer, labelled: Callable[[], list[Any]], what: str, adding: str) -> None:
        """labelled: see `SchemeBox`. what: the images, in words. adding: text of the button that adds a row."""
        super().__init__()
        self._viewer = viewer
        self._labelled = labelled
        self._tip = f"One of the {what}."
        self.folder = FolderField(f"A folder of {what}.")
        self.folder.line.setPlaceholderText(f"folder of {what}")
        self.layers: list[LayerBox] = []
        self.add_button = button(adding, self.add, "An open image, without its labels.")
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
        box = LayerBox(self._viewer, Image, self._tip)
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
