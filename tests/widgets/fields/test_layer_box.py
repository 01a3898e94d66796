"""The drop-down of layers follows the viewer and keeps the layer that was chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source

from napari_medseg.widgets.fields.layer_box import LayerBox


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def box(viewer: ViewerModel, qtbot: Any) -> LayerBox:
    made = LayerBox(viewer, Image)
    qtbot.addWidget(made)
    return made


def items(box: LayerBox) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


def test_it_is_empty_and_says_so(box: LayerBox) -> None:
    assert (box.layer, box.isEnabled(), box.placeholderText()) == (None, False, "no Image yet")


def test_it_follows_add_rename_and_remove(viewer: ViewerModel, box: LayerBox) -> None:
    first = viewer.add_image(np.zeros((4, 4)), name="a")
    viewer.add_image(np.zeros((4, 4)), name="b")
    viewer.add_labels(np.zeros((4, 4), int), name="labels")
    assert items(box) == ["b", "a"]
    first.name = "ct"
    assert items(box) == ["b", "ct"]
    viewer.layers.remove(first)
    assert items(box) == ["b"]


def test_the_chosen_layer_stays_chosen(viewer: ViewerModel, box: LayerBox) -> None:
    first = viewer.add_image(np.zeros((4, 4)), name="a")
    changes: list[Any] = []
    box.layer_changed.connect(changes.append)
    viewer.add_image(np.zeros((4, 4)), name="b")
    viewer.layers.move(0, 2)
    first.name = "renamed"
    assert (box.layer, box.currentText(), changes) == (first, "renamed", [])


def test_a_box_follows_what_is_opened_until_the_user_chooses(viewer: ViewerModel, box: LayerBox) -> None:
    box.follows_opened = True
    opened = []
    for name in "abc":
        with layer_source(path=f"{name}.nii.gz"):
            opened.append(viewer.add_image(np.zeros((4, 4)), name=name))
        viewer.add_image(np.zeros((4, 4)), name=f"map of {name}")
        assert box.layer is opened[min(len(opened), 2) - 1]
        if name == "b":
            box.choose(opened[1])


@pytest.fixture
def two(viewer: ViewerModel, qtbot: Any) -> tuple[LayerBox, LayerBox]:
    """One that begins with the oldest layer, and one with the newest, which is unlike it."""
    first = LayerBox(viewer, Image, first=lambda layers: layers[-1])
    second = LayerBox(viewer, Image, unlike=first)
    for box in (first, second):
        qtbot.addWidget(box)
    return first, second


def test_two_boxes_choose_different_layers(viewer: ViewerModel, two: tuple[LayerBox, LayerBox]) -> None:
    a = viewer.add_image(np.zeros((4, 4)), name="a")
    assert [box.layer for box in two] == [a, a], "there is no other"
    b = viewer.add_image(np.zeros((4, 4)), name="b")
    assert [box.layer for box in two] == [a, b]
    c = viewer.add_image(np.zeros((4, 4)), name="c")
    assert [box.layer for box in two] == [a, b], "what was chosen stays"
    viewer.layers.remove(a)
    assert [box.layer for box in two] == [b, c]


def test_two_boxes_have_the_same_layer_where_the_user_wants_it(
    viewer: ViewerModel, two: tuple[LayerBox, LayerBox]
) -> None:
    a, _ = (viewer.add_image(np.zeros((4, 4)), name=name) for name in "ab")
    two[1].choose(a)
    viewer.add_image(np.zeros((4, 4)), name="c")
    assert [box.layer for box in two] == [a, a]


def test_another_is_chosen_when_it_is_removed(viewer: ViewerModel, box: LayerBox) -> None:
    first = viewer.add_image(np.zeros((4, 4)), name="a")
    second = viewer.add_image(np.zeros((4, 4)), name="b")
    changes: list[Any] = []
    box.layer_changed.connect(changes.append)
    viewer.layers.remove(first)
    viewer.layers.remove(second)
    assert changes == [second, None]


def test_a_destroyed_box_listens_no_more(viewer: ViewerModel, qtbot: Any) -> None:
    box = LayerBox(viewer, Image)
    connected = len(viewer.layers.events.inserted.callbacks)
    with qtbot.waitSignal(box.destroyed):
        box.deleteLater()
    assert len(viewer.layers.events.inserted.callbacks) == connected - 1
    viewer.add_image(np.zeros((4, 4)))


def test_a_long_name_is_cut_in_the_middle_and_whole_in_the_tooltip(viewer: ViewerModel, box: LayerBox) -> None:
    name = f"study_{'x' * 80}_t2"
    viewer.add_image(np.zeros((4, 4)), name=name)
    shown = box.shown_text(120)
    assert (shown[:3], shown[-3:]) == ("stu", "_t2")
    assert "…" in shown
    assert box.toolTip().startswith(name)
