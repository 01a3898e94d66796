"""What the tests of the panels share: a viewer without a window, and layers of the sample's kind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest
from pytestqt.qtbot import QtBot

import napari_medseg

_PATIENCE_MS = 300_000
"""After which a wait for the window fails."""


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """pytest-qt's, which gives up only after minutes: other programs may take the processors meanwhile."""
    for name in ("waitUntil", "waitSignal", "waitExposed"):
        setattr(qtbot, name, partial(getattr(qtbot, name), timeout=_PATIENCE_MS))
    return qtbot


@pytest.fixture
def viewer() -> ViewerModel:
    """The model of a viewer; the panels need no window."""
    return ViewerModel()


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder of the test's own."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MEDSEG_MODELS", str(folder))
    return folder


@pytest.fixture(autouse=True)
def plugins(plugin_settings: None, npe2pm: PluginManager) -> PluginManager:
    """A plugin manager of the test's own, with this plugin only, and settings that no other test or user sees."""
    npe2pm.register(PluginManifest.from_file(Path(napari_medseg.__file__).with_name("napari.yaml")))
    return npe2pm
