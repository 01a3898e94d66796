"""Our panels share their place in the window, which stays as high as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget


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
    height = main.height()
    for name in ("Segment", "Train", "Metrics", "Resample"):
        dock, panel = viewer.window.add_plugin_dock_widget("napari-medseg", name)
        qtbot.waitUntil(lambda shown=panel: not shown.visibleRegion().isEmpty())
        assert panel.minimumSizeHint().height() <= 300
        assert main.height() == height
    clicked: list[bool] = []
    panel.resample_button.setEnabled(True)
    panel.resample_button.clicked.disconnect()
    panel.resample_button.clicked.connect(clicked.append)
    panel.layer.setEnabled(True)
    panel.layer.setFocus()
    qtbot.keyClick(panel.layer, Qt.Key.Key_Return)
    assert clicked == [False]
    main.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    qtbot.wait(100)
    assert main.height() == height
