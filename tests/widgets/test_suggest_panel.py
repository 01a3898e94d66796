"""The Suggest panel lists what `suggest` gives, and a click on a row shows it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel

import napari_medseg as ms
from balls import balls, volume
from napari_medseg import registry
from napari_medseg.models.file import write_model
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer
from napari_medseg.widgets.canvas.slice_in_view import slice_in_view
from napari_medseg.widgets.suggest import SuggestPanel
from orientations import stored_otherwise


def two_channels(one: Path, out: Path) -> ms.Model:
    """A model of two channels, with weights as they come."""
    spec = ms.load_model(one).spec
    channels = tuple(replace(spec.channels[0], name=name) for name in ("T1", "FLAIR"))
    arguments = {**spec.arguments, "in_channels": 2}
    network = registry.network(spec.network).build_from(arguments)
    spec = replace(spec, channels=channels, normalisation=spec.normalisation * 2, arguments=arguments)
    return write_model(out, spec, network.state_dict())


def add(viewer: ViewerModel, image: Volume) -> Any:
    data, arguments, _ = volume_layer(image)[0]
    return viewer.add_image(data, **arguments)


def test_the_list_is_what_suggest_gives_and_leads_there(
    viewer: ViewerModel, ball_model: Path, models_folder: Path, qtbot: Any
) -> None:
    shutil.copy(ball_model, models_folder / "balls.safetensors")
    panel = SuggestPanel(viewer)
    qtbot.addWidget(panel)
    qtbot.waitUntil(lambda: panel.models.model is not None)
    assert "Waits for an image" in panel.waits.text()
    assert not panel.run_button.isEnabled()
    images = [replace(volume(seed=seed), name=f"case{seed}") for seed in range(2)]
    for image in images:
        add(viewer, image)
    add(viewer, replace(volume(seed=5), name="hidden")).visible = False
    painted = np.where(np.isin(np.arange(12), (5, 7))[:, None, None], balls(), 0).astype(np.uint8)
    said = Segmentation(painted, images[0].grid, {1: "ball", 2: "other"})
    data, arguments, _ = labels_layer(stored_otherwise(said))
    viewer.add_labels(data, **arguments)
    panel.options["count"].value = 3
    panel.options["axis"].value = "z"
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)

    expected = ms.suggest(
        images, ball_model, count=3, axis="z", annotated={name: [5, 7] for name in ("case0", "case1")}, device="cpu"
    )
    texts = [panel.list.item(row).text() for row in range(panel.list.count())]
    assert texts == [f"{one.case}: {one.place}\n{one.reason}" for one in expected]
    viewer.dims.order = (2, 0, 1)
    last = expected[-1]
    panel.list.itemClicked.emit(panel.list.item(2))
    assert slice_in_view(viewer, viewer.layers[last.case]) == (0, last.index)


def test_a_model_of_two_channels_asks_for_the_layers_of_one_image(
    viewer: ViewerModel, ball_model: Path, models_folder: Path, qtbot: Any
) -> None:
    model = two_channels(ball_model, models_folder / "two.safetensors")
    layers = [add(viewer, replace(volume(seed=seed), name=name)) for seed, name in enumerate(("flair", "t1"))]
    panel = SuggestPanel(viewer)
    qtbot.addWidget(panel)
    qtbot.waitUntil(lambda: len(panel.channels.boxes) == 2)
    assert "with these channels" in panel.about.text()
    assert [box.layer for box in panel.channels.boxes] == layers[::-1], "each row another layer"
    panel.options["count"].value = 2
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    both = np.concatenate([np.asarray(volume(seed=seed).data) for seed in (1, 0)])
    expected = ms.suggest([Volume(both, volume().grid, name="t1")], model, count=2, device="cpu")
    texts = [panel.list.item(row).text() for row in range(panel.list.count())]
    assert texts == [f"{one.case}: {one.place}\n{one.reason}" for one in expected]
    panel.list.itemClicked.emit(panel.list.item(0))
    assert slice_in_view(viewer, layers[1]) == (expected[0].axis, expected[0].index)
    shutil.copy(ball_model, models_folder / "one.safetensors")
    panel.models.select(models_folder / "one.safetensors")
    qtbot.waitUntil(lambda: not panel.channels.boxes)
    assert "every visible image" in panel.about.text()
    assert len(panel.images) == 2
