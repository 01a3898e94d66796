"""The main job in a real window: open the sample, segment, edit, train, use the new model, measure, export, undo."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from metrics_walk import During, unmeasured, wait_until
from napari_medseg.models.file import list_models
from napari_medseg.sample import phantom

LEFT = Qt.MouseButton.LeftButton
NAPARIS_OWN = "napari's first layers"
"""The part in which napari loads and draws for the first time, without this plugin."""


def walk_job(window: Any, folder: Path, during: During = unmeasured) -> None:
    """Do the job, and check each result. folder: for the exported scores; models go to $MEDSEG_MODELS."""
    show_first_layers(window, during)
    with during("open the sample"):
        image, reference = window.open_sample("napari-medseg", "ct")
        QTest.qWait(400)  # the letters come after the layers
    segment, train, metrics = (open_panel(window, name, during) for name in ("Segment", "Train", "Metrics"))
    with during("estimate"):
        wait_until(lambda: segment.estimate.text.text().startswith("about"))
    segment.options["overlap"].value = "0"  # the fewest windows
    with during("segment"):
        click(segment.segment_button, segment)
    first = window.layers[f"{image.name} labels"]
    assert first.data.any()
    np.testing.assert_array_equal(first.scale, image.scale)

    before = first.data.copy()
    with during("edit"):
        window.layers.selection.active = first
        first.selected_label = 2
        first.paint((20, 40, 50), 2)
        QTest.qWait(100)
    assert not np.array_equal(first.data, before)

    train_on(train, first, during)
    with during("segment with the new model"):
        QTest.mouseClick(train.use_button, LEFT)
        wait_until(lambda: segment.models.model is not None and segment.models.model.path == list_models()[0])
        click(segment.segment_button, segment)
    assert f"{image.name} labels [1]" in window.layers

    metrics.reference.choose(reference)
    metrics.prediction.choose(first)
    measure(metrics, folder, during)
    with during("undo"):
        window.layers.selection.active = first
        canvas = window.window._qt_viewer.canvas.native
        QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        QTest.qWait(100)
    np.testing.assert_array_equal(first.data, before)


def show_first_layers(window: Any, during: During) -> None:
    with during(NAPARIS_OWN):
        for add in (window.add_image, window.add_labels):
            add(np.zeros((4, 8, 8), np.uint8))
        QTest.qWait(200)
    window.layers.clear()


def show_sample_alone(window: Any, during: During) -> None:
    """Show what the sample holds by napari's own means: the peer of its opening in `walk_job`."""
    image, truth = phantom("ct")
    show_first_layers(window, during)
    scale = image.grid.spacing
    with during("open the sample"):
        window.add_image(image.data[0], scale=scale)
        window.add_labels(truth.data, scale=scale, visible=False)
        QTest.qWait(100)


def open_panel(window: Any, name: str, during: During) -> Any:
    with during(f"open {name}"):
        panel = window.window.add_plugin_dock_widget("napari-medseg", name)[1]
        QTest.qWait(100)
    return panel


def train_on(train: Any, labels: Any, during: During) -> None:
    """A short training on the edited layer."""
    train.cases.rows[0].labels.choose(labels)
    train.unit.setCurrentIndex(train.unit.findData("epochs"))
    train.budget.setValue(1)
    train.name.setText("walk")
    with during("train"):
        click(train.train_button, train)
    assert [path.stem for path in list_models()] == ["walk"]
    assert train.curves.draws > 0


def measure(metrics: Any, folder: Path, during: During) -> None:
    """The scores of the edited layer, and their export."""
    with during("measure"):
        click(metrics.measure_button, metrics)
    assert metrics.scores.mean["dice"] > 0.8
    out = folder / "scores.csv"
    with during("export"), patch.object(QFileDialog, "getSaveFileName", return_value=(str(out), "")):
        metrics.scored.export.menu().actions()[0].trigger()
        wait_until(lambda: not metrics.scored.export.background.runner.is_busy)
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == len(metrics.scores.rows)


def click(button: Any, panel: Any) -> None:
    """Click, and wait until the panel has done its work."""
    QTest.mouseClick(button, LEFT)
    wait_until(lambda: not panel.runner.is_busy)
