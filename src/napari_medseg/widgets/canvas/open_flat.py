"""File > IO Utilities > Open 2D images with their size: what napari's own reader opens without it.

Our reader is offered for names that promise a size or labels only (see the manifest). For every PNG it would ask all
users of napari which plugin is to open their pictures.
"""

from __future__ import annotations

from pathlib import Path

from napari import Viewer
from napari.layers import Layer
from napari.layers._source import layer_source
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_medseg.errors import MedsegError
from napari_medseg.io.formats import FORMATS
from napari_medseg.widgets.canvas.napari_io import read_layers

_TITLE = "Open 2D images with their size"


def open_flat(viewer: Viewer) -> None:
    """Ask for 2D images, and open each as layers; one line says why a file does not open."""
    suffixes = " ".join(f"*{suffix}" for f in FORMATS.values() if f.is_flat for suffix in f.suffixes)
    chosen, _ = QFileDialog.getOpenFileNames(QApplication.activeWindow(), _TITLE, "", f"2D images ({suffixes})")
    for path in map(Path, chosen):
        try:
            with layer_source(path=str(path), reader_plugin="napari-medseg"):
                for data, attributes, kind in read_layers(str(path)):
                    viewer.add_layer(Layer.create(data, attributes, kind))
        except MedsegError as error:
            show_error(str(error))
