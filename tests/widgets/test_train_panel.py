"""The Train panel trains on the open layers, leaves a model in the models folder, and hands it on."""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

import napari_medseg as ms
from balls import balls, segmentation, volume
from napari_medseg import registry
from napari_medseg.cases import Case
from napari_medseg.config import SchemeConfig, knobs_of
from napari_medseg.datasets import DataSet
from napari_medseg.events import Finished, Notice, Progress, Started, TrainProgress, Validated
from napari_medseg.geometry import AxisOrder
from napari_medseg.models.file import list_models, load_model
from napari_medseg.sample import phantom
from napari_medseg.training.apart import parent
from napari_medseg.training.job import asked
from napari_medseg.training.schemes.table import SCHEMES
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import IGNORE_KEY, label_names, labels_layer, placement, volume_layer
from napari_medseg.widgets.canvas.slice_in_view import slice_in_view
from napari_medseg.widgets.fields.forms import choose
from napari_medseg.widgets.train import TrainPanel, free_path
from napari_medseg.widgets.views.curves import Curves
from trainings import recorded


def add(viewer: ViewerModel, noun: Volume | Segmentation) -> Any:
    if isinstance(noun, Volume):
        data, arguments, _ = volume_layer(noun)[0]
        return viewer.add_image(data, **arguments)
    data, arguments, _ = labels_layer(noun)
    return viewer.add_labels(data, **arguments)


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train here, without the seconds in which a process loads torch, where a test does not ask for `apart`."""
    if "apart" not in request.fixturenames:
        monkeypatch.setattr(parent, "iter_train_apart", ms.iter_train)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that train."""
    return recorded(monkeypatch)


@pytest.fixture
def panel(viewer: ViewerModel, qtbot: Any) -> TrainPanel:
    made = TrainPanel(viewer)
    qtbot.addWidget(made)
    quick(made)
    return made


def quick(made: TrainPanel) -> None:
    made.unit.setCurrentIndex(made.unit.findData("epochs"))
    made.budget.setValue(1)
    made.options["report"].value = False  # it has tests of its own


@pytest.fixture
def three_cases(viewer: ViewerModel, panel: TrainPanel) -> list[tuple[Any, Any]]:
    """As few as leave one to validate on."""
    for seed in range(3):
        add(viewer, replace(volume(seed=seed), name=f"ct{seed}"))
        add(viewer, replace(segmentation(), name=f"manual{seed}"))
    for _ in range(2):
        panel.cases.add()
    return panel.cases.pairs


def wait(panel: TrainPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.runner.is_busy)


def test_rows_take_layers_that_no_other_row_has(three_cases: list[tuple[Any, Any]]) -> None:
    names = [(image.name, labels.name) for image, labels in three_cases]
    assert names == [("ct0", "manual0"), ("ct2", "manual2"), ("ct1", "manual1")]


def test_one_image_is_one_case(viewer: ViewerModel, panel: TrainPanel, three_cases: list[tuple[Any, Any]]) -> None:
    proxied: Any = PublicOnlyProxy(viewer)
    (image, labels), (_, others) = three_cases[:2]
    panel.cases.take([proxied.layers[image.name]], proxied.layers[labels.name])
    assert panel.cases.pairs == three_cases
    panel.cases.take([image], others)
    assert panel.cases.pairs == [(image, others), three_cases[2]]
    panel.cases.add()
    panel.cases.add()
    panel.cases.rows[-1].image.choose(image)
    assert not panel.train_button.isEnabled()
    assert "the same image" in panel.waits.text()


def test_a_row_is_taken_away_but_never_the_last(panel: TrainPanel, three_cases: list[tuple[Any, Any]]) -> None:
    for row in panel.cases.rows[:2]:
        row.remove_button.click()
    assert panel.cases.pairs == three_cases[2:]
    assert panel.cases.rows[0].remove_button.isHidden()


