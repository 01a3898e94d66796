"""The Interact panel in a real window: what is clicked becomes a mask, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from interact_walk import Clicker, crash_and_resume, walk_panel
from napari_medseg.sample import phantom


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for what is saved while it clicks."""
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    return viewer


def test_a_walk(window: Any) -> None:
    image, truth = phantom("ct", seed=0)
    shots = os.environ.get("MEDSEG_SHOTS")
    user = Clicker(window, image, Path(shots) if shots else None)
    walk_panel(user, truth, min(truth.labels))
    crash_and_resume(user, 1)
