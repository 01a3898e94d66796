"""Work on an image that is left at once: all that was clicked is in its log."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QMessageBox

import napari_medseg as ms
from click_phantoms import balls
from napari_medseg.interactive.autosave import earlier_logs, is_claimed, log_path
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.widgets.canvas.layers import label_names, set_label_names, to_volume, volume_layer
from napari_medseg.widgets.interacting.panel import InteractPanel
from napari_medseg.widgets.interacting.training_rows import DoneWork
from napari_medseg.widgets.interacting.work_on_image import Shown, WorkOnImage

FIRST, SECOND = (12, 14, 12), (12, 14, 34)
VOLUME, _ = balls((24, 28, 46), FIRST, SECOND, radius=7)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))


def image_in(viewer: ViewerModel, name: str = "ct") -> Any:
    data, arguments, _ = volume_layer(VOLUME)[0]
    return viewer.add_image(data, **{**arguments, "name": name})


def begun(viewer: ViewerModel, qtbot: Any) -> tuple[InteractPanel, WorkOnImage]:
    """A panel whose Point is taken, and its work."""
    image_in(viewer)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    assert panel.work is not None
    return panel, panel.work


class Held:
    """A change that lasts until it is let go: what comes after it waits."""

    def __init__(self, work: WorkOnImage) -> None:
        self._gate = threading.Event()
        work.do(self._wait)

    def _wait(self, _session: InteractiveSession) -> None:
        assert self._gate.wait(60)

    def let_go(self) -> None:
        self._gate.set()


def clicks(volume: ms.Volume, log: Path | None = None) -> list[Any]:
    """The places of the clicks in a log, by default the volume's own; none where there is no log."""
    log = log or log_path(volume)
    prompts = ms.resume_interaction(log, volume).prompts if log.is_file() else ()
    return [prompt.at for prompt in prompts if isinstance(prompt, ms.Point)]


def saved(work: WorkOnImage) -> list[Any]:
    """The places of the clicks in the log, which nobody holds any more."""
    assert not is_claimed(log_path(work.volume))
    return clicks(work.volume)


def test_clicks_before_another_image_is_chosen_are_kept(viewer: ViewerModel, qtbot: Any) -> None:
    image = image_in(viewer)
    other = viewer.add_image(np.zeros((3, 4, 5), np.float32), name="other", units=["mm"] * 3)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.image.choose(image)
    panel.take("P")
    work = panel.work
    assert work is not None
    held = Held(work)
    work.canvas.add_point(FIRST)
    panel.next_object()
    work.canvas.add_point(SECOND)
    panel.image.choose(other)
    panel.image.choose(image)
    assert panel.work is not work
    with qtbot.waitSignal(work.ended):
        held.let_go()
    assert saved(work) == [FIRST, SECOND]
    qtbot.waitUntil(lambda: panel.earlier.count == 1)
    assert not panel.earlier.isHidden(), "it is offered where the image was chosen again meanwhile"
    np.testing.assert_array_equal(np.unique(work.canvas.labels.data), [0, 1, 2])


