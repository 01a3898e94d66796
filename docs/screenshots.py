"""Make the pictures of the guide: `xvfb-run -s "-screen 0 1600x1000x24" python docs/screenshots.py`.

Each is a real window that does what the page says, on the sample. Models that are trained go to a temporary folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtWidgets import QApplication

from napari_medseg.sample import phantom
from napari_medseg.widgets.layers import labels_layer, volume_layer

IMAGES = Path(__file__).parent / "images"
PLUGIN = "napari-medseg"


def wait(done: Callable[[], bool], at_least_s: float = 0.5) -> None:
    """Let the window work until `done`, and so long that all is drawn."""
    began = time.monotonic()
    while not done() or time.monotonic() - began < at_least_s:
        QApplication.processEvents()
        time.sleep(0.005)


def shoot(viewer: napari.Viewer, name: str) -> None:
    """The whole window, notifications gone, the image fitted to the canvas that the panels leave."""
    wait(lambda: True, 6.0)
    viewer.reset_view(margin=0)
    wait(lambda: True, 1.0)
    viewer.screenshot(IMAGES / f"{name}.png", canvas_only=False, flash=False)


def dock(viewer: napari.Viewer, name: str) -> Any:
    """The panel of that name, alone on the right."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def open_sample(viewer: napari.Viewer) -> Any:
    """The labels layer of the sample."""
    _, labels = viewer.open_sample(PLUGIN, "ct")
    shoot(viewer, "open")
    return labels


def segment(viewer: napari.Viewer, manual: Any) -> Any:
    """Segment the sample with the sample's model; the layer that came."""
    panel = dock(viewer, "Segment")
    manual.visible = False
    wait(lambda: "windows of" in panel.estimate.text.text())
    panel.segment()
    wait(lambda: not panel.runner.is_busy)
    shoot(viewer, "segment")
    return viewer.layers[-1]


def train(viewer: napari.Viewer) -> None:
    """Train on phantoms of other seeds than the sample's, and validate on the last."""
    viewer.layers.clear()
    for seed in range(4):
        image, labels = phantom("ct", seed=seed)
        for data, arguments, kind in (*volume_layer(image), labels_layer(labels)):
            name = f"case {seed}" if kind == "image" else f"manual {seed}"
            getattr(viewer, f"add_{kind}")(data, **{**arguments, "name": name, "visible": seed == 0})
    panel = dock(viewer, "Train")
    for _ in range(3):
        panel.cases.add()
    for number, row in enumerate(panel.cases.rows):
        row.image.choose(viewer.layers[f"case {number}"])
        row.labels.choose(viewer.layers[f"manual {number}"])
    panel.budget.setValue(3)
    panel.train()
    wait(lambda: not panel.runner.is_busy)
    shoot(viewer, "train")


def measure(viewer: napari.Viewer, manual: Any, found: Any) -> None:
    panel = dock(viewer, "Metrics")
    panel.reference.choose(manual)
    panel.prediction.choose(found)
    panel.measure()
    wait(lambda: not panel.runner.is_busy)
    panel.show_errors()
    wait(lambda: not panel.runner.is_busy)
    found.visible = False
    panel.table.setCurrentCell(0, 0)
    shoot(viewer, "measure")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSEG_MODELS"] = folder
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1280, 800)
        manual = open_sample(viewer)
        found = segment(viewer, manual)
        measure(viewer, manual, found)
        train(viewer)
        viewer.close()


if __name__ == "__main__":
    main()
