"""Make the pictures of the docs: `xvfb-run -a -s "-screen 0 1600x1200x24" python docs/screenshots.py [PART ...]`.

Each picture shows a real window that does what the page says. Without parts all are made; PARTS lists them.
`--all FOLDER` takes every panel of the plugin at 1024 x 700 instead, light and dark, to look at.

The tutorial and the pictures of the Metrics panel need $MEDSEG_DATA: an abdominal CT and two segmentations of it
(reference files of TotalSegmentator, Apache-2.0). Without it these pictures stay as they are. `docs/moving.py` makes
the moving picture.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from napari.plugins._npe2 import get_readers
from window import CT, IMAGES, PLUGIN, add_image, add_labels, dock, finished, panels, save, shoot, shot, wait, window

import napari_medseg as ms
from napari_medseg import read, read_segmentation, write
from napari_medseg.sample import phantom, sample_files
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer

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
CLICKS = {
    "spleen": (1, [(23, 32, 25), (6, 43, 16), (21, 46, 13)]),
    "right kidney": (2, [(12, 35, 78), (0, 36, 86), (3, 48, 84)]),
    "gallbladder": (4, [(7, 67, 81)]),
}
"""{structure: (label id, voxels that are clicked)} of the CT, as the tutorial has them."""


def clicked() -> ms.Segmentation:
    """The masks of the tutorial: three organs by seven clicks."""
    session = ms.interact(read(CT / "example_ct_sm.nii.gz"))
    for label, voxels in CLICKS.values():
        for voxel in voxels:
            session.add(ms.Point(voxel, label=label))
    names = {label: name for name, (label, _) in CLICKS.items()}
    return replace(session.segmentation, labels=names, name="clicked")


def guide(viewer: napari.Viewer) -> None:
    """Open the sample, segment it, and the dialog in which napari asks for a reader."""
    _, manual = viewer.open_sample(PLUGIN, "ct")
    shoot(viewer, "open")
    panel = dock(viewer, "Segment")
    manual.visible = False
    wait(lambda: panel.estimate.text.text().startswith("about "))
    panel.segment()
    finished(panel)
    shoot(viewer, "segment")
    name = "example_ct_sm.nii.gz"
    dialog = QtReaderDialog(name, viewer.window._qt_window, get_readers(name))
    dialog.persist_checkbox.setChecked(True)
    dialog.show()
    wait(at_least_s=1.0)
    dialog.grab().save(str(IMAGES / "choose-reader.png"))
    dialog.close()


def train(viewer: napari.Viewer) -> None:
    """Train on phantoms with other seeds than the sample, and validate on the last one."""
    for seed in range(4):
        image, labels = phantom("ct", seed=seed)
        for data, arguments, kind in (*volume_layer(image), labels_layer(labels)):
            name = f"case {seed}" if kind == "image" else f"manual {seed}"
            getattr(viewer, f"add_{kind}")(data, **{**arguments, "name": name, "visible": seed == 0})
    panel = dock(viewer, "Train")
    while len(panel.cases.rows) < 4:
        panel.cases.add()
    for number, row in enumerate(panel.cases.rows):
        row.image.choose(viewer.layers[f"case {number}"])
        row.labels.choose(viewer.layers[f"manual {number}"])
    panel.budget.setValue(1)
    panel.train()
    finished(panel)
    shoot(viewer, "train")


def refine(viewer: napari.Viewer) -> None:
    """Refine what the sample's model gives, by a refiner that learned from other phantoms for a minute."""
    folder, model = Path(os.environ["MEDSEG_MODELS"]), sample_files()["model"]
    cases = [phantom("ct", seed=seed) for seed in range(1, 5)]
    ms.train(
        cases, out=folder / "organs refiner.safetensors", scheme="boundary-patch", init=model, minutes=1.0, val=0.0
    )
    image, _ = phantom("ct", seed=0)
    data, arguments, _ = volume_layer(image)[0]
    viewer.add_image(data, **arguments)
    add_labels(viewer, ms.segment(image, model), name="organs")
    panel = dock(viewer, "Refine")
    wait(lambda: panel.models.model is not None)
    panel.refine()
    wait(lambda: not panel.working.runner.is_busy, 1.0)
    shoot(viewer, "refine")


def interact(viewer: napari.Viewer) -> None:
    """The panel for masks from clicks, where this version has one."""
    if "Interact" not in panels():
        return
    add_image(viewer, CT / "example_ct_sm.nii.gz")
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["MEDSEG_SESSIONS"] = sessions
        panel = dock(viewer, "Interact")
        panel.take("P")
        for name in ("spleen", "right kidney"):
            label = CLICKS[name][0]
            panel.work.choose(label)
            for voxel in CLICKS[name][1]:
                panel.work.canvas.add_point(voxel)
                wait(lambda: not panel.work.queue.left)
            panel.objects.renamed.emit(label, name)
            wait(lambda: not panel.work.queue.left)
        panel.work.canvas.show_slice(0, CLICKS["right kidney"][1][0][0])
        wait(at_least_s=2.0)
        shoot(viewer, "interact")


