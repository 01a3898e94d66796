"""Every control of the Refine panel in a real window, which computes nothing itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import napari_medseg.widgets.refining
from refine_walk import walk_refine


def test_every_control_in_a_window(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads: set[int] = set()
    panel = napari_medseg.widgets.refining
    computing = panel._edited

    def watched(*args: Any) -> Any:
        threads.add(threading.get_ident())
        return (yield from computing(*args))

    monkeypatch.setattr(panel, "_edited", watched)
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    walk_refine(viewer, tmp_path)
    assert threads
    assert threading.get_ident() not in threads