def test_a_training_leaves_a_model_in_the_folder(
    panel: TrainPanel, three_cases: list[tuple[Any, Any]], models_folder: Path, qtbot: Any
) -> None:
    seen: list[Any] = []
    panel.runner.happened.connect(seen.append)
    panel.name.setText("balls")
    panel.train_button.click()
    assert not panel.train_button.isEnabled()
    wait(panel, qtbot)
    assert list_models() == [models_folder / "balls.safetensors"]
    model = load_model("balls")
    assert dict(model.spec.labels) == {1: "left ball", 2: "right ball"}
    assert [c.name for c in model.spec.channels] == ["channel 0"]
    assert panel.model is not None
    assert panel.model.sha256 == model.sha256
    assert panel.progress.text.toolTip().startswith("cpu ")
    kinds = {type(event) for event in seen}
    assert {Started, TrainProgress, Validated, Finished, Progress} <= kinds


def test_stop_leaves_a_usable_model(
    panel: TrainPanel, three_cases: list[tuple[Any, Any]], models_folder: Path, qtbot: Any
) -> None:
    panel.budget.setValue(100_000)
    panel.runner.happened.connect(lambda e: panel.runner.cancel() if isinstance(e, TrainProgress) else None)
    panel.train_button.click()
    wait(panel, qtbot)
    assert panel.model is not None
    labels = ms.segment(volume(seed=5), panel.model)
    assert labels.grid.same_as(volume().grid)
    assert re.fullmatch(r"Stopped after [1-9]\d* steps; model 'my model' is written\.", panel.progress.text.text())


def test_progress_counts_steps_also_where_the_budget_is_in_minutes(panel: TrainPanel) -> None:
    event = TrainProgress(302, 1000, "epoch 4", epoch=3, step=57, loss=0.5, learning_rate=1e-3, seconds_left=61.0)
    panel.runner.happened.emit(event)
    assert panel.progress.text.text() == "step 57, epoch 4, 1 min 01 s left"


@pytest.mark.slow
@pytest.mark.usefixtures("three_cases")
def test_a_training_that_napari_ends_by_quitting_leaves_its_model_and_is_resumed(
    panel: TrainPanel, models_folder: Path, qtbot: Any, apart: list[subprocess.Popen[bytes]]
) -> None:
    assert panel.resume_button.isHidden()
    panel.budget.setValue(100_000)
    with qtbot.waitSignal(panel.runner.happened, check_params_cb=lambda e: isinstance(e, TrainProgress)):
        panel.train_button.click()
    assert list_models() == []
    QApplication.instance().aboutToQuit.emit()
    assert list_models() == [models_folder / "my model.safetensors"]
    assert apart[0].returncode == 0
    again = TrainPanel(panel._viewer)  # as after a restart
    qtbot.addWidget(again)
    quick(again)
    for _ in range(2):
        again.cases.add()
    for row, (image, labels) in zip(again.cases.rows, panel.cases.pairs, strict=True):
        row.image.choose(image)
        row.labels.choose(labels)
    assert not again.resume_button.isHidden()
    # Before it was stopped, a slow machine may have passed the epochs of `quick`.
    again.budget.setValue(math.ceil(load_model(list_models()[0]).spec.training.epochs) + 1)
    notices: list[str] = []
    again.runner.happened.connect(lambda e: notices.append(e.message) if isinstance(e, Notice) else None)
    again.resume_button.click()
    wait(again, qtbot)
    assert re.search(r"resumed after step [1-9]\d*\b", "\n".join(notices)), again.progress.text.text()
    assert list_models() == [models_folder / "my model.safetensors"]
    assert again.resume_button.isHidden()


def test_a_training_survives_its_panel_and_a_crash_takes_the_training_alone(
    make_napari_viewer: Any, qtbot: Any, apart: list[subprocess.Popen[bytes]]
) -> None:
    viewer = make_napari_viewer()
    add(viewer, volume())
    add(viewer, segmentation())
    window = viewer.window
    first = window.add_plugin_dock_widget("napari-medseg", "Train")[1]
    quick(first)
    first.budget.setValue(100_000)
    first.options["checkpoint_minutes"].value = 0
    first.name.setText("lasting")
    with qtbot.waitSignal(first.runner.happened, check_params_cb=lambda e: isinstance(e, TrainProgress)):
        first.train_button.click()
    window.remove_dock_widget(first)
    first.deleteLater()
    again = window.add_plugin_dock_widget("napari-medseg", "Train")[1]
    assert again.runner.is_busy
    assert again.name.text() == "lasting"
    assert again.progress.text.toolTip().startswith("cpu ")
    assert again.curves.points > 0
    assert not again.progress.end_button.isHidden()
    assert again.progress.text.text().startswith("step ")
    apart[0].kill()
    wait(again, qtbot)
    assert "was ended by the system, most likely for want of memory" in again.progress.text.text()
    assert "resume from it" in notification_manager.records[-1].message
    assert not again.resume_button.isHidden()
    assert len(apart) == 1


