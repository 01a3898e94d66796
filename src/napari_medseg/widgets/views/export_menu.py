"""The Export button: scores to files and to the clipboard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QPushButton

from napari_medseg.metrics.csv_file import csv_text
from napari_medseg.widgets.fields.forms import reporting
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari_medseg.metrics import Scores

_FILES = {".csv": "CSV", ".json": "JSON", ".tex": "LaTeX", ".html": "HTML report"}
"""{suffix: what the user reads}."""


class ExportButton(QPushButton):
    """Off until there are scores; files are written in the background.

    as_python: returns the text of "Copy as Python". writing: `writing(path)` is called on the thread of the window, and
    returns the function that writes the scores in the worker.
    """

    def __init__(self, as_python: Callable[[], str], writing: Callable[[Path], Callable[[], object]]) -> None:
        super().__init__("Export")
        self.background = Background(self, "Export")
        self._scores: Scores | None = None
        self._writing = writing
        self.setToolTip("Write the scores with all digits, or copy them.")
        menu = QMenu(self)
        for suffix, name in _FILES.items():
            menu.addAction(f"{name}…", partial(self._ask_for_file, suffix, name))
        menu.addSeparator()
        menu.addAction("Copy table", self._copy_table)
        menu.addAction("Copy as Python", lambda: QApplication.clipboard().setText(as_python()))
        self.setMenu(menu)
        self.setEnabled(False)
        self.background.runner.busy.connect(lambda busy: self.setEnabled(not busy and self._scores is not None))

    def show_scores(self, scores: Scores) -> None:
        """Export these from now on."""
        self._scores = scores
        self.setEnabled(not self.background.runner.is_busy)

    def _ask_for_file(self, suffix: str, name: str) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Export scores", f"scores{suffix}", f"{name} (*{suffix})")
        if chosen:
            path = _named(chosen, suffix)
            with reporting():
                self.background.ask(self._writing(path), lambda _: show_info(f"wrote {path}"))

    def _copy_table(self) -> None:
        """Tab-separated, for a spreadsheet."""
        assert self._scores is not None, "the button is off before the first table"
        QApplication.clipboard().setText(csv_text(self._scores.columns, self._scores.table(), delimiter="\t"))


def _named(chosen: str, suffix: str) -> Path:
    """The chosen path, ending in the suffix: dots inside a name stay, the suffix of another format goes."""
    path = Path(chosen)
    return path.with_suffix(suffix) if path.suffix.lower() in _FILES else path.with_name(f"{path.name}{suffix}")