def test_what_waited_for_run_is_kept(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    work.on_demand = True
    work.canvas.add_point(FIRST)
    work._clicked(np.array([SECOND], float))  # in 3D: the voxel is looked for in the worker
    with qtbot.waitSignal(work.ended):
        work.close()
    assert saved(work) == [FIRST, SECOND]


@pytest.mark.parametrize("change", [InteractiveSession.undo, lambda session: session.delete(1)])
def test_what_was_taken_back_is_not_told_again(viewer: ViewerModel, qtbot: Any, change: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    work.on_demand = True
    work.canvas.add_point(FIRST)
    work.run()
    work.canvas.add_point(SECOND)
    work.do(change)
    qtbot.waitUntil(lambda: not work.queue.left)
    np.testing.assert_array_equal(work.canvas.points.data, [SECOND])
    with qtbot.waitSignal(work.ended):
        work.close()
    assert saved(work) == [SECOND]


def test_a_click_in_3d_is_of_the_object_that_was_drawn(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    held = Held(work)
    work._clicked(np.array([FIRST], float))
    work.choose(2, positive=False)
    held.let_go()
    qtbot.waitUntil(lambda: not work.queue.left)
    (prompt,) = work.view.prompts
    assert isinstance(prompt, ms.Point)
    assert (prompt.at, prompt.label, prompt.positive) == (FIRST, 1, True)
    assert len(work.canvas.points.data) == 1


def test_what_lies_outside_is_told_once_and_the_rest_is_kept(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    work.on_demand = True
    work.canvas.add_point((-9, 0, 0))
    work.canvas.add_point(FIRST)
    with qtbot.waitSignal(work.ended):
        work.close()
    assert saved(work) == [FIRST]


def test_clicks_before_the_panel_is_destroyed_are_kept(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    volume, held = work.volume, Held(work)
    work.canvas.add_point(FIRST)
    work.canvas.add_point(SECOND)
    owner.deleteLater()
    with qtbot.waitSignal(owner.destroyed):
        pass
    held.let_go()
    qtbot.waitUntil(lambda: clicks(volume) == [FIRST, SECOND])


def test_resume_removes_no_layer_that_the_user_changed_or_made(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    work.canvas.add_point(FIRST)
    work.canvas.points.mode = "add"
    with qtbot.waitSignal(work.ended):
        work.close()
    labels, points, strokes = work.canvas.layers
    assert points.mode == "pan_zoom"
    copied = viewer.add_labels(labels.data.copy(), metadata=copy.deepcopy(dict(labels.metadata)))
    points.add([SECOND])
    again = WorkOnImage(viewer, work.image, owner)
    again.resume(log_path(again.volume))
    qtbot.waitUntil(lambda: not again.queue.left)
    assert labels not in viewer.layers
    assert strokes not in viewer.layers
    assert copied in viewer.layers
    assert points in viewer.layers
    assert len(points.data) == 2
    again.close()


def test_the_keys_of_a_session_end_with_it(viewer: ViewerModel, qtbot: Any) -> None:
    panel, work = begun(viewer, qtbot)
    assert all(layer.keymap for layer in work.canvas.layers)
    with qtbot.waitSignal(work.ended):
        panel._close()
    assert not any(layer.keymap for layer in work.canvas.layers)


def test_resume_is_named_where_there_is_work_to_resume(viewer: ViewerModel, qtbot: Any) -> None:
    image_in(viewer)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    for clicked in (False, True):
        panel.take("P")
        work = panel.work
        assert work is not None
        if clicked:
            work.canvas.add_point(FIRST)
            qtbot.waitUntil(lambda work=work: not work.queue.left)
        viewer.layers.remove(work.canvas.labels)
        panel.take("P")
        message = notification_manager.records[-1].message
        assert "it begins anew" in message
        assert ("Resume" in message) == clicked
    panel._close()


def test_nothing_is_deleted_where_there_is_no_object(viewer: ViewerModel, qtbot: Any) -> None:
    image_in(viewer)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    panel.delete()
    work = panel.work
    assert work is not None
    qtbot.waitUntil(lambda: not work.queue.left)
    assert not work.view.can_undo
    assert not work.view.notice
    assert not log_path(work.volume).exists()
    panel._close()


@pytest.mark.parametrize(("kind", "suffix"), [("", ".nii.gz"), ("NRRD (*.nrrd)", ".nrrd")])
@pytest.mark.parametrize("replaces", [True, False])
def test_a_file_is_replaced_where_the_user_wants_it(
    viewer: ViewerModel,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    suffix: str,
    replaces: bool,
) -> None:
    buttons, there = QMessageBox.StandardButton, tmp_path / f"clicked{suffix}"
    there.write_bytes(b"earlier")
    offered: list[str] = []

    def chosen(*question: Any) -> tuple[str, str]:
        offered.append(question[2])
        return str(tmp_path / "clicked"), kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: buttons.Yes if replaces else buttons.No)
    monkeypatch.setattr("napari_medseg.widgets.interacting.panel.path_of", lambda _: str(tmp_path / "ct.nii.gz"))
    image_in(viewer, "AX T1 / post")
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    work = panel.work
    assert work is not None
    panel.save()
    qtbot.waitUntil(lambda: not work.queue.left)
    assert offered == [str(tmp_path / "AX T1 _ post_labels.nii.gz")]
    assert (there.read_bytes() != b"earlier") == replaces
    assert [path.name for path in tmp_path.glob("clicked*")] == [there.name]
    panel._close()


def test_a_log_that_is_refused_leaves_the_offer(viewer: ViewerModel, qtbot: Any) -> None:
    image = image_in(viewer)
    log = log_path(to_volume(image, viewer.layers))
    log.parent.mkdir()
    log.write_text("{}")
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    qtbot.waitUntil(lambda: panel.earlier.count == 1)
    panel.earlier.resume()
    work = panel.work
    assert work is not None
    assert panel.earlier.isHidden()
    qtbot.waitUntil(lambda: not work.queue.left)
    assert work.view.error
    assert not panel.earlier.isHidden()
    panel._close()


def test_closing_without_work_ends_at_once(viewer: ViewerModel, qtbot: Any) -> None:
    owner = QObject()
    work = WorkOnImage(viewer, image_in(viewer), owner)
    with qtbot.waitSignal(work.ended):
        work.close()
    assert not earlier_logs(log_path(to_volume(work.image, viewer.layers)))


CHANGES: dict[str, Any] = {
    "data": lambda image: setattr(image, "data", np.roll(image.data, 10, axis=1)),
    "another shape": lambda image: setattr(image, "data", image.data[:20, :, :40]),
    "scale": lambda image: setattr(image, "scale", (3, 1, 1)),
    "translate": lambda image: setattr(image, "translate", (0, 0, 11)),
    "affine": lambda image: setattr(image, "affine", np.diag([1.0, 2.0, 2.0, 1.0])),
    "units": lambda image: setattr(image, "units", ("um", "um", "um")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_image_that_changes_ends_its_work_which_is_kept(viewer: ViewerModel, qtbot: Any, change: Any) -> None:
    image = image_in(viewer)
    panel: Any = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    work = panel.work
    held = Held(work)
    work.canvas.add_point(FIRST)
    panel.accept()
    panel._done.add(image, work.canvas.labels)
    volume = work.volume
    change(image)
    assert panel.work is not work
    message = notification_manager.records[-1].message
    assert "layer 'ct' h" in message
    assert "kept" in message
    assert not any(tool.isChecked() for tool in panel.tools.values())
    with qtbot.waitSignal(work.ended):
        held.let_go()
    assert clicks(volume) == [FIRST]
    assert panel._done.pairs() == [], "Train would take its labels for those of another image"
    panel.take("P")
    again = panel.work
    now = to_volume(image, viewer.layers)
    assert again.volume.grid.same_as(now.grid)
    again.canvas.add_point(SECOND)
    qtbot.waitUntil(lambda: not again.queue.left)
    assert [prompt.at for prompt in again.view.prompts if isinstance(prompt, ms.Point)] == [SECOND]
    assert again.canvas.image_on_grid().shape == now.grid.shape
    with qtbot.waitSignal(again.ended):
        panel._close()
    assert [FIRST] in [clicks(volume, log) for log in earlier_logs(log_path(volume))], "also beside the new work"


def test_an_image_that_is_set_to_what_it_is_goes_on(viewer: ViewerModel, qtbot: Any) -> None:
    image = image_in(viewer)
    panel = InteractPanel(viewer)
    qtbot.addWidget(panel)
    panel.take("P")
    work = panel.work
    image.scale = tuple(image.scale)
    image.data = image.data
    assert panel.work is work
    panel._close()


def test_a_multiscale_image_that_is_set_to_what_it_is_has_not_changed(viewer: ViewerModel) -> None:
    levels = [np.zeros((8, 8, 8), np.float32), np.zeros((4, 4, 4), np.float32)]
    image: Any = viewer.add_image(levels, multiscale=True)
    before = Shown.of(image)
    image.data = image.data
    assert before.change_to(Shown.of(image)) == ""
    image.data = [levels[0].copy(), levels[1]]
    assert before.change_to(Shown.of(image)) == "holds another image now"


def test_labels_of_an_image_that_changed_since_do_not_teach(viewer: ViewerModel) -> None:
    images = [image_in(viewer, name) for name in ("one", "two")]
    labels = [viewer.add_labels(np.zeros(image.data.shape, np.uint8)) for image in images]
    done = DoneWork(viewer)
    for image, its_labels in zip(images, labels, strict=True):
        done.add(image, its_labels)
    images[0].data = np.array(images[0].data)
    assert done.pairs() == [(images[1], labels[1])]


def test_names_are_given_beside_an_index_of_words(viewer: ViewerModel) -> None:
    layer = viewer.add_labels(np.ones((4, 4), np.uint8), features={"index": ["1", "2"], "grade": [3, 4]})
    set_label_names(layer, {1: "spleen"})
    assert dict(label_names(layer))[1] == "spleen"
    assert sorted(layer.features["grade"].dropna()) == [3, 4]


def test_names_leave_the_columns_of_the_user(viewer: ViewerModel, qtbot: Any) -> None:
    panel, work = begun(viewer, qtbot)
    layer = work.canvas.labels
    layer.features = layer.features.assign(grade=3)
    work.do(lambda session: session.rename(1, "spleen"))
    qtbot.waitUntil(lambda: not work.queue.left)
    panel.next_object()
    assert label_names(layer) == {1: "spleen", 2: "label 2"}
    assert layer.features.set_index("index").loc[1, "grade"] == 3
    before = layer.features
    panel._rows(work)
    assert layer.features is before
    panel._close()