def test_slices_that_are_filled_are_annotated_again(viewer: ViewerModel, panel: TrainPanel, qtbot: Any) -> None:
    add(viewer, volume())
    painted = np.zeros_like(balls())
    painted[[5, 7]] = balls()[[5, 7]]
    layer = add(viewer, Segmentation(painted, volume().grid, name="painted"))
    qtbot.waitUntil(lambda: panel.config.loss.unlabelled_slices == "ignore")
    layer.data = balls()
    qtbot.waitUntil(lambda: panel.config.loss.unlabelled_slices == "background")


@pytest.mark.slow
def test_five_painted_slices_give_a_picture_that_is_not_noise(
    viewer: ViewerModel, panel: TrainPanel, qtbot: Any
) -> None:
    ct, truth = phantom("ct", seed=1, shape_zyx=(24, 32, 40), spacing_zyx_mm=(10.0, 8.0, 9.0))
    liver = (np.asarray(truth.data) == 1).astype(np.uint8)
    held = np.flatnonzero(liver.any(axis=(1, 2)))
    five = held[np.rint(np.linspace(0, len(held) - 1, 5)).astype(int)]
    painted = np.zeros_like(liver)
    painted[five] = liver[five]
    add(viewer, ct)
    layer = add(viewer, Segmentation(painted, ct.grid, name="painted"))
    qtbot.waitUntil(lambda: panel.config.loss.unlabelled_slices == "ignore")
    assert panel.cases.rows[0].annotated.text().startswith("5 of 24 slices painted")
    unseen = int(held[len(held) // 2 + 1])
    assert unseen not in five
    viewer.dims.set_point(0, layer.data_to_world((unseen, 0, 0))[0])
    assert slice_in_view(viewer, viewer.layers[0])[1] == unseen
    panel.budget.setValue(80)
    panel.train_button.click()
    wait(panel, qtbot)
    qtbot.waitUntil(lambda: panel.preview.layer is not None)
    found = np.asarray(panel.preview.layer.data)[unseen] == 1
    dice = 2 * (found & (liver[unseen] == 1)).sum() / (found.sum() + liver[unseen].sum())
    assert dice > 0.7, "a network of one step has 0.26, which is that of a label everywhere in the body"


def test_a_model_that_is_there_is_not_overwritten(models_folder: Path) -> None:
    for name in ("liver.safetensors", "liver 2.safetensors"):
        (models_folder / name).touch()
    assert free_path(models_folder, "liver") == models_folder / "liver 3.safetensors"
    assert free_path(models_folder, "liver 2") == models_folder / "liver 3.safetensors"
    assert free_path(models_folder, "spleen.SAFETENSORS") == models_folder / "spleen.safetensors"
    assert free_path(models_folder, "../liver.safetensors") == models_folder / "_liver.safetensors"


def test_use_in_segment_chooses_the_model_there(
    viewer: ViewerModel,
    panel: TrainPanel,
    three_cases: list[tuple[Any, Any]],
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[Path] = []
    segment = SimpleNamespace(models=SimpleNamespace(select=chosen.append))
    window = SimpleNamespace(add_plugin_dock_widget=lambda plugin, name: ((plugin, name), segment))
    monkeypatch.setattr(ViewerModel, "window", window, raising=False)
    assert not panel.use_button.isEnabled()
    panel.train_button.click()
    wait(panel, qtbot)
    panel.use_button.click()
    assert chosen == list_models()


def test_labels_on_another_grid_are_refused_in_the_words_of_the_core(
    viewer: ViewerModel, panel: TrainPanel, qtbot: Any
) -> None:
    add(viewer, replace(volume(), name="ct"))
    moved = Grid.from_spacing(volume().grid.shape, (2.0, 1.0, 1.0), origin=(5.0, 0.0, 0.0))
    add(viewer, Segmentation(segmentation().data, moved, name="moved"))
    panel.train_button.click()
    wait(panel, qtbot)
    assert "must lie on the same grid" in notification_manager.records[-1].message
    assert list_models() == []


@pytest.mark.parametrize(("value", "meaning"), [("background", "background"), ("ignore", "ignore")])
def test_what_empty_slices_mean_reaches_the_core(panel: TrainPanel, value: str, meaning: str) -> None:
    panel.options["unlabelled_slices"].value = value
    assert panel.config.loss.unlabelled_slices == meaning


@pytest.mark.parametrize(("unit", "expected"), [("minutes", (7.0, None)), ("epochs", (None, 7))])
def test_the_budget_is_in_minutes_or_epochs(
    panel: TrainPanel, unit: str, expected: tuple[float | None, int | None]
) -> None:
    panel.unit.setCurrentIndex(panel.unit.findData(unit))
    panel.budget.setValue(7)
    assert (panel.config.budget.minutes, panel.config.budget.epochs) == expected


def test_nothing_can_run_without_layers_or_name(viewer: ViewerModel, panel: TrainPanel) -> None:
    assert not panel.train_button.isEnabled()
    add(viewer, volume())
    add(viewer, segmentation())
    assert panel.train_button.isEnabled()
    panel.name.setText(" . ")
    assert not panel.train_button.isEnabled()


def test_curves_are_drawn_at_their_pace_however_fast_the_steps(qtbot: Any) -> None:
    curves = Curves()
    qtbot.addWidget(curves)
    before = curves.draws
    for step in range(3000):
        curves.add_loss(step, 1 / (step + 1))
    curves.add_loss(3000, float("nan"))
    curves.add_dice(3000, 0.5)
    qtbot.waitUntil(lambda: curves.draws > before)
    assert curves.draws == before + 1
    assert curves.points <= 500


def test_networks_are_offered_by_family_with_advice(panel: TrainPanel) -> None:
    box = panel.network.box
    headings = [box.itemText(i) for i in range(box.count()) if box.itemData(i) is None]
    offered = [box.itemData(i) for i in range(box.count()) if box.itemData(i) is not None]
    assert set(headings) <= set(registry.FAMILIES)
    assert sorted(offered) == sorted(n for n, s in registry.networks().items() if s.takes == "image")
    assert panel.network.name == "unet3d"
    assert panel.network.advice.text().startswith(registry.network("unet3d").when)
    box.setCurrentIndex(box.findData("vnet"))
    assert panel.network.advice.text() == f"{registry.network('vnet').when} 2D and 3D, 2016."


def test_only_modes_that_the_network_has_are_offered(panel: TrainPanel) -> None:
    def offered() -> set[str]:
        mode = panel.options["mode"]
        return {value for i, value in enumerate(mode.choices) if mode.native.model().item(i).isEnabled()}

    assert offered() == {"auto", "3d", "2d", "2.5d", "triplanar"}
    panel.options["mode"].value = "2.5d"
    assert panel.config == replace(panel.config, mode="2.5d")
    choose(panel.network.box, "hdenseunet")
    assert offered() == {"auto", "3d"}
    assert panel.config.mode == "auto"


def test_a_search_is_offered_where_it_has_a_use(panel: TrainPanel) -> None:
    def offered() -> set[str]:
        names = {"search", "search_network", "hard_patches"}
        return {name for name in names if not panel.options[name].native.isHidden()}

    assert offered() == {"search", "hard_patches"}
    panel.options["search"].value = 2.0
    assert offered() == {"search", "search_network", "hard_patches"}
    panel.options["search_network"].value = "dints"
    assert (panel.config.searching.search, panel.config.searching.search_network) == (2.0, "dints")
    choose(panel.scheme.box, "acnn")
    assert offered() == set()
    assert panel.config.searching.search == 0.0
    choose(panel.scheme.box, "supervised")
    panel.options["search"].value = 2.0
    panel.options["cascade"].value = "coarse-to-fine"
    assert offered() == {"hard_patches"}


def test_each_stage_of_a_cascade_has_its_curves(panel: TrainPanel) -> None:
    step = TrainProgress(1, 2, "epoch 1", epoch=0, step=1, loss=0.5, learning_rate=1e-3, seconds_left=1.0)
    for events, points in (((Started("first"), step, step), 2), ((Started("second"),), 0), ((step,), 1)):
        for event in events:
            panel.runner.happened.emit(event)
        assert panel.curves.points == points


def test_a_cascade_is_trained_from_the_panel(
    panel: TrainPanel, three_cases: list[tuple[Any, Any]], models_folder: Path, qtbot: Any
) -> None:
    panel.options["cascade"].value = "coarse-to-fine"
    panel.train_button.click()
    wait(panel, qtbot)
    assert panel.model is not None
    assert panel.model.spec.first is not None


def test_channels_painted_slices_names_and_the_prediction_meanwhile(
    viewer: ViewerModel, panel: TrainPanel, models_folder: Path, qtbot: Any
) -> None:
    """One walk: paint some slices, name a label, add a channel, train, and watch the slice in view."""
    for seed in range(2):
        add(viewer, replace(volume(seed=seed), name=f"ct{seed}"))
    painted = np.zeros_like(balls())
    painted[[5, 7]] = balls()[[5, 7]]
    layer = add(viewer, Segmentation(painted, volume().grid, name="some"))
    row = panel.cases.rows[0]
    row.channel_button.click()
    assert [image.name for image in row.images] == ["ct0", "ct1"]
    qtbot.waitUntil(lambda: panel.labels.names == {1: "label 1", 2: "label 2"})
    assert row.annotated.text() == "2 of 12 slices painted: the others count as not annotated"
    assert panel.config.loss.unlabelled_slices == "ignore"
    panel.labels.item(1, 1).setText("right ball")
    assert label_names(layer)[2] == "right ball"

    panel.options["val"].value = 0.5
    add(viewer, replace(segmentation(), name="manual"))
    panel.cases.add()
    panel.cases.rows[1].image.choose(viewer.layers["ct1"])
    panel.cases.rows[1].labels.choose(viewer.layers["manual"])
    panel.cases.rows[1].channel_button.click()
    viewer.dims.set_point(0, layer.extent.world[0][0] + 2 * 6)
    panel.train_button.click()
    wait(panel, qtbot)
    assert panel.model is not None
    assert panel.model.spec.arguments["in_channels"] == 2
    assert panel.model.spec.labels[2] == "right ball"
    qtbot.waitUntil(lambda: panel.preview.layer is not None)
    assert panel.preview.layer.name == "my model so far"
    held = np.flatnonzero(np.asarray(panel.preview.layer.data).any(axis=(1, 2)))
    assert set(held) <= {slice_in_view(viewer, viewer.layers["ct0"])[1]}


def test_a_folder_is_trained_on(panel: TrainPanel, models_folder: Path, tmp_path: Path, qtbot: Any) -> None:
    for patient in ("p1", "p2"):
        (tmp_path / "set" / patient).mkdir(parents=True)
        ms.write(tmp_path / "set" / patient / "T1.nii.gz", volume())
        ms.write(tmp_path / "set" / patient / "labels.nii.gz", segmentation())
    panel.cases.folder_chosen.emit(str(tmp_path))
    qtbot.waitUntil(lambda: bool(panel.cases.folders))
    assert panel.train_button.isEnabled()
    panel.options["val"].value = 0.0
    panel.train_button.click()
    wait(panel, qtbot)
    assert panel.model is not None
    assert panel.model.spec.training.cases == 2
    panel.cases.folders[0].remove_button.click()
    assert not panel.train_button.isEnabled()
    panel.cases.folder_chosen.emit(str(tmp_path / "set" / "p1"))
    qtbot.waitUntil(lambda: "no known layout" in notification_manager.records[-1].message)


def test_what_a_folder_says_of_its_ids_holds_for_its_rows_alone(
    panel: TrainPanel, three_cases: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder merges 1 and 2, or leaves 2 as not annotated; in the layers, and in another folder, 2 is a label."""
    begun: list[tuple[Any, Any]] = []
    monkeypatch.setattr(panel.training, "begin", lambda cases, *_, **options: begun.append((cases, options)))
    case = Case(name="filed", images=(volume(),), labels=segmentation())

    def ids(*sets: dict[str, Any]) -> list[list[int]]:
        """Of each case, as the training gets them, without those that it ignores."""
        for folder in list(panel.cases.folders):
            folder.remove_button.click()
        for own in sets:
            panel.cases.add_folder(DataSet(layout="made", folder=Path("set"), cases=(case,), **own))
        panel.train_button.click()
        cases, options = begun.pop()
        job, _ = asked(cases, None, Path("m.safetensors"), None, options.get("merge", ()), None, options["config"])
        found = [np.unique(np.asarray(case.segmentation().data)).tolist() for case in job.cases]
        return [[i for i in case if i != job.config.loss.ignore_label] for case in found]

    assert ids() == [[0, 1, 2]] * 3
    assert ids({"merge": (("both", (1, 2)),)}, {}) == [[0, 1, 2]] * 3 + [[0, 1], [0, 1, 2]]
    assert ids({"ignore_label": 2}, {"ignore_label": 1}) == [[0, 1, 2]] * 3 + [[0, 1], [0, 2]]
    assert ids({"ignore_label": 2}, {}) == [[0, 1, 2]] * 3 + [[0, 1], [0, 1, 2]]
    assert ids() == [[0, 1, 2]] * 3
    said = panel.cases.rows[0].labels.layer
    said.metadata[IGNORE_KEY] = 2  # as Interact hands over
    assert ids() == [[0, 1], [0, 1, 2], [0, 1, 2]]
    assert ids({"ignore_label": 1}) == [[0, 1], [0, 1, 2], [0, 1, 2], [0, 2]]
    del said.metadata[IGNORE_KEY]
    panel.options["ignore_label"].value = "1"  # the user's own word is for all rows
    assert ids({"ignore_label": 2}) == [[0, 2]] * 3 + [[0]]


def test_the_slice_in_view_is_that_of_the_stored_array(viewer: ViewerModel) -> None:
    noun = volume()
    turned = AxisOrder.between(noun.grid.orientation, "LIA")
    stored = Volume(turned.apply(np.asarray(noun.data)), noun.grid.reordered(turned))
    layer = add(viewer, stored)
    for step in (0, 3):
        viewer.dims.set_current_step(0, step)
        axis, index = slice_in_view(viewer, layer)
        shown = np.asarray(placement(layer, [layer]).to_layer(np.asarray(stored.data)[0]))[step]
        np.testing.assert_array_equal(np.sort(shown, axis=None), np.sort(stored.data[0].take(index, axis), axis=None))


def test_images_without_labels_come_from_a_folder_and_from_layers(
    panel: TrainPanel, viewer: ViewerModel, tmp_path: Path, models_folder: Path, qtbot: Any
) -> None:
    add(viewer, replace(volume(), name="ct"))
    add(viewer, segmentation())
    box = panel.scheme
    assert box.unlabelled.isHidden()
    assert box.sources == []
    assert not panel.options["ramp"].enabled
    choose(box.box, "self-training")
    assert not box.unlabelled.isHidden()
    assert box.advice.text() == SCHEMES["self-training"].when
    assert "without labels" in panel.waits.text()
    assert not panel.train_button.isEnabled()
    assert panel.options["ramp"].enabled
    assert not panel.options["critic_width"].enabled
    ms.write(tmp_path / "a.nii.gz", volume(seed=7))
    box.unlabelled.folder.line.setText(str(tmp_path))
    add(viewer, replace(volume(seed=8), name="other"))
    box.unlabelled.add_button.click()
    assert [getattr(source, "name", source) for source in box.sources] == ["other", tmp_path.name]
    assert box.sources[0] is viewer.layers["other"]
    panel.options["ramp"].value = "0.01"
    panel.budget.setValue(2)
    seen: list[Any] = []
    panel.runner.happened.connect(seen.append)
    panel.train_button.click()
    wait(panel, qtbot)
    assert {"loss", "pseudo_labels"} == set([e for e in seen if isinstance(e, TrainProgress)][-1].losses)
    assert load_model("my model").spec.training.cases == 1
    choose(box.box, "supervised")
    assert panel.config.schemes == SchemeConfig()
    assert box.sources == []
    assert panel.train_button.isEnabled()


def test_every_scheme_of_the_list_is_asked_for_with_what_it_needs(
    panel: TrainPanel,
    viewer: ViewerModel,
    ball_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    for noun in (replace(volume(), name="ct"), segmentation(), replace(volume(seed=8), name="other")):
        add(viewer, noun)
    case, box, begun = panel.cases.rows[0], panel.scheme, list[Any]()
    case.image.choose(viewer.layers["ct"])
    waits = {"mean-teacher": "without labels", "cyclegan": "other scanner", "boundary-patch": "learns from its errors"}
    for name, words in waits.items():
        choose(box.box, name)
        assert words in panel.waits.text()
        assert not panel.train_button.isEnabled()
    box.unlabelled.add_button.click()
    box.target.add_button.click()

    def ask() -> Any:
        """What the core makes of the request; it refuses here what does not go together."""
        assert panel.train_button.isEnabled(), panel.waits.text()
        panel.train_button.click()
        cases, options = begun.pop()
        further = {name: options[name] for name in ("unlabelled", "target")}
        names = ("network", "out", "init", "merge", "plan", "config")
        given = {"out": tmp_path / "m.safetensors", "plan": None, "merge": (), **options}
        return asked(cases, *(given[n] for n in names), **further)

    with monkeypatch.context() as patched:
        patched.setattr(panel.training, "begin", lambda cases, *_, **options: begun.append((cases, options)))
        assert sorted(filter(None, map(box.box.itemData, range(box.box.count())))) == sorted(SCHEMES)
        for name, spec in SCHEMES.items():
            panel.start.box.setCurrentIndex(0)
            choose(box.box, name)
            if spec.learns_errors:
                panel.start.select(ball_model)
                qtbot.waitUntil(lambda: panel.start.chosen is not None)
            assert ask()[0].network == ("" if spec.learns_errors else spec.network or "unet3d")
            assert panel.network.isHidden() == (spec.learns_errors or spec.takes != "image")
            assert {k for k in knobs_of(SchemeConfig) if not panel.options[k].native.isHidden()} == set(spec.knobs)
        panel.start.box.setCurrentIndex(0)
        choose(box.box, "synthesis")
        case.image.setCurrentIndex(case.image.count() - 1)
        assert case.images == []
        assert ask()[0].cases[0].name == case.labels.layer.name


def test_a_training_starts_from_a_model(
    panel: TrainPanel, viewer: ViewerModel, ball_model: Path, models_folder: Path, qtbot: Any
) -> None:
    image, labels = add(viewer, replace(volume(), name="ct")), add(viewer, segmentation())
    add(viewer, replace(segmentation(), name="others"))

    def hidden(name: str) -> bool:
        return bool(panel.options[name].native.isHidden())

    assert all(map(hidden, ("adapt", "rank", "fusion", "slices", "objects")))
    assert not hidden("mode")
    panel.start_from(ball_model, [image], labels)
    assert panel.cases.pairs == [(image, labels)]
    assert panel.waits.text() == "Waits for the model to start from."
    qtbot.waitUntil(lambda: panel.start.chosen is not None)
    assert all(map(hidden, ("mode", "cascade", "fusion")))
    assert panel.network.isHidden()
    panel.options["adapt"].value = "low-rank"
    assert not hidden("rank")
    panel.options["adapt"].value = "decoder"
    assert hidden("rank")
    choose(panel.scheme.box, "memory")
    assert panel.waits.text().startswith("The scheme trains mem3d, ")
    choose(panel.scheme.box, "supervised")
    panel.options["adapt"].value = "decoder"
    notices: list[str] = []
    panel.runner.happened.connect(lambda e: notices.append(e.message) if isinstance(e, Notice) else None)
    panel.train_button.click()
    wait(panel, qtbot)
    assert any(line.startswith(f"from {ball_model.name}: ") for line in notices), panel.progress.text.text()
    assert panel.model is not None
    assert panel.start.box.findData(panel.model.path) > 0
