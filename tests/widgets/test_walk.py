"""The main job in a real window, from the sample to a measured result, while the window stays alive."""

from __future__ import annotations

import csv
import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_medseg.io.nifti
import napari_medseg.training
import napari_medseg.widgets.train  # noqa: F401  # nibabel, torch and matplotlib are loaded before the walk
from heartbeat import Heartbeat
from napari_medseg.models.file import list_models

LONGEST_GAP_S = 1.0
"""What fails the test on a machine of its own; the aim is 0.2 s, and the figures are printed."""


def longest_gap_allowed_s() -> float:
    """Longer where other programs take the cores: the load of the last minute counts."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return LONGEST_GAP_S * max(1.0, load / (os.cpu_count() or 1))


@pytest.fixture
def window(make_napari_viewer: Any, qtbot: Any) -> Any:
    """A viewer in a window on the screen."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    for add in (viewer.add_image, viewer.add_labels):  # napari's own first time: units, tables, shaders
        add(np.zeros((4, 8, 8), np.uint8))
    qtbot.wait(200)
    viewer.layers.clear()
    return viewer


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-medseg", name)[1]


def finish(panel: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=180_000)


def test_the_main_job_in_a_window(
    window: Any,
    qtbot: Any,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart = Heartbeat()
    with heart.during("open the sample"):
        image, reference = window.open_sample("napari-medseg", "ct")
        qtbot.wait(100)

    with heart.during("open the panels"):
        segment, train, metrics = (dock(window, name) for name in ("Segment", "Train", "Metrics"))
        qtbot.wait(100)

    segment.overlap.setValue(0)  # the fewest windows
    with heart.during("segment"):
        qtbot.mouseClick(segment.segment_button, Qt.MouseButton.LeftButton)
        finish(segment, qtbot)
    first = window.layers[f"{image.name} labels"]
    assert first.data.any()
    np.testing.assert_array_equal(first.scale, image.scale)

    with heart.during("edit"):
        window.layers.selection.active = first
        before = first.data.copy()
        first.selected_label = 2
        first.paint((20, 40, 50), 2)
        qtbot.wait(100)
    painted = first.data.copy()
    assert not np.array_equal(painted, before)

    train.cases.rows[0].labels.choose(first)
    train.unit.setCurrentIndex(train.unit.findData("epochs"))
    train.budget.setValue(2)
    train.name.setText("walk")
    with heart.during("train"):
        qtbot.mouseClick(train.train_button, Qt.MouseButton.LeftButton)
        finish(train, qtbot)
    assert [path.stem for path in list_models()] == ["walk"]

    with heart.during("segment with the new model"):
        qtbot.mouseClick(train.use_button, Qt.MouseButton.LeftButton)
        assert segment.models.model.path == list_models()[0]
        qtbot.mouseClick(segment.segment_button, Qt.MouseButton.LeftButton)
        finish(segment, qtbot)
    assert f"{image.name} labels [1]" in window.layers

    metrics.reference.choose(reference)
    metrics.prediction.choose(first)
    with heart.during("measure"):
        qtbot.mouseClick(metrics.measure_button, Qt.MouseButton.LeftButton)
        finish(metrics, qtbot)
    assert metrics.scores.mean["dice"] > 0.8

    with heart.during("export"):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores.csv"), ""))
        metrics.scored.export.menu().actions()[0].trigger()
        qtbot.waitUntil(lambda: not metrics.scored.export.background.runner.is_busy, timeout=10_000)
    with (tmp_path / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(metrics.scores.rows)

    with heart.during("undo"):
        window.layers.selection.active = first
        canvas = window.window._qt_viewer.canvas.native
        qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        qtbot.wait(100)
    np.testing.assert_array_equal(first.data, before)

    drawing = [1000 * seconds for seconds in train.curves.draw_seconds]
    canvas = f"canvas: median {statistics.median(drawing):.0f} ms a draw, longest {max(drawing):.0f} ms"
    with capsys.disabled():
        for line in ("", *heart.report(), canvas):
            request.config.get_terminal_writer().line(line)
    long_parts = [gaps for part, gaps in heart.gaps.items() if part in ("segment", "train")]
    assert all(len(gaps) / sum(gaps) > 5 for gaps in long_parts), "ticks a second"
    assert heart.longest < longest_gap_allowed_s()


def test_panels_leave_nothing_behind(window: Any, qtbot: Any) -> None:
    listeners = [len(emitter.callbacks) for emitter in window.layers.events.emitters.values()]
    shown = set(QApplication.topLevelWidgets())
    panels = [dock(window, name) for name in ("Segment", "Train", "Metrics")]
    gone: list[str] = []
    for panel in panels:
        panel.destroyed.connect(partial(gone.append, type(panel).__name__))
        window.window.remove_dock_widget(panel)
        panel.deleteLater()
    qtbot.waitUntil(lambda: len(gone) == 3, timeout=5000)
    assert [len(emitter.callbacks) for emitter in window.layers.events.emitters.values()] == listeners
    assert not [widget for widget in set(QApplication.topLevelWidgets()) - shown if widget.isVisible()]
