"""Taking a model of another program into the models folder: choose or drop it, see what it is, then import it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QDialog, QFileDialog, QFormLayout, QLineEdit, QProgressBar, QVBoxLayout, QWidget

from napari_medseg import registry
from napari_medseg.errors import InputError
from napari_medseg.foreign.asked import INTENSITIES, Asked, intensities_of
from napari_medseg.foreign.convert import Written
from napari_medseg.foreign.look import Look, fault_or, look, take, target_in
from napari_medseg.models.file import models_folder
from napari_medseg.widgets.fields.forms import button, caption, choice, form, reporting, row, tell

_WAITS = "Drop a file or a folder here, or choose one: a MONAI bundle, nnU-Net or TotalSegmentator results, or weights."
_STATE_DICT = (".pt", ".pth", ".ckpt")


def accept_one_path(event: QDragEnterEvent) -> None:
    """Let one file or folder of this machine be dropped."""
    if len(event.mimeData().urls()) == 1 and event.mimeData().urls()[0].isLocalFile():
        event.acceptProposedAction()


def dropped_path(event: QDropEvent) -> Path:
    """The file or folder that is dropped."""
    return Path(event.mimeData().urls()[0].toLocalFile())


class ImportModel(QDialog):
    """Nothing is written before "Import". `imported` carries the path of the new model file, or of the new set.

    ask: as `ModelBox` has it; reading and writing run in its thread.
    """

    imported = Signal(object)
    _told = Signal(int, int)

    def __init__(self, ask: Callable[[Callable[[], Any], Callable[[Any], None]], None], parent: QWidget) -> None:
        super().__init__(parent)
        self._ask = ask
        self._stop = threading.Event()
        self.look: Look | None = None
        self.source: Path | None = None
        self.setWindowTitle("Import model")
        self.setAcceptDrops(True)
        self.status = caption(_WAITS)
        self.rows = QFormLayout()
        self.notes = caption()
        self.bar = QProgressBar()
        self.network = choice({name: name for name, spec in registry.networks().items() if spec.takes == "image"})
        self.labels, self.spacing, self.intensities = QLineEdit(), QLineEdit(), QLineEdit()
        self.asked = QWidget()
        self.import_button = button("Import", self.take, "Write it into the models folder.")
        self.cancel_button = button("Cancel", self.cancel, "Stop, and write nothing.")
        self._lay_out()
        self._told.connect(self._show_progress)
        self._show(None)

    def _lay_out(self) -> None:
        self.labels.setPlaceholderText("liver, tumour: the classes from 1 on")
        self.spacing.setPlaceholderText("2.5 0.8 0.8: mm along z, y, x")
        self.intensities.setPlaceholderText(INTENSITIES)
        fields = form(Network=self.network, Labels=self.labels, Spacing=self.spacing, Intensities=self.intensities)
        fields.addRow(button("Read", self.read, "Read the weights with what is said here."))
        self.asked.setLayout(fields)
        layout = QVBoxLayout(self)
        layout.addLayout(
            row(
                button("File…", self.choose_file, "A zipped MONAI bundle, or weights (.pt, .pth)."),
                button("Folder…", self.choose_folder, "A MONAI bundle, nnU-Net results, or TotalSegmentator's."),
            )
        )
        layout.addWidget(self.status)
        layout.addWidget(self.asked)
        layout.addLayout(self.rows)
        layout.addWidget(self.notes)
        layout.addWidget(self.bar)
        layout.addLayout(row(self.import_button, self.cancel_button))
        self.setMinimumWidth(520)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802  # Qt's name
        accept_one_path(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802  # Qt's name
        self.choose(dropped_path(event))

    def event(self, event: QEvent) -> bool:
        """As high as the rows are at this width, once they are there: adjustSize cuts those that wrap."""
        done: bool = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.resize(self.width(), self.layout().totalHeightForWidth(self.width()))
        return done

    def choose_file(self) -> None:
        """Ask for a file."""
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model of another program")
        if path:
            self.choose(Path(path))

    def choose_folder(self) -> None:
        """Ask for a folder."""
        path = QFileDialog.getExistingDirectory(self, "Choose the folder of a model")
        if path:
            self.choose(Path(path))

    def choose(self, source: Path) -> None:
        """Read a file or folder, and show what it is; weights first wait for what they do not say."""
        self.source = source
        self._show(None)
        if source.suffix.lower() in _STATE_DICT:
            self.asked.show()
            self.status.setText(f"{source.name} holds weights: say which network, and what else you know, then Read.")
        else:
            self.read()

    def read(self) -> None:
        """Read the chosen source in the other thread."""
        assert self.source is not None, "chosen before"
        with reporting():
            asked = self._said() if self.asked.isVisibleTo(self) else Asked()
            self.status.setText(f"Reading {self.source.name}…")
            self.bar.setRange(0, 0)
            self.bar.show()
            self._ask(partial(fault_or, partial(look, self.source, asked)), partial(self._on_read, self.source))

    def take(self) -> None:
        """Write what was understood into the models folder, in the other thread."""
        assert self.look is not None, "the button is off before"
        self._stop.clear()
        self.import_button.setEnabled(False)
        self.bar.show()
        out = target_in(models_folder(), self.look.source)
        self._ask(
            partial(fault_or, partial(take, self.look.found, out, self._told.emit, self._stop.is_set)), self._on_written
        )

    def cancel(self) -> None:
        """Stop at the next model, and close."""
        self._stop.set()
        self.reject()

    def _said(self) -> Asked:
        """What the fields say of weights. Raises InputError for a spacing that is not three numbers."""
        names = [name.strip() for name in self.labels.text().split(",") if name.strip()]
        numbers = self.spacing.text().replace(",", " ").split()
        try:
            spacing = tuple(float(number) for number in numbers)
        except ValueError:
            spacing = (0.0,)
        if spacing and (len(spacing) != 3 or min(spacing) <= 0):
            raise InputError(f"a spacing is three numbers above 0, in mm; got {self.spacing.text()!r}")
        intensities = self.intensities.text().strip()
        return Asked(
            network=str(self.network.currentData()),
            labels=dict(enumerate(names, start=1)) or None,
            spacing_zyx_mm=(spacing[0], spacing[1], spacing[2]) if spacing else None,
            intensities=intensities_of(intensities) if intensities else None,
        )

    def _on_read(self, source: Path, read: Look | str) -> None:
        if source == self.source:  # the user may have chosen another one meanwhile
            self._show(read)

    def _show(self, read: Look | str | None) -> None:
        """What was understood, or why not; None: nothing is read yet."""
        self.look = read if isinstance(read, Look) else None
        while self.rows.rowCount():
            self.rows.removeRow(0)
        self.bar.hide()
        if read is None:
            self.asked.hide()
        else:
            self.status.setText(read if isinstance(read, str) else f"{read.source.name} can be imported:")
        for what, how in self.look.summary if self.look else ():
            self.rows.addRow(what, caption(how))
        tell(self.notes, "\n".join(f"• {note}" for note in self.look.notes) if self.look else "")
        self.import_button.setEnabled(self.look is not None)

    def _show_progress(self, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.status.setText(f"Importing model {done + 1} of {total}…")

    def _on_written(self, written: Written | str | None) -> None:
        self.bar.hide()
        if isinstance(written, Written):
            self.accept()
            self.imported.emit(written.set_path or written.models[0].path)
            return
        self.import_button.setEnabled(self.look is not None)
        self.status.setText(written or "Stopped; nothing was written.")
