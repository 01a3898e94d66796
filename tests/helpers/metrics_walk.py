"""A walk through every control of the Metrics panel, in a real window, part by part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from qtpy.QtCore import QDeadlineTimer, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QPushButton, QTabBar

import napari_medseg as ms
from napari_medseg.config import MetricsConfig
from napari_medseg.sample import phantom
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import labels_layer, volume_layer

LEFT = Qt.MouseButton.LeftButton
During = Callable[[str], AbstractContextManager[None]]
"""A context for each part of a walk, by the part's name: a benchmark measures inside."""


@dataclass(frozen=True)
class Pair:
    """What the walk compares, and an image of the same place."""

    image: ms.Volume
    reference: Segmentation
    prediction: Segmentation
    mean_dice: float

    @classmethod
    def read(cls, data: Path) -> Pair:
        """A real pair of 41 organs. data: the folder that holds abdomen_ct."""
        folder = data / "abdomen_ct"
        names = ("example_seg.nii.gz", "example_seg_fast.nii.gz")
        reference, prediction = (ms.read_segmentation(folder / name) for name in names)
        return cls(ms.read(folder / "example_ct_sm.nii.gz"), reference, prediction, mean_dice=0.902)

    @classmethod
    def phantom(cls) -> Pair:
        """Six organs, moved by a voxel, the last of which was not found."""
        image, reference = phantom("ct", seed=0)
        moved = np.roll(np.asarray(reference.data), 1, axis=2)
        moved[moved == max(reference.labels)] = 0
        prediction = replace(reference, data=moved)
        scores = ms.evaluate(prediction=prediction, reference=reference)
        return cls(image, reference, prediction, scores.mean["dice"])


def unmeasured(_part: str) -> AbstractContextManager[None]:
    return nullcontext()


def walk_metrics(window: Any, pair: Pair, folder: Path, during: During = unmeasured) -> None:
    """Use every control, and check what it shows. folder: an empty one, for cases and exports."""
    show(window, pair)
    user = User(window, during)
    open_panel(user)
    cancel(user)
    define(user)
    measure(user, pair.mean_dice)
    assert clipped(user.panel) == []
    export_table(user, folder)
    sort_and_look(user)
    plot(user)
    see_errors(user)
    match(user)
    for name, segmentation in (("true", pair.reference), ("found", pair.prediction)):
        (folder / name).mkdir()
        for case in "ab":
            ms.write(folder / name / f"{case}.nii.gz", segmentation)
    measure_folders(user, folder / "true", folder / "found", folder)
    paint(user)


def show(window: Any, pair: Pair) -> None:
    """The layers "manual" and "net" above the CT."""
    image, arguments, _ = volume_layer(pair.image)[0]
    window.add_image(image, **arguments)
    for name, segmentation in (("manual", pair.reference), ("net", pair.prediction)):
        data, arguments, _ = labels_layer(segmentation)
        window.add_labels(data, **{**arguments, "name": name})
    QTest.qWait(500)


def wait_until(happened: Callable[[], object], seconds: int = 300) -> None:
    """While the window works."""
    deadline = QDeadlineTimer(1000 * seconds)
    while not happened():
        assert not deadline.hasExpired(), "nothing happened"
        QTest.qWait(10)


