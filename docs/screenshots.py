"""Make the pictures of the guide: `xvfb-run -s "-screen 0 1600x1000x24" python docs/screenshots.py`.

Each picture shows a real window that does what the page says, on the sample. The pictures of the Metrics panel need
$MEDSEG_DATA: a pair of segmentations of an abdominal CT (reference files of TotalSegmentator, Apache-2.0). Without it
they stay as they are. Trained models go to a temporary folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_medseg import read, read_segmentation, write
from napari_medseg.sample import phantom
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer

IMAGES = Path(__file__).parent / "images"
PLUGIN = "napari-medseg"
DATA = Path(os.environ.get("MEDSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
ORGANS = {
    1: "spleen",
    2: "kidney right",
    3: "kidney left",
    4: "gallbladder",
    5: "liver",
    6: "stomach",
    7: "pancreas",
    8: "adrenal gland right",
    9: "adrenal gland left",
    10: "lung upper lobe left",
    11: "lung lower lobe left",
    13: "lung middle lobe right",
    14: "lung lower lobe right",
    18: "small bowel",
    19: "duodenum",
    20: "colon",
    30: "vertebra L2",
    31: "vertebra L1",
    32: "vertebra T12",
    33: "vertebra T11",
    52: "aorta",
    63: "inferior vena cava",
    64: "portal and splenic vein",
    79: "spinal cord",
    86: "autochthon left",
    87: "autochthon right",
    88: "iliopsoas left",
    89: "iliopsoas right",
    117: "costal cartilages",
    **{91 + rib: f"rib left {rib}" for rib in range(7, 13)},
    **{103 + rib: f"rib right {rib}" for rib in range(7, 13)},
}
"""{label id in the files of the pair: name}"""


def wait(done: Callable[[], bool], at_least_s: float = 0.5) -> None:
    """Let the window work until `done`, and at least `at_least_s`, so that everything is drawn."""
    began = time.monotonic()
    while not done() or time.monotonic() - began < at_least_s:
        QApplication.processEvents()
        time.sleep(0.005)


def shoot(viewer: napari.Viewer, name: str, *, fit: bool = True) -> None:
    """Take the whole window without notifications. fit: make the image as large as the canvas."""
    wait(lambda: True, 6.0)
    if fit:
        viewer.reset_view(margin=0)
    wait(lambda: True, 1.0)
    viewer.screenshot(IMAGES / f"{name}.png", canvas_only=False, flash=False)


def dock(viewer: napari.Viewer, name: str) -> Any:
    """The panel of that name, alone on the right."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def open_sample(viewer: napari.Viewer) -> Any:
    """Open the sample; returns its labels layer."""
    _, labels = viewer.open_sample(PLUGIN, "ct")
    shoot(viewer, "open")
    return labels


def segment(viewer: napari.Viewer, manual: Any) -> Any:
    """Segment the sample with its model; returns the new layer."""
    panel = dock(viewer, "Segment")
    manual.visible = False
    wait(lambda: "windows of" in panel.estimate.text.text())
    panel.segment()
    wait(lambda: not panel.runner.is_busy)
    shoot(viewer, "segment")
    return viewer.layers[-1]


def train(viewer: napari.Viewer) -> None:
    """Train on phantoms with other seeds than the sample, and validate on the last one."""
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


def measure(viewer: napari.Viewer) -> None:
    """Measure a pair of abdominal segmentations: table and worst place, plot, surface, instances, cases."""
    folder = DATA / "abdomen_ct"
    if not folder.is_dir():
        print(f"no pictures of the Metrics panel: {folder} is missing")
        return
    viewer.layers.clear()
    image, arguments, _ = volume_layer(read(folder / "example_ct_sm.nii.gz"))[0]
    viewer.add_image(image, **arguments)
    for name in ("example_seg", "example_seg_fast"):
        data, arguments, _ = labels_layer(replace(read_segmentation(folder / f"{name}.nii.gz"), labels=ORGANS))
        viewer.add_labels(data, **{**arguments, "name": name})
    panel = dock(viewer, "Metrics")
    panel.measure()
    wait(lambda: not panel.runner.is_busy)
    panel.errors.show_errors()
    wait(lambda: not panel.runner.is_busy)
    panel.scored.table.choose(2)
    shoot(viewer, "measure")
    panel.tabs.setCurrentWidget(panel.plots)
    wait(lambda: True)
    panel.grab().save(str(IMAGES / "measure-plots.png"))
    panel.tabs.setCurrentWidget(panel.errors)
    panel.errors.choose_label(5)
    panel.errors.show_surface()
    wait(lambda: not panel.runner.is_busy)
    shoot(viewer, "measure-surface", fit=False)
    panel.tabs.setCurrentWidget(panel.instances)
    panel.instances.match()
    wait(lambda: not panel.runner.is_busy)
    panel.grab().save(str(IMAGES / "measure-instances.png"))
    with tempfile.TemporaryDirectory() as cases, chdir(cases):
        measure_cases(panel, Path())
    panel.grab().save(str(IMAGES / "measure-cases.png"))


def measure_cases(panel: Any, folder: Path) -> None:
    """Measure phantoms against moved copies. One of the last two has no partner, and the other is damaged."""
    _, labels = phantom("ct", seed=0)
    for name, shift in (("references", 0), ("predictions", 1)):
        (folder / name).mkdir()
        for case in range(6):
            moved = replace(labels, data=np.roll(np.asarray(labels.data), shift * case, axis=2))
            write(folder / name / f"case {case}.nii.gz", moved)
    (folder / "references" / "case 4.nii.gz").unlink()
    (folder / "predictions" / "case 5.nii.gz").write_bytes(b"cut off")
    panel.tabs.setCurrentWidget(panel.cases)
    panel.cases.reference.line.setText(str(folder / "references"))
    panel.cases.prediction.line.setText(str(folder / "predictions"))
    panel.cases.measure()
    wait(lambda: not panel.cases.runner.is_busy, 2.0)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSEG_MODELS"] = folder
        os.environ["NAPARI_CONFIG"] = f"{folder}/settings.yaml"  # what a user last chose is not what a page shows
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1280, 800)
        manual = open_sample(viewer)
        segment(viewer, manual)
        train(viewer)
        measure(viewer)
        viewer.close()


if __name__ == "__main__":
    main()
