"""Earlier work on an image: the logs that other sessions left, to go on with or to forget."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.interactive.autosave import earlier_logs, log_path
from napari_medseg.volume import Volume
from napari_medseg.widgets.fields.forms import button, row
from napari_medseg.widgets.work.background import Background


class EarlierBox(QWidget):
    """`wanted` carries the log to go on with; `changed` tells that others are offered."""

    wanted = Signal(object)
    changed = Signal()

    def __init__(self, volume: Callable[[], Volume]) -> None:
        """volume: of the image, asked for anew at each look."""
        super().__init__()
        self._volume = volume
        self.looking = Background(self)
        self.box = QComboBox()
        self.box.setToolTip("Earlier work on this image. What you do without Resume does not overwrite it.")
        self.resume_button = button("Resume", self.resume, "Do the steps of your earlier work on this image again.")
        self.discard_button = button("Discard", self.discard, "Forget the earlier work on this image.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        layout.addLayout(row(self.resume_button, self.discard_button))

    @property
    def count(self) -> int:
        """The logs that are offered."""
        return int(self.box.count())

    def look(self) -> None:
        """Offer what is there now."""
        self._look(_earlier)

    def clear(self) -> None:
        """Offer nothing, until the next look."""
        self.box.clear()

    def resume(self) -> None:
        """Go on with the log that is chosen."""
        self.wanted.emit(self.box.currentData())

    def discard(self) -> None:
        """Forget the log that is chosen."""
        log: Path = self.box.currentData()

        def forget(volume: Volume) -> list[tuple[Path, float]]:
            log.unlink(missing_ok=True)
            return _earlier(volume)

        self._look(forget)

    def _look(self, find: Callable[[Volume], list[tuple[Path, float]]]) -> None:
        with suppress(InputError), warnings.catch_warnings():  # the first tool says what cannot be worked on
            warnings.simplefilter("ignore", MedsegWarning)  # and warns
            self.looking.ask(partial(find, self._volume()), self._offer)

    def _offer(self, logs: list[tuple[Path, float]]) -> None:
        self.box.clear()
        for log, saved in logs:
            when = datetime.fromtimestamp(saved).astimezone()
            self.box.addItem(f"Earlier work of {when:%d %B, %H:%M}", log)
        self.changed.emit()


def _earlier(volume: Volume) -> list[tuple[Path, float]]:
    """In the worker: the logs of earlier work on a volume, and when each was saved."""
    return [(log, log.stat().st_mtime) for log in earlier_logs(log_path(volume))]
