"""The small widgets of the Interact panel: the bar of slices, the guided models, the rows for Train."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from napari.components import ViewerModel

from napari_medseg.interactive.slices import SliceQuality
from napari_medseg.widgets.interacting.guided_box import CORRECTS, FILLS, GuidedBox, guided_models
from napari_medseg.widgets.interacting.slices_box import QualityBar
from napari_medseg.widgets.interacting.training_rows import DoneWork


def model(name: str, network: str) -> Any:
    return SimpleNamespace(path=Path(f"{name}.safetensors"), spec=SimpleNamespace(network=network))


def test_the_bar_says_what_lies_under_the_mouse(qtbot: Any) -> None:
    bar = QualityBar()
    qtbot.addWidget(bar)
    bar.resize(100, 26)
    bar.show_quality(SliceQuality(1, 0, 5, (1.0, 0.25, 0.5, 1.0), (9, 9, 9, 9), frozenset({5, 8})))
    assert [bar.slice_at(x) for x in (0, 24, 26, 99, 500)] == [5, 5, 6, 8, 8]
    assert bar.told(5) == "slice 5: painted"
    assert "0.25" in bar.told(6)
    bar.show_quality(None)
    assert bar.isHidden()


def test_a_guided_model_is_offered_for_what_it_does(qtbot: Any) -> None:
    box = GuidedBox(lambda _compute, _then: None)
    qtbot.addWidget(box)
    assert box.isHidden(), "no such model"
    filling, correcting = model("memory", FILLS), model("rnet", CORRECTS)
    box.show_models([filling, correcting])
    assert not box.isHidden()
    assert (box.model, box.fills) == (None, None)
    box.set_ready(True)
    box.box.setCurrentIndex(1)
    assert box.fills is filling
    assert box.button.isHidden()
    box.box.setCurrentIndex(2)
    assert (box.model, box.fills) == (correcting, None)
    assert not box.button.isHidden()
    assert box.button.isEnabled()


def test_other_models_are_not_offered(models_folder: Path, ball_model: Path) -> None:
    (models_folder / "unet.safetensors").write_bytes(ball_model.read_bytes())
    (models_folder / "damaged.safetensors").write_bytes(b"PK")
    assert guided_models() == []


def test_the_images_that_were_worked_on_are_remembered_while_they_are_open(viewer: ViewerModel) -> None:
    blank, done = np.zeros((2, 3, 4), np.uint8), DoneWork()
    first, second = (viewer.add_image(blank, name=name) for name in "ab")
    labels = [viewer.add_labels(blank, name=name) for name in "cde"]
    done.add(first, labels[0])
    done.add(second, labels[1])
    done.add(first, labels[2])  # worked on again
    assert done.pairs(viewer) == [(second, labels[1]), (first, labels[2])]
    viewer.layers.remove(second)
    assert done.pairs(viewer) == [(first, labels[2])]
