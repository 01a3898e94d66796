"""The cases of a training: rows of image layers and their labels, and rows of folders with a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QToolButton, QVBoxLayout, QWidget

from napari_medseg.widgets.fields.forms import button, caption, row, tell
from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.datasets import DataSet


class CaseRow(QWidget):
    """One image layer for each channel, their true labels, what is painted, and a button that removes the row."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.image = LayerBox(viewer, Image, "The image to learn from.")
        self._needs_image = True
        self.more: list[LayerBox] = []
        """Further channels, in that order."""
        self.labels = LayerBox(viewer, Labels, "Its labels: drawn or corrected by hand.")
        self.annotated = caption()
        self.channel_button = _small("+", "Another layer as a further channel of this image.")
        self.remove_button = _small("✕", "Remove this case; its layers stay.")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(1)
        self._grid.addWidget(self.image, 0, 0)
        self._grid.addWidget(self.channel_button, 0, 1)
        self._grid.addWidget(self.labels, 98, 0)  # below further channels
        self._grid.addWidget(self.remove_button, 98, 1)
        self._grid.addWidget(self.annotated, 99, 0, 1, 2)
        self._grid.setColumnStretch(0, 1)
        self.annotated.hide()
        self.channel_button.clicked.connect(lambda _=False: self.add_channel())
        for box in (self.image, self.labels):
            box.layer_changed.connect(lambda _: self.changed.emit())

    @property
    def pair(self) -> tuple[Any, Any] | None:
        """The first image layer and the labels; None until both are chosen."""
        chosen = (self.image.layer, self.labels.layer)
        return None if None in chosen else chosen

    @property
    def is_complete(self) -> bool:
        """Whether all that a case needs is chosen."""
        return self.labels.layer is not None and (self.image.layer is not None or not self._needs_image)

    def need_image(self, needed: bool) -> None:
        """Whether a case is an image with its labels, or may be labels alone."""
        self._needs_image = needed
        self.image.offer_none(not needed)

    @property
    def images(self) -> list[Any]:
        """The layers of the channels."""
        return [box.layer for box in (self.image, *self.more) if box.layer is not None]

    def add_channel(self) -> None:
        """Add a channel, with a layer that no other channel has, if there is one."""
        box = LayerBox(self._viewer, Image, "A further channel of the image.")
        free = [layer for layer in box.layers if layer not in self.images]
        box.choose(free[0] if free else None)
        box.layer_changed.connect(lambda _: self.changed.emit())
        self.more.append(box)
        self._grid.addWidget(box, len(self.more), 0)
        remove = _small("−", "Remove this channel.")
        remove.clicked.connect(lambda _=False: self._remove_channel(box, remove))
        self._grid.addWidget(remove, len(self.more), 1)
        self.changed.emit()

    def _remove_channel(self, box: LayerBox, remove: QToolButton) -> None:
        self.more.remove(box)
        for widget in (box, remove):
            self._grid.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self.changed.emit()


class FolderRow(QWidget):
    """A data set in a folder: what it holds, and a button that removes the row."""

    def __init__(self, data: DataSet) -> None:
        super().__init__()
        self.data = data
        self.remove_button = _small("✕", "Remove these cases; the files stay.")
        count = len(data.cases)
        text = caption(f"{data.folder.name}: {data.layout}, {count} case{'s' * (count != 1)}")
        text.setToolTip("\n".join(data.describe()))
        notes = caption("\n".join(data.notes))
        notes.setVisible(bool(data.notes))
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(1)
        grid.addWidget(text, 0, 0)
        grid.addWidget(self.remove_button, 0, 1)
        grid.addWidget(notes, 1, 0, 1, 2)
        grid.setColumnStretch(0, 1)


