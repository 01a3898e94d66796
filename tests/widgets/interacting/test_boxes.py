"""The small widgets of the Interact panel: the bar of slices, the guided models, the rows for Train."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy

import napari_medseg as ms
from click_phantoms import balls
from napari_medseg import registry
from napari_medseg.interactive.slices import SliceQuality, correct_by_network, fill_from_slices
from napari_medseg.models.file import Channel, Normalisation, write_model
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
    bar.show_quality(bar.quality, (28, 27, 26, 25))
    assert [bar.slice_at(x) for x in (0, 26, 99)] == [8, 7, 5], "as the slider goes"
    assert bar.told(8) == "slice 25: painted"
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
    blank, done = np.zeros((2, 3, 4), np.uint8), DoneWork(viewer)
    first, second = (viewer.add_image(blank, name=name) for name in "ab")
    labels = [viewer.add_labels(blank, name=name) for name in "cde"]
    done.add(first, labels[0])
    done.add(second, labels[1])
    done.add(PublicOnlyProxy(first), labels[2])  # worked on again; napari hands plugins a proxy
    assert done.pairs() == [(second, labels[1]), (first, labels[2])]
    viewer.layers.remove(second)
    assert done.pairs() == [(first, labels[2])]


def untrained(network: str, folder: Path, labels: dict[int, str], **arguments: Any) -> None:
    """Write a model file of random weights."""
    spec = registry.network(network)
    given = spec.arguments(**arguments)
    model = ms.ModelSpec(
        network=network, arguments=given, channels=(Channel(name="image", modality="other"),), labels=labels,
        patch_zyx=(1, 32, 32) if network == FILLS else (16, 16, 16), normalisation=(Normalisation(kind="none"),),
        mode="2d" if network == FILLS else "3d", deep_supervision=False,
    )  # fmt: skip
    torch.manual_seed(0)
    write_model(folder / f"{network}.safetensors", model, spec.build_from(given).state_dict())


def chosen(qtbot: Any) -> Any:
    """The model that the box offers, of a file in the models folder."""
    box = GuidedBox(lambda compute, then: then(compute()))
    qtbot.addWidget(box)
    box.box.setCurrentIndex(1)
    return box


def test_a_memory_network_of_the_box_fills_slices(qtbot: Any, models_folder: Path) -> None:
    untrained(FILLS, models_folder, {1: "object"}, width=4, blocks=(1, 1, 1), key=8, value=8, decoder=8, aspp=False)
    volume, (ball,) = balls((16, 16, 16), (8, 8, 8), radius=4)
    session = ms.interact(volume)
    session.add(ms.SliceMask(ball[8], 0, 8, label=3))
    model = chosen(qtbot).fills
    fill_from_slices(session, 3, model=model)
    given = ms.Segmentation((np.arange(16)[:, None, None] == 8) & ball, volume.grid, {1: "filled"})
    expected = np.asarray(ms.propagate(volume, given, slices={0: [8]}, model=model).data) == 1
    np.testing.assert_array_equal(np.asarray(session.segmentation.data[:, :, :]) == 3, expected)
    np.testing.assert_array_equal(expected[8], ball[8])


def test_an_rnet_of_the_box_corrects_labels_and_leaves_the_locked(qtbot: Any, models_folder: Path) -> None:
    arguments = {"in_channels": 1, "out_channels": 3, "width": 4}
    untrained(CORRECTS, models_folder, {1: "left", 2: "right"}, **arguments)
    volume, (left, right) = balls((16, 16, 20), (8, 8, 5), (8, 8, 14), radius=4)
    session = ms.interact(volume)
    session.start_from(ms.Segmentation((left + 2 * right).astype(np.uint8), volume.grid, {1: "left", 2: "right"}))
    session.lock(1)
    session.add(ms.Point((8, 8, 14), label=2))
    before = np.array(session.segmentation.data[:, :, :])
    correct_by_network(session, chosen(qtbot).model)
    after = np.array(session.segmentation.data[:, :, :])
    assert after[8, 8, 14] == 2
    assert (after != before).any(), "random weights change something"
    np.testing.assert_array_equal(after == 1, left)
    session.undo()
    np.testing.assert_array_equal(session.segmentation.data[:, :, :], before)
