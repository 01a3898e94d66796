"""Our panels share their place in the window, which stays as high as it was."""

from __future__ import annotations

import itertools
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QComboBox, QDockWidget, QLabel, QPushButton, QScrollArea, QTabBar, QVBoxLayout

from napari_medseg.widgets.canvas.use_as_labels import LabelsButton
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import NarrowBox
from napari_medseg.widgets.fields.help_button import HelpButton, citation
from napari_medseg.widgets.segment import SegmentPanel
from napari_medseg.widgets.train import TrainPanel

WAITING = {
    "Segment": "Waits for an image: open a file",
    "Train": "Waits for an image layer and its Labels layer",
    "Metrics": "Open or paint two Labels layers",
    "Labels": "Open or paint a Labels layer",
    "Interact": "Waits for an image: open a file",
    "Resample": "Waits for two layers",
}
"""{panel: what it says where nothing is open}."""


def test_a_panel_opens_as_a_tab_in_front_of_the_others(make_napari_viewer: Any, qtbot: Any) -> None:
    window = make_napari_viewer(show=True).window
    window._qt_window.resize(1200, 700)
    qtbot.wait(200)
    height = window._qt_window.height()
    docks: list[QDockWidget] = []
    for name in ("Segment", "Resample", "Metrics"):
        dock, panel = window.add_plugin_dock_widget("napari-medseg", name)
        qtbot.waitUntil(lambda shown=panel: not shown.visibleRegion().isEmpty())
        docks.append(dock)
    assert {*window._qt_window.tabifiedDockWidgets(docks[0])} == {*docks[1:]}
    assert window._qt_window.height() == height
    tabs = [bar.tabText(k) for bar in window._qt_window.findChildren(QTabBar) for k in range(bar.count())]
    assert {"Segment", "Resample", "Metrics"} <= {*tabs}, "the name of the plugin leaves no room for theirs"
    assert docks[0].widget().visibleRegion().isEmpty()


def test_what_the_metrics_panel_says_does_not_move_the_window(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1000, 600)
    _, panel = viewer.window.add_plugin_dock_widget("napari-medseg", "Metrics")
    qtbot.waitUntil(lambda: panel.isVisible())
    qtbot.wait(100)
    before = viewer.window._qt_window.height()
    viewer.add_labels(np.zeros((4, 8, 8), np.uint8))
    assert panel.hint.isVisible()
    panel.hint.setText("A sentence that is longer than the panel is wide. " * 5)
    qtbot.wait(100)
    assert viewer.window._qt_window.height() == before


def test_a_panel_that_floats_is_joined_by_none(make_napari_viewer: Any, qtbot: Any) -> None:
    window = make_napari_viewer(show=True).window
    first, _ = window.add_plugin_dock_widget("napari-medseg", "Segment")
    first.setFloating(True)
    second, panel = window.add_plugin_dock_widget("napari-medseg", "Metrics")
    qtbot.waitUntil(panel.isVisible)
    assert first.isFloating()
    assert window._qt_window.tabifiedDockWidgets(second) == []


def test_every_panel_fits_a_small_screen_and_answers_keys(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medseg.widgets.fields.model_box.known_models", lambda **_: {})  # no run is estimated
    viewer = make_napari_viewer(show=True)
    main = viewer.window._qt_window
    main.resize(1024, 700)
    qtbot.wait(100)
    docks = {}
    for name, waiting in WAITING.items():
        dock, panel = viewer.window.add_plugin_dock_widget("napari-medseg", name)
        qtbot.waitUntil(lambda shown=panel: not shown.visibleRegion().isEmpty())
        docks[name] = dock
        qtbot.waitUntil(lambda shown=panel, text=waiting: any(text in said for said in _said(shown)))
        main.resizeDocks([dock], [1], Qt.Orientation.Horizontal)
        qtbot.wait(50)
        _check_boxes(panel)
        main.resizeDocks([dock], [340], Qt.Orientation.Horizontal)
        if isinstance(panel, SegmentPanel | TrainPanel) and panel.options.advanced is not None:
            panel.options.advanced.unfold(True)
        qtbot.wait(50)
        assert panel.minimumSizeHint().height() <= 300
        assert (name, dock.width(), _hidden_width(panel)) == (name, 340, 0)
        _check_keys(panel, qtbot)
        assert (main.width(), main.height()) == (1024, 700)
    _check_labels_buttons(viewer, docks)
    for moved in (docks["Resample"], docks["Metrics"]):  # one below the other, below the layer list
        main.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, moved)
        qtbot.wait(100)
        assert (main.width(), main.height()) == (1024, 700)
        assert _hidden_width(moved.widget()) == 0


