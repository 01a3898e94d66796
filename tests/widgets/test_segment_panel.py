"""The Segment panel makes the layer that `segment` makes, and never touches another."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_medseg as ms
import napari_medseg.widgets.segment as segment_panel
from balls import volume
from napari_medseg import registry
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Filled, Finished, Progress, Started
from napari_medseg.inference import segment_regions
from napari_medseg.inference.device import Devices
from napari_medseg.inference.runs import live
from napari_medseg.models.file import about, load_model, write_model
from napari_medseg.models.pipeline import Output, Region
from napari_medseg.models.spec import Channel
from napari_medseg.sample import sample_files
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import PROVENANCE_KEY, to_segmentation, volume_layer
from napari_medseg.widgets.fields.layer_box import LEFT_OUT
from napari_medseg.widgets.fields.model_box import details_of, facts_of, known_models
from napari_medseg.widgets.segment import SegmentPanel, as_python


@pytest.fixture
def ball_in_folder(ball_model: Path, models_folder: Path) -> Path:
    return Path(shutil.copy(ball_model, models_folder / "balls.safetensors"))


@pytest.fixture
def panel(viewer: ViewerModel, ball_in_folder: Path, qtbot: Any) -> SegmentPanel:
    made = SegmentPanel(viewer)
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: made.models.model is not None)
    return made


def add(viewer: ViewerModel, image: Volume) -> Any:
    data, arguments, _ = volume_layer(image)[0]
    return viewer.add_image(data, **arguments)


@pytest.fixture
def ct(viewer: ViewerModel, panel: SegmentPanel) -> Any:
    return add(viewer, replace(volume(seed=0), name="ct"))


def wait(panel: SegmentPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.runner.is_busy)


def test_the_layer_is_what_segment_gives(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, ball_in_folder: Path, qtbot: Any
) -> None:
    panel.segment_button.click()
    wait(panel, qtbot)
    expected = ms.segment(volume(seed=0), ball_in_folder)
    layer = viewer.layers["ct labels"]
    got = to_segmentation(layer)
    np.testing.assert_array_equal(np.asarray(got.data), np.asarray(expected.data))
    np.testing.assert_array_equal(got.grid.affine, expected.grid.affine)
    assert dict(got.labels) == dict(expected.labels)
    np.testing.assert_array_equal(layer.scale, ct.scale)
    assert layer.metadata[PROVENANCE_KEY]["model_sha256"] == load_model(ball_in_folder).sha256


def test_the_layer_is_there_while_it_fills(viewer: ViewerModel, panel: SegmentPanel, ct: Any, qtbot: Any) -> None:
    names: list[str] = []
    panel.runner.happened.connect(lambda e: names.append(viewer.layers[-1].name) if isinstance(e, Progress) else None)
    panel.segment_button.click()
    wait(panel, qtbot)
    assert set(names) == {"ct labels (partial)"}


def test_a_second_run_leaves_the_first_layer_alone(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, qtbot: Any
) -> None:
    for _ in range(2):
        panel.segment_button.click()
        wait(panel, qtbot)
    names = [layer.name for layer in viewer.layers]
    assert names == ["ct", "ct labels", "ct labels [1]"]
    assert not np.shares_memory(viewer.layers[1].data, viewer.layers[2].data)


def test_a_cancelled_run_keeps_its_part_and_says_so(viewer: ViewerModel, panel: SegmentPanel, qtbot: Any) -> None:
    large = np.random.default_rng(0).normal(size=(1, 48, 96, 96)).astype(np.float32)
    add(viewer, Volume(large, Grid.from_spacing((48, 96, 96), (1, 1, 1)), name="ct"))
    events: list[Any] = []
    panel.runner.happened.connect(events.append)
    panel.runner.happened.connect(lambda _: panel.runner.cancel())
    panel.segment_button.click()
    wait(panel, qtbot)
    assert not any(isinstance(event, Finished) for event in events)
    assert [layer.name for layer in viewer.layers] == ["ct", "ct labels (partial)"]


def test_a_result_removed_while_it_fills_comes_back_complete(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, qtbot: Any
) -> None:
    panel.runner.happened.connect(lambda e: viewer.layers.pop() if isinstance(e, Finished) else None)
    panel.segment_button.click()
    wait(panel, qtbot)
    assert "ct labels" in viewer.layers
    assert "is complete now, and back" in notification_manager.records[-1].message


def test_the_time_and_the_plan_are_told_before_the_run(panel: SegmentPanel, ct: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: panel.estimate.text.text().startswith("about "))
    assert panel.estimate.text.text().endswith(" s on this CPU")
    told = panel.estimate.text.toolTip()
    assert told.startswith("cpu fp32: ")
    started: list[str] = []
    panel.runner.happened.connect(lambda e: started.append(e.message) if isinstance(e, Started) else None)
    panel.segment_button.click()
    wait(panel, qtbot)
    assert started == [told]
    panel.options["overlap"].value = "0.75"
    qtbot.waitUntil(lambda: panel.estimate.text.toolTip() != told)


def test_a_new_result_takes_the_place_of_the_last(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, qtbot: Any
) -> None:
    panel.replace.value = True
    layers = []
    for _ in range(2):
        panel.segment_button.click()
        wait(panel, qtbot)
        layers.append(viewer.layers["ct labels"])
    assert [layer.name for layer in viewer.layers] == ["ct", "ct labels"]
    assert layers[0] is not layers[1]
    viewer.layers.remove("ct")
    add(viewer, replace(volume(seed=1), name="ct"))  # another scan of this name
    panel.segment_button.click()
    wait(panel, qtbot)
    assert layers[1] in viewer.layers


def test_a_folder_is_segmented_as_the_command_does(
    panel: SegmentPanel, ball_in_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    (tmp_path / "in").mkdir()
    for seed in (0, 1):
        ms.write(tmp_path / "in" / f"{seed}.nii.gz", volume(seed=seed))
    panel.tabs.setCurrentIndex(1)
    assert not panel.segment_button.isEnabled()
    assert panel.waits.text() == "Waits for a folder of images and a folder for the labels."
    panel.folder.line.setText(str(tmp_path / "in"))
    panel.out.line.setText(str(tmp_path / "out"))
    told: list[str] = []
    monkeypatch.setattr("napari_medseg.widgets.segment.show_info", told.append)
    panel.segment_button.click()
    panel.out.line.setText(str(tmp_path / "elsewhere"))
    wait(panel, qtbot)
    assert told == [f"2 label files are in {tmp_path / 'out'}"]
    for seed in (0, 1):
        made = ms.read_segmentation(tmp_path / "out" / f"{seed}.nii.gz")
        expected = ms.segment(volume(seed=seed), ball_in_folder)
        np.testing.assert_array_equal(np.asarray(made.data), np.asarray(expected.data))


def test_doubts_and_the_devices_of_this_machine_are_shown(viewer: ViewerModel, panel: SegmentPanel, qtbot: Any) -> None:
    panel.models.select(sample_files()["model"])
    qtbot.waitUntil(lambda: panel.models.model is not None)
    assert "licence" in panel.models.facts.text()
    add(viewer, replace(volume(seed=0), name="mr"))
    qtbot.waitUntil(lambda: not panel.estimate.doubts.isHidden())
    assert "does not look like CT" in panel.estimate.doubts.text()
    panel.images[0].choose(add(viewer, replace(volume(seed=1), name="other")))
    assert panel.estimate.doubts.isHidden(), "they are about another image"
    assert panel.estimate.text.text() == ""
    qtbot.waitUntil(lambda: panel.options["device"].choices == Devices.seen().names)


def test_a_layer_that_cannot_run_is_told_before_it_does(panel: SegmentPanel, ct: Any) -> None:
    ct.units = ("s", "mm", "mm")
    panel.options["overlap"].value = "0.25"
    assert "layer 'ct' needs lengths on its axes" in panel.estimate.text.text()


def test_a_model_of_two_channels_asks_for_two_images(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, ball_in_folder: Path, tmp_path: Path, qtbot: Any
) -> None:
    one = load_model(ball_in_folder)
    arguments = {**one.spec.arguments, "in_channels": 2}
    spec = replace(
        one.spec,
        channels=(Channel(name="T1", modality="MR"), Channel(name="FLAIR", modality="MR")),
        normalisation=one.spec.normalisation * 2,
        arguments=arguments,
    )
    network = registry.network("unet3d").build_from(spec.arguments)
    two = write_model(tmp_path / "two.safetensors", spec, network.state_dict())
    panel.models.select(two.path)
    qtbot.waitUntil(lambda: len(panel.images) == 2)
    flair = add(viewer, replace(volume(seed=1), name="flair"))
    panel.images[0].choose(ct)
    panel.images[1].choose(flair)
    panel.segment_button.click()
    wait(panel, qtbot)
    pair = Volume(np.concatenate([volume(seed=0).data, volume(seed=1).data]), volume().grid)
    expected = ms.segment(pair, two)
    np.testing.assert_array_equal(np.asarray(viewer.layers["ct labels"].data), np.asarray(expected.data))
    panel.images[1].setCurrentText(LEFT_OUT)  # the model may do without it
    assert panel.config.missing == ("FLAIR",)
    assert "missing=('FLAIR',)" in as_python(["ct.nii.gz"], two, panel.config)
    panel.segment_button.click()
    wait(panel, qtbot)
    expected = ms.segment(volume(seed=0), two, missing=("FLAIR",))
    np.testing.assert_array_equal(np.asarray(viewer.layers["ct labels [1]"].data), np.asarray(expected.data))
    panel.images[0].setCurrentText(LEFT_OUT)
    assert not panel.segment_button.isEnabled()
    panel.models.select(ball_in_folder)
    qtbot.waitUntil(lambda: len(panel.images) == 1)
    assert panel.images[0].layer is not None
    assert not panel.config.missing


def test_a_set_of_models_is_listed_and_segments(
    viewer: ViewerModel, ball_in_folder: Path, models_folder: Path, qtbot: Any
) -> None:
    members = [{"model": ball_in_folder.name, "labels": {"1": 7}}, {"model": ball_in_folder.name, "labels": {"2": 9}}]
    both = models_folder / "both.json"
    both.write_text(json.dumps({"napari_medseg_set": 1, "members": members}))
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    add(viewer, replace(volume(seed=0), name="ct"))
    panel.models.box.setCurrentText("both (set)")
    qtbot.waitUntil(lambda: panel.models.facts.text().startswith("2 models, one after the other"))
    qtbot.waitUntil(lambda: panel.estimate.text.text().startswith("about "))
    assert len(panel.estimate.text.toolTip().splitlines()) == 2
    panel.python_button.click()
    assert repr(str(both)) in QApplication.clipboard().text()
    panel.segment_button.click()
    wait(panel, qtbot)
    found, expected = to_segmentation(viewer.layers["ct labels"]), ms.segment(volume(seed=0), both)
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(expected.data))
    assert list(found.labels) == [7, 9]


def test_a_set_with_a_crop_fills_a_large_image(
    viewer: ViewerModel, ball_in_folder: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(live, "LARGE_VOXELS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(models_folder))
    crop = {"model": ball_in_folder.name, "role": "crop", "labels": [1], "margin_mm": 2}
    path = models_folder / "cropped.json"
    path.write_text(json.dumps({"napari_medseg_set": 1, "members": [crop, {"model": [ball_in_folder.name] * 2}]}))
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    add(viewer, replace(volume(seed=0), name="ct"))
    panel.models.box.setCurrentText("cropped (set)")
    qtbot.waitUntil(lambda: "looks first" in panel.models.facts.text())
    told: list[float] = []
    panel.runner.happened.connect(lambda e: told.append(e.done / e.total) if isinstance(e, Progress) else None)
    qtbot.waitUntil(panel.segment_button.isEnabled)
    panel.segment_button.click()
    wait(panel, qtbot)
    assert told == sorted(told)
    assert told[-1] == 1.0  # of quick work the panel is told the last of its steps only
    found = to_segmentation(viewer.layers["ct labels"])
    expected = np.asarray(ms.segment(volume(seed=0), path).data)
    assert expected.any()
    np.testing.assert_array_equal(np.asarray(found.data), expected)


def test_regions_become_layers_where_the_model_has_some(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, ball_in_folder: Path, models_folder: Path, qtbot: Any
) -> None:
    assert not panel.regions.native.isVisibleTo(panel)
    ball = load_model(ball_in_folder)
    names = ("whole", "core", "rim")
    overlapping = tuple(Region(name=name, label=k + 1, rank=k) for k, name in enumerate(names))
    spec = replace(ball.spec, labels={1: "whole", 2: "core", 3: "rim"}, output=Output(regions=overlapping))
    path = models_folder / "regions.safetensors"
    write_model(path, spec, ball.load_network().state_dict())
    panel.models.select(path)
    qtbot.waitUntil(lambda: panel.regions.native.isVisibleTo(panel))
    panel.replace.value = True
    for wanted in (True, True, False):
        panel.regions.value = wanted
        qtbot.waitUntil(panel.segment_button.isEnabled)
        panel.segment_button.click()
        wait(panel, qtbot)
        layers = ["ct labels", *(f"ct {name}" for name in names)] if wanted else ["ct labels"]
        assert [layer.name for layer in viewer.layers] == ["ct", *layers]
    panel.regions.value = True
    panel.python_button.click()
    assert "in segment_regions(volume, " in QApplication.clipboard().text()
    panel.segment_button.click()
    wait(panel, qtbot)
    for name, region in segment_regions(volume(seed=0), path).items():
        layer = viewer.layers[f"ct {name}"]
        np.testing.assert_array_equal(np.asarray(to_segmentation(layer).data), np.asarray(region.data))
        assert layer.editable
    panel.models.select(ball_in_folder)
    qtbot.waitUntil(lambda: panel.models.model is not None and not panel.regions.native.isVisibleTo(panel))


def test_a_file_that_is_no_model_is_said_and_cannot_run(
    panel: SegmentPanel, ct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    wrong = tmp_path / "notes.safetensors"
    wrong.write_text("hello")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(wrong), ""))
    panel.models.browse_button.click()
    qtbot.waitUntil(lambda: str(wrong) in panel.models.facts.text())
    assert not panel.segment_button.isEnabled()


def test_the_facts_of_a_model_are_short(ball_model: Path) -> None:
    model = load_model(ball_model)
    labels, words = facts_of(model).splitlines()
    assert labels.startswith("2 labels: ")
    kind, size, digest = details_of(model).splitlines()
    assert kind == "unet3d"
    assert size == "any spacing, patch 8 × 16 × 16"
    assert digest == f"SHA-256 {model.sha256[:12]}"
    assert words == about(model) == "images: CT"


def test_a_model_is_listed_once_and_told_from_its_namesake(
    panel: SegmentPanel, ball_in_folder: Path, tmp_path: Path, qtbot: Any
) -> None:
    box, before = panel.models.box, panel.models.box.count()
    panel.models.select(Path(str(ball_in_folder)))
    assert box.count() == before
    other = Path(shutil.copy(ball_in_folder, tmp_path))
    panel.models.select(other)
    assert box.currentText() == f"balls in {tmp_path}"
    assert box.toolTip() == box.itemData(box.currentIndex(), Qt.ItemDataRole.ToolTipRole) == str(other)
    qtbot.waitUntil(lambda: panel.models.model is not None)


def test_copied_python_does_what_the_panel_does(
    panel: SegmentPanel, ct: Any, viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    ms.write("ct.nii.gz", volume(seed=0))
    panel.options["overlap"].value = "0.25"
    panel.options["batch_size"].value = 3
    panel.python_button.click()
    assert "batch_size=3" in QApplication.clipboard().text()
    exec(QApplication.clipboard().text(), {})
    panel.segment_button.click()
    wait(panel, qtbot)
    made = to_segmentation(viewer.layers["ct labels"])
    np.testing.assert_array_equal(np.asarray(ms.read_segmentation("labels.nii.gz").data), np.asarray(made.data))


def test_copied_python_reads_several_channels(ball_model: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        ms.write(tmp_path / f"{seed}.nii.gz", volume(seed=seed))
    paths = [str(tmp_path / f"{seed}.nii.gz") for seed in (0, 1)]
    script = as_python(paths, load_model(ball_model), SegmentConfig())
    scope: dict[str, Any] = {}
    exec(script.split("labels = ")[0], scope)
    assert scope["volume"].data.shape[0] == 2
    assert 'ms.write("labels.png", labels)' in as_python(["a.png"], load_model(ball_model), SegmentConfig())


def test_nothing_can_run_without_an_image(viewer: ViewerModel, panel: SegmentPanel) -> None:
    assert not panel.segment_button.isEnabled()
    add(viewer, volume())
    assert panel.segment_button.isEnabled()


def test_without_any_model_the_panel_says_where_one_comes_from(
    viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medseg.widgets.fields.model_box.known_models", lambda **_: {})
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    add(viewer, volume())
    assert not panel.segment_button.isEnabled()
    assert panel.models.box.placeholderText() == "no model yet"
    assert "Train one" in panel.models.facts.text()
    assert not panel.models.facts.isHidden()


def test_the_sample_model_is_listed_after_those_of_the_folder(ball_in_folder: Path) -> None:
    assert known_models() == {"balls": ball_in_folder, "sample (CT phantom)": sample_files()["model"]}


def test_live_labels_can_be_painted_into_the_result(
    viewer: ViewerModel, panel: SegmentPanel, ct: Any, qtbot: Any
) -> None:
    panel.segment_button.click()
    wait(panel, qtbot)
    layer = viewer.layers["ct labels"]
    before = layer.data.copy()
    layer.paint((1, 1, 1), 2)
    assert not np.array_equal(layer.data, before)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    assert isinstance(to_segmentation(layer), Segmentation)


def tall_image() -> Volume:
    """Three rows of chunks."""
    one = np.asarray(volume(seed=0).data)
    data = np.concatenate([one] * -(-150 // one.shape[1]), axis=1)[:, :150]
    return Volume(data, Grid(data.shape[1:], volume().grid.affine), name="tall")


def test_a_large_image_is_resumed_where_it_was_cancelled(
    viewer: ViewerModel,
    panel: SegmentPanel,
    ball_in_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    monkeypatch.setattr(live, "LARGE_VOXELS", 1000)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    add(viewer, tall_image())
    drawn: list[Any] = []
    monkeypatch.setattr(segment_panel, "show_filled", lambda layer, box, _: drawn.append(box))

    asked, segmenting = threading.Event(), live.iter_segment_into
    panel.runner.cancelling.connect(asked.set)

    def in_step(*args: Any) -> Iterator[Any]:
        """The run waits until the window has asked for its end."""
        for event in segmenting(*args):
            yield event
            if isinstance(event, Filled):
                asked.wait()

    monkeypatch.setattr(live, "iter_segment_into", in_step)

    def cancel_once(event: Any) -> None:
        if isinstance(event, Filled):
            panel.runner.cancel()

    panel.runner.happened.connect(cancel_once)
    panel.segment_button.click()
    wait(panel, qtbot)
    panel.runner.happened.disconnect(cancel_once)
    store = tmp_path / "tall-balls.labels.zarr"
    assert any(r.message.startswith(f"the labels go into {store}") for r in notification_manager.records)
    partial = viewer.layers["tall labels (partial)"].data
    expected = np.asarray(ms.segment(tall_image(), ball_in_folder, device="cpu").data)
    assert np.array_equal(partial[:64], expected[:64])
    assert not partial[64:].any()
    begun: list[Any] = []
    panel.runner.happened.connect(lambda e: begun.append(np.array(e.result.data)) if isinstance(e, Started) else None)
    panel.segment_button.click()
    wait(panel, qtbot)
    assert np.array_equal(begun[0], partial), "it begins with what was done"
    assert np.array_equal(viewer.layers["tall labels"].data, expected)
    assert np.array_equal(np.asarray(ms.read_segmentation(store).data), expected)
    assert drawn
    _, height, width = expected.shape
    assert all(box[1:] == (slice(0, height), slice(0, width)) for box in drawn)
    model = panel.models.model
    assert model is not None
    assert live.store_for(None, "tall", model).name == "tall-balls-2.labels.zarr", "a complete one stays"