class CaseRows(QWidget):
    """At least one row of layers, and any number of folders.

    `changed` is emitted when a row comes, goes or changes its layers; `folder_chosen` carries the folder that the user
    wants to train on.
    """

    changed = Signal()
    folder_chosen = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._need_images = True
        self.rows: list[CaseRow] = []
        self.folders: list[FolderRow] = []
        self.add_button = button("Add case", self.add, "Another image with its labels.")
        self.folder_button = button("Folder…", self._ask_folder, "A public data set as it is published, or your own.")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)
        self._layout.addLayout(row(self.add_button, self.folder_button))
        self.add()

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """The complete rows, as (first image layer, labels layer)."""
        return [case.pair for case in self.rows if case.pair is not None]

    @property
    def complete(self) -> list[CaseRow]:
        """The rows whose layers are chosen."""
        return [case for case in self.rows if case.is_complete]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to train on."""
        return not self.complete and not self.folders

    @property
    def has_image_twice(self) -> bool:
        """Whether two rows have the same image."""
        first = [case.image.layer for case in self.complete if case.image.layer is not None]
        return any(layer in first[:i] for i, layer in enumerate(first))

    @property
    def may_have_channels(self) -> bool:
        """Whether images may have several channels; those in files are not opened for that."""
        layers = [layer for case in self.rows for layer in case.images]
        return bool(self.folders) or len(layers) > len(self.rows) or any(layer.rgb for layer in layers)

    def need_images(self, needed: bool) -> None:
        """Whether each row is an image with its labels, or may be labels alone."""
        if needed != self._need_images:
            self._need_images = needed
            for case in self.rows:
                case.need_image(needed)
            self.changed.emit()

    def add(self) -> None:
        """Add a row, with layers that no other row has, if there are any."""
        case = CaseRow(self._viewer)
        case.need_image(self._need_images)
        for name in ("image", "labels"):
            box, taken = getattr(case, name), [getattr(r, name).layer for r in self.rows]
            free = [layer for layer in box.layers if layer not in taken]
            if free:
                box.choose(free[0])
        case.changed.connect(self.changed)
        case.remove_button.clicked.connect(lambda _=False: self.remove(case))
        self._layout.insertWidget(len(self.rows), case)
        self.rows.append(case)
        self._after_change()

    def take(self, images: Sequence[Any], labels: Any) -> None:
        """Make an image (a layer for each channel) with its labels a row, in place of the rows with one of them.

        napari hands plugins a proxy of a layer, which equals the layer and is another object.
        """
        ours = [case for case in self.rows if case.labels.layer == labels or case.image.layer == images[0]]
        for case in ours[1:]:
            self.remove(case)
        if not ours and self.rows[-1].pair is not None:
            self.add()
        case = ours[0] if ours else self.rows[-1]
        case.labels.choose(labels)
        while len(case.more) < len(images) - 1:
            case.add_channel()
        for box, image in zip((case.image, *case.more), images, strict=False):
            box.choose(image)

    def remove(self, case: CaseRow) -> None:
        """Remove a row; the last one stays."""
        self.rows.remove(case)
        self._take(case)

    def add_folder(self, data: DataSet) -> None:
        """Add the cases of a folder."""
        folder = FolderRow(data)
        folder.remove_button.clicked.connect(lambda _=False: self.remove_folder(folder))
        self._layout.insertWidget(len(self.rows) + len(self.folders), folder)
        self.folders.append(folder)
        self._after_change()

    def remove_folder(self, folder: FolderRow) -> None:
        """Leave the cases of a folder out."""
        self.folders.remove(folder)
        self._take(folder)

    def show_annotated(self, texts: list[str]) -> None:
        """Show what is annotated in each complete row."""
        for case, text in zip(self.complete, texts, strict=False):
            tell(case.annotated, text)

    def _take(self, widget: QWidget) -> None:
        self._layout.removeWidget(widget)
        widget.hide()
        widget.deleteLater()
        self._after_change()

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder with a data set")
        if chosen:
            self.folder_chosen.emit(chosen)

    def _after_change(self) -> None:
        for case in self.rows:
            case.remove_button.setVisible(len(self.rows) > 1)
        self.changed.emit()


def _small(text: str, tooltip: str) -> QToolButton:
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tooltip)
    return made
