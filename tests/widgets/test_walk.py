"""The main job in a real window, from the sample to a measured result; the window computes none of it itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

import napari_medseg as ms
import napari_medseg.training.apart.parent
import napari_medseg.widgets.fields.model_box
from job_walk import walk_job
from large_walk import walk_large
from napari_medseg.metrics.pairwise.edits import EditedScores


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    """A viewer in a window on the screen."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    return viewer


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """{what is computed: the threads in which its steps were}, filled as the window works."""
    found: dict[str, set[int]] = {}

    def watched(name: str, events: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for event in events(*args, **kwargs):
                found.setdefault(name, set()).add(threading.get_ident())
                yield event

        return call

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found.setdefault(name, set()).add(threading.get_ident())
            return function(*args, **kwargs)

        return call

    for where, name in ((ms, "iter_segment"), (napari_medseg.training.apart.parent, "iter_train_apart")):
        monkeypatch.setattr(where, name, watched(name, getattr(where, name)))
    for owner, name in ((napari_medseg.widgets.fields.model_box, "as_models"), (EditedScores, "_measure")):
        monkeypatch.setattr(owner, name, noted(name, getattr(owner, name)))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("models_folder")
def test_a_large_image_in_a_window(window: Any, medseg_data: Path, tmp_path: Path) -> None:
    ticks: list[int] = []
    timer = QTimer(interval=20)
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start()
    walk_large(window, medseg_data / "chest_ct" / "chest_ct.nii.gz", tmp_path)
    timer.stop()
    assert ticks, "the window lives meanwhile"


@pytest.mark.usefixtures("models_folder")
def test_the_main_job_in_a_window(window: Any, threads: dict[str, set[int]], tmp_path: Path) -> None:
    walk_job(window, tmp_path)
    assert threads.keys() == {"iter_segment", "iter_train_apart", "as_models", "_measure"}, "each was asked for"
    assert threading.get_ident() not in set().union(*threads.values()), "the window's own thread"


def test_panels_leave_nothing_behind(window: Any, qtbot: Any) -> None:
    listeners = [len(emitter.callbacks) for emitter in window.layers.events.emitters.values()]
    shown = set(QApplication.topLevelWidgets())
    names = ("Segment", "Train", "Metrics", "Resample", "Interact")
    panels = [window.window.add_plugin_dock_widget("napari-medseg", name)[1] for name in names]
    gone: list[str] = []
    for panel in panels:
        panel.destroyed.connect(partial(gone.append, type(panel).__name__))
        window.window.remove_dock_widget(panel)
        panel.deleteLater()
    qtbot.waitUntil(lambda: len(gone) == len(names))
    assert [len(emitter.callbacks) for emitter in window.layers.events.emitters.values()] == listeners
    assert not [widget for widget in set(QApplication.topLevelWidgets()) - shown if widget.isVisible()]
