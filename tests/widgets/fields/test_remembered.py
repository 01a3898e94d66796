"""What the user chose last is what a new panel shows, and what an old napari lacks is no fault."""

from __future__ import annotations

from typing import Any

import pytest
from napari.components import ViewerModel
from npe2 import PluginManager

from napari_medseg.config import SegmentConfig
from napari_medseg.widgets.segment import SegmentPanel


def test_a_new_panel_shows_what_the_last_one_had(viewer: ViewerModel, qtbot: Any) -> None:
    first = SegmentPanel(viewer)
    qtbot.addWidget(first)
    assert first.config == SegmentConfig()
    first.options["device"].value = "cpu"
    first.options["preset"].value = "fast"
    second = SegmentPanel(viewer)
    qtbot.addWidget(second)
    assert second.config == SegmentConfig(device="cpu", preset="fast")


def test_without_the_plugin_installed_the_defaults_hold(
    viewer: ViewerModel, plugins: PluginManager, qtbot: Any
) -> None:
    plugins.unregister("napari-medseg")
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    panel.options["overlap"].value = "0.25"
    assert panel.config == SegmentConfig(overlap=0.25)


def test_without_plugin_settings_in_napari_the_defaults_hold(
    viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("napari.settings.get_plugin_settings")
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    assert panel.config == SegmentConfig()