def _check_boxes(panel: Any) -> None:
    """No text of a drop-down is cut while nothing is open."""
    for box in panel.findChildren(NarrowBox):
        if box.isVisible():
            assert box.shown_text(box.text_width) == (box.currentText() or box.placeholderText()), panel.width()


def _check_labels_buttons(viewer: Any, docks: dict[str, QDockWidget]) -> None:
    """The buttons beside the boxes of Labels layers turn an image that holds labels into one."""
    train, metrics = (docks[name].widget().findChild(LabelsButton) for name in ("Train", "Metrics"))
    assert (train.isHidden(), metrics.isHidden()) == (True, True)
    viewer.add_image(np.arange(96, dtype=np.uint8).reshape(4, 4, 6), name="ct", units=["mm"] * 3)
    viewer.add_labels(np.ones((4, 4, 6), np.uint8), name="truth", units=["mm"] * 3)
    assert (train.isHidden(), metrics.isHidden()) == (True, False)
    viewer.add_image(np.ones((4, 4, 6), np.uint8), name="ct_seg", units=["mm"] * 3)
    assert not train.isHidden()
    train.menu().aboutToShow.emit()
    assert [action.text() for action in train.menu().actions()] == ["ct_seg", "ct"]
    train.menu().actions()[0].trigger()
    assert [(layer.name, type(layer).__name__) for layer in viewer.layers][1:] == [
        ("truth", "Labels"),
        ("ct_seg", "Labels"),
    ]
    assert (train.isHidden(), metrics.isHidden()) == (True, True)
    assert docks["Metrics"].widget().measure_button.isEnabled()


def _check_keys(panel: Any, qtbot: Any) -> None:
    """Tab goes from the top down, Return runs, Esc cancels, and the field with the focus looks different."""
    fields = []
    field = panel.nextInFocusChain()
    while field is not panel:
        is_field = field.focusPolicy() & Qt.FocusPolicy.TabFocus and not isinstance(field, QScrollArea | HelpButton)
        if panel.isAncestorOf(field) and field.isVisible() and is_field:
            fields.append(field)
        field = field.nextInFocusChain()
    tops = [field.mapTo(panel, field.rect().topLeft()).y() for field in fields]
    assert all(before < after + 12 for before, after in itertools.pairwise(tops)), list(zip(fields, tops, strict=True))
    calls: list[str] = []
    run = QPushButton()
    run.clicked.connect(lambda: calls.append("run"))
    panel.use_keys(run, lambda: calls.append("cancel"))
    first = next(field for field in fields if isinstance(field, QComboBox))
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Escape):
        qtbot.keyClick(first, key)
    assert calls == ["run", "cancel"]
    first.setEnabled(True)
    QApplication.setActiveWindow(panel.window())
    without = first.grab().toImage()
    first.setFocus()
    qtbot.waitUntil(first.hasFocus)
    assert first.grab().toImage() != without
    first.setEnabled(first.count() > 0)


def _said(panel: Any) -> list[str]:
    """The texts that a panel shows."""
    return [label.text() for label in panel.findChildren(QLabel) if label.isVisible()]


def _hidden_width(panel: Any) -> int:
    """Pixels that the panel's horizontal scroll bar hides."""
    return int(panel.findChild(QScrollArea).horizontalScrollBar().maximum())


def test_the_help_menu_has_the_guide_the_citation_and_a_report(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guide, issues = "https://example.org/guide", "https://example.org/issues"
    stated = Message()
    stated["Project-URL"] = f"Documentation, {guide}"
    stated["Project-URL"] = f"Issues, {issues}"
    monkeypatch.setattr(metadata, "metadata", lambda _name: stated)
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    panel = _Framed()
    qtbot.addWidget(panel)
    QCoreApplication.processEvents()
    help_menu = panel.findChild(HelpButton)
    assert help_menu is not None
    entries = {action.text(): action for action in help_menu.menu().actions()}
    assert [*entries] == ["Documentation", "Issues", "How to cite", "Copy versions for a report"]
    entries["Documentation"].trigger()
    entries["Issues"].trigger()
    assert opened == [guide, issues]
    entries["How to cite"].trigger()
    assert QApplication.clipboard().text() == citation()


def test_the_package_states_where_its_guide_and_its_issues_are() -> None:
    root = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    urls = text.split("[project.urls]")[1].split("\n[")[0]
    assert "\nDocumentation = " in urls
    assert "\nIssues = " in urls


class _Framed(Panel):
    """A panel with one line."""

    def __init__(self) -> None:
        super().__init__()
        QVBoxLayout(self).addWidget(QLabel("a line"))
