"""The Interact panel in a real window: what is clicked becomes a mask, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from interact_walk import Clicker, click_in_3d, close_at_work, crash_and_resume, walk_panel
from napari_medseg.sample import phantom
from napari_medseg.widgets.fields.case_rows import CaseRows
from napari_medseg.widgets.interacting.panel import add_case


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


def test_a_click_in_3d_and_the_end_at_work(window: Any) -> None:
    user = Clicker(window, phantom("ct", seed=0)[0])
    click_in_3d(user)
    close_at_work(user)


def test_several_volumes_become_rows_of_train(qtbot: Any) -> None:
    viewer = ViewerModel()
    cases = CaseRows(viewer)
    qtbot.addWidget(cases)
    given = []
    for n in range(3):
        blank = np.zeros((2, 3, 4), np.uint8)
        given.append((viewer.add_image(blank, name=f"image {n}"), viewer.add_labels(blank, name=f"labels {n}")))
        add_case(cases, *given[-1])
        add_case(cases, *given[-1])  # again: no second row
    assert cases.pairs == given
