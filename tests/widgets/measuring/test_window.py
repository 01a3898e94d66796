"""Every control of the Metrics panel in a real window, which computes nothing of what it shows itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import napari_medseg.metrics.reports.exports
import napari_medseg.metrics.study.batch
import napari_medseg.widgets.measuring.errors_tab
import napari_medseg.widgets.measuring.instances_tab
import napari_medseg.widgets.measuring.metrics_panel
from metrics_walk import Pair, walk_metrics
from napari_medseg.metrics.pairwise.edits import EditedScores

COMPUTING: Mapping[str, tuple[Any, str]] = {
    "scores": (EditedScores, "_measure"),
    "edits": (EditedScores, "update"),
    "worst place": (napari_medseg.widgets.measuring.metrics_panel, "worst_place"),
    "errors": (napari_medseg.widgets.measuring.errors_tab, "error_map_in_steps"),
    "surface": (napari_medseg.widgets.measuring.errors_tab, "surface_distance_mesh_in_steps"),
    "instances": (napari_medseg.widgets.measuring.instances_tab, "match_instances_in_steps"),
    "cases": (napari_medseg.metrics.study.batch, "iter_measure"),
    "export": (napari_medseg.metrics.reports.exports, "write_scores"),
}
"""{what the panel shows: where the call goes through that computes it}"""


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """{what is computed: the threads in which it was}, filled as the window works."""
    found: dict[str, set[int]] = {}

    def watched(name: str, computing: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found.setdefault(name, set()).add(threading.get_ident())
            return computing(*args, **kwargs)

        return call

    for name, (owner, attribute) in COMPUTING.items():
        monkeypatch.setattr(owner, attribute, watched(name, getattr(owner, attribute)))
    return found


def test_every_control_in_a_window(make_napari_viewer: Any, threads: dict[str, set[int]], tmp_path: Path) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    walk_metrics(viewer, Pair.phantom(), tmp_path)
    assert threads.keys() == COMPUTING.keys(), "each was asked for"
    assert threading.get_ident() not in set().union(*threads.values()), "the window's own thread"
