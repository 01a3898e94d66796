"""Our panels share their place in the window, which stays as high as it was."""

from __future__ import annotations

from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel, QScrollArea, QVBoxLayout

from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.help_button import HelpButton, citation
from napari_medseg.widgets.segment import SegmentPanel
from napari_medseg.widgets.train import TrainPanel


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


def test_every_panel_fits_a_small_screen_and_answers_keys(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    main = viewer.window._qt_window
    main.resize(1024, 700)
    qtbot.wait(100)
    docks = {}
    for name in ("Segment", "Train", "Metrics", "Labels", "Interact", "Resample"):
        dock, panel = viewer.window.add_plugin_dock_widget("napari-medseg", name)
        qtbot.waitUntil(lambda shown=panel: not shown.visibleRegion().isEmpty())
        docks[name] = dock
        main.resizeDocks([dock], [340], Qt.Orientation.Horizontal)
        if isinstance(panel, SegmentPanel | TrainPanel) and panel.options.advanced is not None:
            panel.options.advanced.unfold(True)
        qtbot.wait(50)
        assert panel.minimumSizeHint().height() <= 300
        assert (name, dock.width(), _hidden_width(panel)) == (name, 340, 0)
        assert (main.width(), main.height()) == (1024, 700)
    clicked: list[bool] = []
    panel.resample_button.setEnabled(True)
    panel.resample_button.clicked.disconnect()
    panel.resample_button.clicked.connect(clicked.append)
    panel.layer.setEnabled(True)
    panel.layer.setFocus()
    qtbot.keyClick(panel.layer, Qt.Key.Key_Return)
    assert clicked == [False]
    for moved in (dock, docks["Metrics"]):
        main.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, moved)
        qtbot.wait(100)
        assert (main.width(), main.height()) == (1024, 700)
        assert _hidden_width(moved.widget()) == 0
        main.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, moved)


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