def labels(viewer: napari.Viewer) -> None:
    """The table of the labels of an abdominal CT."""
    add_image(viewer, CT / "example_ct_sm.nii.gz").contrast_limits = (-160, 240)
    reference = replace(read_segmentation(CT / "example_seg.nii.gz"), labels=ORGANS)
    add_labels(viewer, reference, name="organs")
    panel = dock(viewer, "Labels")
    wait(lambda: panel.table.model().rowCount() > 1, 2.0)
    shoot(viewer, "labels")


def tutorial(viewer: napari.Viewer) -> None:
    """Each step of the tutorial on the CT."""
    image = add_image(viewer, CT / "example_ct_sm.nii.gz")
    shoot(viewer, "tutorial-open")
    image.contrast_limits = (-160, 240)
    viewer.dims.set_point(0, 12 * 3.0 + viewer.dims.range[0].start)
    shoot(viewer, "tutorial-window")
    masks = add_labels(viewer, clicked(), opacity=0.5)
    shoot(viewer, "tutorial-clicks")
    masks.mode, masks.selected_label, masks.brush_size = "paint", 1, 6
    viewer.scene.camera.zoom *= 2.2
    viewer.cursor.size = 6
    shoot(viewer, "tutorial-paint", fit=False)
    masks.mode = "pan_zoom"
    reference = replace(read_segmentation(CT / "example_seg.nii.gz"), labels=ORGANS)
    add_labels(viewer, reference, name="example_seg", visible=False)
    panel = dock(viewer, "Metrics")
    panel.prediction.choose(masks)
    panel.reference.choose(viewer.layers["example_seg"])
    panel.measure()
    finished(panel)
    shoot(viewer, "tutorial-measure")
    viewer.window.remove_dock_widget("all")
    image.visible = False
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (10, 30, 80)
    shoot(viewer, "tutorial-3d")


def measure(viewer: napari.Viewer) -> None:
    """Measure a pair of abdominal segmentations: table and worst place, plot, surface, instances, cases."""
    add_image(viewer, CT / "example_ct_sm.nii.gz")
    for name in ("example_seg", "example_seg_fast"):
        add_labels(viewer, replace(read_segmentation(CT / f"{name}.nii.gz"), labels=ORGANS), name=name)
    panel = dock(viewer, "Metrics")
    panel.measure()
    finished(panel)
    panel.errors.show_errors()
    finished(panel)
    panel.scored.table.choose(2)
    shoot(viewer, "measure")
    panel.tabs.setCurrentWidget(panel.plots)
    wait()
    panel.grab().save(str(IMAGES / "measure-plots.png"))
    panel.tabs.setCurrentWidget(panel.errors)
    panel.errors.choose_label(5)
    panel.errors.show_surface()
    finished(panel)
    wait(lambda: viewer.dims.ndisplay == 3, 2.0)  # it is shown in turns
    shoot(viewer, "measure-surface", fit=False)
    panel.tabs.setCurrentWidget(panel.instances)
    panel.instances.match()
    finished(panel)
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


def every_panel(folder: Path) -> None:
    """Every panel with the sample at 1024 x 700, the smallest screen that it must fit, in both themes."""
    with window(1024, 700) as viewer:
        viewer.open_sample(PLUGIN, "ct")
        for theme in ("light", "dark"):
            viewer.theme = theme
            for name in panels():
                dock(viewer, name)
                wait(at_least_s=1.0)
                pixels = shot(viewer)
                height, width = pixels.shape[:2]
                too_large = "" if (width, height) <= (1024, 700) else ": larger than the screen"
                save(pixels, folder / f"{name.lower().replace(' ', '-')}-{theme}.png")
                print(f"{name}, {theme}: {width} x {height}{too_large}")


def explain(viewer: napari.Viewer) -> None:
    """The guide's picture of the Explain panel: the gradient of an organ of the sample, checked."""
    viewer.open_sample(PLUGIN, "ct")
    viewer.layers.remove(viewer.layers[-1])
    panel = dock(viewer, "Explain")
    wait(lambda: panel.models.model is not None)
    panel.method.setCurrentIndex(panel.method.findData("grad-cam"))
    panel.options["check"].value = True
    panel.explain()
    finished(panel)
    shoot(viewer, "explain")


PARTS: dict[str, Callable[[napari.Viewer], None]] = {
    "guide": guide,
    "train": train,
    "refine": refine,
    "interact": interact,
    "labels": labels,
    "tutorial": tutorial,
    "measure": measure,
    "explain": explain,
}
NEED_DATA = ("interact", "labels", "tutorial", "measure")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the docs.")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="take every panel, light and dark, into FOLDER")
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if args.all:
        every_panel(args.all)
        return
    for name in args.parts or PARTS:
        if name in NEED_DATA and not CT.is_dir():
            print(f"no pictures of {name}: {CT} is missing")
            continue
        with window() as viewer:
            PARTS[name](viewer)
        print(name)


if __name__ == "__main__":
    main()