@dataclass
class User:
    """Who clicks. during: a context around every part of the work."""

    window: Any
    during: During
    panel: Any = None

    def click(self, button: QAbstractButton) -> None:
        assert button.isVisible()
        QTest.mouseClick(button, LEFT)

    def open_tab(self, name: str) -> None:
        bar: QTabBar = self.panel.tabs.tabBar()
        (index,) = (i for i in range(bar.count()) if bar.tabText(i) == name)
        QTest.mouseClick(bar, LEFT, pos=bar.tabRect(index).center())
        QTest.qWait(100)

    def choose(self, box: QComboBox, value: object) -> None:
        box.setCurrentIndex(box.findData(value))
        QTest.qWait(100)

    def choose_layer(self, box: QComboBox, name: str) -> None:
        box.setCurrentIndex(box.findText(name))
        QTest.qWait(100)

    def click_row(self, table: Any, row: int) -> None:
        cell = table.records.index(row, table.first_shown)
        table.scrollTo(cell)
        QTest.mouseClick(table.viewport(), LEFT, pos=table.visualRect(cell).center())

    def click_heading(self, table: Any, column: str) -> None:
        section, header = table.records.columns.index(column), table.horizontalHeader()
        table.scrollTo(table.records.index(0, section))
        middle = header.sectionViewportPosition(section) + header.sectionSize(section) // 2
        QTest.mouseClick(header.viewport(), LEFT, pos=QPoint(middle, header.height() // 2))
        QTest.qWait(100)

    def wait_for(self, runner: Any) -> None:
        wait_until(lambda: not runner.is_busy)
        QTest.qWait(100)

    def labels_at(self, point: Any) -> list[int]:
        """Of reference and prediction, at a point of the world."""
        return [self.window.layers[n].get_value(point, world=True) or 0 for n in ("manual", "net")]

    def labels_here(self) -> list[int]:
        """Of reference and prediction, where the slices and the camera are."""
        return [self.window.layers[n].get_value(self.window.dims.point, world=True) for n in ("manual", "net")]


def open_panel(user: User) -> None:
    with user.during("open the panel"):
        user.panel = user.window.window.add_plugin_dock_widget("napari-medseg", "Metrics")[1]
        QTest.qWait(100)
    layers = user.window.layers
    assert (user.panel.reference.layer, user.panel.prediction.layer) == (layers["manual"], layers["net"])
    user.choose_layer(user.panel.prediction, "manual")
    assert "the same layer" in user.panel.hint.text()
    assert not user.panel.measure_button.isEnabled()
    user.choose_layer(user.panel.prediction, "net")
    assert user.panel.hint.isHidden()


def cancel(user: User) -> None:
    """Again where the measuring is done before the second click: other programs may keep this thread waiting."""
    with user.during("cancel"):
        for _ in range(20):
            before = user.panel.scores
            user.click(user.panel.measure_button)
            user.click(user.panel.progress.end_button)
            user.wait_for(user.panel.runner)
            if user.panel.progress.text.text().startswith("Ended early"):
                break
    assert user.panel.progress.text.text().startswith("Ended early")
    assert user.panel.scores is before  # what was measured in an attempt before


def define(user: User) -> None:
    """By other definitions than those that are on, and back."""
    definitions = user.panel.definitions
    for preset, tolerance_mm in (("lits", 2.5), ("survey", 1.0)):
        user.choose(definitions["preset"].native, preset)
        tolerance = definitions["nsd_tolerance_mm"].native
        tolerance.selectAll()
        QTest.keyClicks(tolerance, f"{tolerance_mm:g}")
        QTest.keyClick(tolerance, Qt.Key.Key_Return)
        if preset == "lits":
            measure_once(user, "measure, LiTS")
            assert user.panel.scores.config == MetricsConfig(preset="lits", nsd_tolerance_mm=2.5)


def measure_once(user: User, part: str) -> None:
    with user.during(part):
        user.click(user.panel.measure_button)
        user.wait_for(user.panel.runner)


def measure(user: User, mean_dice: float) -> None:
    measure_once(user, "measure")
    assert user.panel.scores.config == MetricsConfig()
    assert abs(user.panel.scores.mean["dice"] - mean_dice) < 5e-4
    assert f"mean Dice {mean_dice:.3f}" in user.panel.scored.summary.text()


def export_table(user: User, out: Path) -> None:
    export = user.panel.scored.export
    entries = {action.text(): action for action in export.menu().actions()}
    for name, suffix in (("CSV", ".csv"), ("JSON", ".json"), ("LaTeX", ".tex"), ("HTML report", ".html")):
        path = out / f"table{suffix}"
        with (
            user.during(f"export, {name}"),
            patch.object(QFileDialog, "getSaveFileName", return_value=(str(path), "")),
        ):
            entries[f"{name}…"].trigger()
            user.wait_for(export.background.runner)
        assert path.stat().st_size > 0
        path.unlink()
    clipboard = QApplication.clipboard()
    for entry, beginning in (("Copy table", "label\t"), ("Copy as Python", "import ")):
        entries[entry].trigger()
        assert clipboard.text().startswith(beginning)


def sort_and_look(user: User) -> None:
    table = user.panel.scored.table
    shown = [name for section, name in enumerate(table.records.columns) if not table.isColumnHidden(section)]
    assert shown == ["dice", "hd95_mm", "nsd", "volume_reference_ml", "volume_prediction_ml"]
    with user.during("sort"):
        for _ in range(2):
            user.click_heading(table, "hd95_mm")
    rows = table.records.rows
    finite = [row.hd95_mm for row in rows if np.isfinite(row.hd95_mm)]
    assert [row.hd95_mm for row in rows[: len(finite)]] == sorted(finite, reverse=True)
    assert np.isinf(rows[-1].hd95_mm)
    with user.during("choose a row"):
        user.click_row(table, 1)
        user.wait_for(user.panel.looking.runner)
    assert [user.window.layers[n].selected_label for n in ("manual", "net")] == [rows[1].label] * 2
    assert user.labels_here().count(rows[1].label) == 1
    with user.during("jump"):
        user.click(user.panel.scored.jump_button)
        user.wait_for(user.panel.looking.runner)
    worst = max((row for row in rows if np.isfinite(row.msd_mm)), key=lambda row: row.msd_mm)
    assert user.labels_here().count(worst.label) == 1


def plot(user: User) -> None:
    with user.during("plots"):
        user.open_tab("Plots")
        user.choose(user.panel.plots.metric, "nsd")
        wait_until(partial(is_drawn, user.panel.plots, "NSD"))
    chart = user.panel.plots.chart
    assert len(chart.axes.get_yticklabels()) == len(user.panel.scores.rows)


def is_drawn(view: Any, metric: str) -> bool:
    return view.chart is not None and view.chart.isVisible() and view.chart.axes.get_xlabel() == metric


def see_errors(user: User) -> None:
    errors = user.panel.errors
    user.open_tab("Errors")
    with user.during("errors"):
        user.click(errors.errors_button)
        user.wait_for(user.panel.runner)
    assert "net errors" in user.window.layers
    pair = [user.window.layers[name] for name in ("manual", "net")]
    assert [layer.contour for layer in pair] == [1, 1]
    (worst,) = (layer for layer in user.window.layers if layer.name.startswith("worst: "))
    assert user.labels_at(worst.data[0]).count(0) <= 1
    user.click(errors.errors_button)
    assert [layer.contour for layer in pair] == [0, 0]
    assert worst not in user.window.layers
    assert "net errors" not in user.window.layers
    user.click(errors.errors_button)
    user.wait_for(user.panel.runner)
    user.choose(errors.label, 5)
    surface = f"{errors.label.currentText()}: distance (mm)"
    for sign, name in (("signed", surface), ("absolute", f"{surface} [1]")):
        with user.during(f"surface, {sign}"):
            user.choose(errors.sign, sign)
            user.click(errors.surface_button)
            user.wait_for(user.panel.runner)
            wait_until(partial(is_shown_alone, user, name))
            QTest.qWait(300)  # until it is drawn
        assert (user.window.layers[name].contrast_limits[0] < 0) is (sign == "signed")
    with user.during("back to slices"):
        user.click(errors.slices_button)
        wait_until(lambda: user.window.layers["net errors"].visible)
        QTest.qWait(200)
    assert user.window.dims.ndisplay == 2
    assert [user.window.layers[name].visible for name in ("net", surface)] == [True, False]


def is_shown_alone(user: User, name: str) -> bool:
    if name not in user.window.layers or user.window.dims.ndisplay == 2:
        return False
    return bool(user.window.layers[name].visible and user.window.layers[name].colorbar.visible)


def match(user: User) -> None:
    instances = user.panel.instances
    user.open_tab("Instances")
    with user.during("instances"):
        user.choose(instances.options["connectivity"].native, 6)
        instances.options["iou"].value = "0.25, 0.5"
        user.click(instances.match_button)
        user.wait_for(user.panel.runner)
    assert {row.iou_above for row in instances.rows.records.rows} == {0.25, 0.5}
    user.choose(instances.view, "pairs")
    user.click_row(instances.pairs, 2)
    assert user.window.layers["net"].selected_label == instances.pairs.record.label
    user.choose(instances.options["instances"].native, "ids")
    assert not instances.options["connectivity"].enabled


def measure_folders(user: User, true: Path, found: Path, out: Path) -> None:
    cases = user.panel.cases
    user.open_tab("Cases")
    with user.during("cases"):
        QTest.keyClicks(cases.reference.line, str(true))
        with patch.object(QFileDialog, "getExistingDirectory", return_value=str(found)):
            user.click(cases.prediction.browse_button)
        user.click(cases.measure_button)
        user.wait_for(cases.runner)
    assert cases.scores.cases == ("a", "b")
    for kind in ("volumes", "table", "boxes"):
        with user.during(f"cases as {kind}"):
            user.choose(cases.view.kind, kind)
    assert len(cases.view.table.records.rows) == 2 * len(user.panel.scores.rows)
    with user.during("export"):
        with patch.object(QFileDialog, "getSaveFileName", return_value=(str(out / "cases.csv"), "")):
            cases.export.menu().actions()[0].trigger()
        user.wait_for(cases.export.background.runner)
    assert {path.name for path in out.glob("*.csv")} == {"cases.csv", "cases_statistics.csv", "cases_volumes.csv"}


def paint(user: User) -> None:
    """Strokes with the mouse, and Ctrl+Z."""
    painted, canvas = user.window.layers["net"], user.window.window._qt_viewer.canvas.native
    user.window.layers.selection.active = painted
    painted.visible, painted.mode, painted.selected_label = True, "paint", 200
    user.click(user.panel.live)
    for tab, from_middle in (("Table", 0), ("Plots", 60)):
        user.open_tab(tab)
        with user.during(f"paint, {tab}"):
            start = canvas.rect().center() + QPoint(from_middle, 0)
            QTest.mousePress(canvas, LEFT, pos=start)
            for step in range(5, 40, 5):
                QTest.mouseMove(canvas, start + QPoint(step, step))
                QTest.qWait(20)
            QTest.mouseRelease(canvas, LEFT, pos=start + QPoint(40, 40))
            wait_until(lambda: voxels(user, 200) == np.count_nonzero(painted.data == 200))
            QTest.qWait(100)
        assert voxels(user, 200) > 0
    with user.during("undo"):
        for _ in range(2):
            QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        wait_until(lambda: voxels(user, 200) == 0)


def voxels(user: User, label: int) -> int:
    """Of the label in the prediction, as the table has it."""
    return sum(row.voxels_prediction for row in user.panel.scored.table.records.rows if row.label == label)


def clipped(panel: Any) -> list[str]:
    """The texts of visible buttons that are wider than the button."""
    buttons = [b for b in panel.findChildren(QPushButton) if b.isVisible()]
    return [b.text() for b in buttons if b.fontMetrics().horizontalAdvance(b.text()) > b.width()]
