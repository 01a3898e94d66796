"""Every control of the Labels panel in a real window, which computes nothing of what it shows itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import napari_medseg.refinement.cleaning
import napari_medseg.widgets.labelling.labels_panel
from labels_walk import walk_labels


def test_every_control_in_a_window(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, set[int]] = {}

    def watch(owner: Any, name: str) -> None:
        computing = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            found.setdefault(name, set()).add(threading.get_ident())
            return computing(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    panel = napari_medseg.widgets.labelling.labels_panel
    names = ("size_table_in_steps", "middle_voxel", "with_hidden", "_edit")
    for name in names:
        watch(panel, name)
    watch(napari_medseg.refinement.cleaning, "clean_in_steps")
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    walk_labels(viewer, tmp_path)
    assert found.keys() == {*names, "clean_in_steps"}, "each was asked for"
    assert threading.get_ident() not in set().union(*found.values()), "the window's own thread"
