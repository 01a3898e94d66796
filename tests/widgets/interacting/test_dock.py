"""The panel in the window's dock: closed by its cross, its work is offered to the next panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from click_phantoms import balls
from interact_walk import Clicker
from metrics_walk import wait_until

FIRST = (12, 14, 12)
VOLUME, _ = balls((24, 28, 46), FIRST, (12, 14, 34), radius=7)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))


@pytest.fixture
def user(make_napari_viewer: Any) -> Clicker:
    return Clicker(make_napari_viewer(show=True), VOLUME)


def test_work_closed_by_the_cross_is_offered_at_once(user: Clicker) -> None:
    closed = user.panel
    closed.take("P")
    work = closed.work
    work.canvas.add_point(FIRST)
    closed.parent().destroyOnClose()
    user.panel = user.window.window.add_plugin_dock_widget("napari-medseg", "Interact")[1]
    assert user.panel is not closed
    assert closed.work is None
    wait_until(lambda: user.panel.earlier.count() == 1)
    assert user.panel.resume_button.isVisible()
    user.press(user.panel.resume_button)
    assert [prompt.at for prompt in user.panel.work.view.prompts] == [FIRST]
    assert user.mask(1)[FIRST]
