"""What the tests of the panels share: a viewer without a window, and layers of the sample's kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from napari.components import ViewerModel


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
