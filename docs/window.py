"""A napari window for the scripts that take pictures: waiting, docking a panel, taking the window."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import npe2
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtWidgets import QApplication

from napari_medseg import read, read_segmentation
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer

IMAGES = Path(__file__).parent / "images"
PLUGIN = "napari-medseg"
LIMIT_S = 300.0
"""A picture that is not ready after this time ends the script."""
DATA = Path(os.environ.get("MEDSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CT = DATA / "abdomen_ct"
"""An abdominal CT and its labels: reference files of TotalSegmentator, Apache-2.0."""


def wait(done: Callable[[], object] = lambda: True, at_least_s: float = 0.3) -> None:
    """Let the window work until `done`, and at least `at_least_s`, so that everything is drawn."""
    began = time.monotonic()
    while not done() or time.monotonic() - began < at_least_s:
        if time.monotonic() - began > LIMIT_S:
            raise TimeoutError(f"a picture was not ready after {LIMIT_S:g} s")
        QApplication.processEvents()
        time.sleep(0.005)


def finished(panel: Any) -> None:
    """Let the window work until the panel's run is over."""
    wait(lambda: not panel.runner.is_busy)


@contextmanager
def window(width: int = 1280, height: int = 800) -> Iterator[napari.Viewer]:
    """A window with the settings of a new user. Models and settings go to a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSEG_MODELS"], os.environ["MEDSEG_SESSIONS"] = folder, f"{folder}/sessions"
        os.environ["NAPARI_CONFIG"] = f"{folder}/settings.yaml"  # what a user last chose is not what a page shows
        viewer = napari.Viewer(show=True)
        viewer.window.resize(width, height)
        yield viewer
        viewer.close()


def panels() -> list[str]:
    """The panels of the plugin, in the order of its menu."""
    npe2.PluginManager.instance().discover()
    widgets = npe2.PluginManager.instance().get_manifest(PLUGIN).contributions.widgets or []
    return [widget.display_name for widget in widgets]


def dock(viewer: napari.Viewer, name: str) -> Any:
    """The panel of that name, alone on the right."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def shot(viewer: napari.Viewer) -> np.ndarray:
    """The whole window as pixels (y, x, RGBA), without notifications."""
    wait()
    for widget in QApplication.topLevelWidgets():
        for notification in widget.findChildren(NapariQtNotification):
            notification.close()
    wait()
    return np.asarray(viewer.screenshot(canvas_only=False, flash=False))


def shoot(viewer: napari.Viewer, name: str, *, fit: bool = True) -> None:
    """Save the whole window as a picture of the docs. fit: make the image as large as the canvas."""
    if fit:
        viewer.reset_view(margin=0)
    save(shot(viewer), IMAGES / f"{name}.png")


def save(pixels: np.ndarray, path: Path) -> None:
    """Save pixels as a PNG of 256 colours, which is a third of the size and looks the same."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., :3]).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def add_image(viewer: napari.Viewer, path: Path) -> Any:
    """Open an image as the reader does."""
    data, arguments, _ = volume_layer(read(path))[0]
    return viewer.add_image(data, **arguments)


def add_labels(viewer: napari.Viewer, labels: Segmentation | Path, **arguments: Any) -> Any:
    """Open labels as the reader does."""
    noun = read_segmentation(labels) if isinstance(labels, Path) else labels
    data, known, _ = labels_layer(noun)
    return viewer.add_labels(data, **{**known, **arguments})
