"""Every control of the Metrics panel in a real window, on a real pair of 41 organs, while the window stays alive."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseg.metrics.reports.exports
import napari_medseg.metrics.study.batch
import napari_medseg.widgets.measuring.errors_tab
import napari_medseg.widgets.measuring.instances_tab
import napari_medseg.widgets.measuring.panel
import napari_medseg.widgets.views.chart  # matplotlib is loaded before the walk
from metrics_walk import Pair, walk
from napari_medseg.metrics.pairwise.edits import EditedScores

COMPUTING: Mapping[str, tuple[Any, str]] = {
    "scores": (EditedScores, "_measure"),
    "edits": (EditedScores, "update"),
    "worst place": (napari_medseg.widgets.measuring.panel, "worst_place"),
    "errors": (napari_medseg.widgets.measuring.errors_tab, "error_map_in_steps"),
    "surface": (napari_medseg.widgets.measuring.errors_tab, "surface_distance_mesh_in_steps"),
    "instances": (napari_medseg.widgets.measuring.instances_tab, "match_instances_in_steps"),
    "cases": (napari_medseg.metrics.study.batch, "iter_measure"),
    "export": (napari_medseg.metrics.reports.exports, "write_scores"),
}
"""What the window has computed for it, and where its calls go through."""
LONGEST_WORK_S = 0.5
"""Processor time of the window's thread between two ticks that fails the test, also where programs share a core. The
aim is 0.2 s by the clock: that is measured in a napari of its own, by benchmarks/bench_window.py."""


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


@pytest.fixture
def small_heap() -> Iterator[None]:
    """What this process holds already stays out of the search for cyclic garbage: in napari it would not be there."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def window(small_heap: None, make_napari_viewer: Any, qtbot: Any) -> Any:
    """A viewer in a window on the screen, which has once shown what napari then knows: labels, a surface in 3D."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1400, 900)
    viewer.add_labels(np.zeros((4, 8, 8), np.uint8))
    surface = viewer.add_surface((np.eye(3), np.array([[0, 1, 2]]), np.ones(3)), shading="smooth")
    surface.colorbar.visible = True
    for ndisplay in (3, 2):
        viewer.dims.ndisplay = ndisplay
        qtbot.wait(200)
    viewer.layers.clear()
    return viewer


def test_every_control_in_a_window(
    window: Any,
    threads: dict[str, set[int]],
    medseg_data: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    heart = walk(window, Pair.read(medseg_data), tmp_path)
    with capsys.disabled():
        for line in ("", *heart.report()):
            request.config.get_terminal_writer().line(line)
    assert heart.longest_busy < LONGEST_WORK_S
    assert threads.keys() == COMPUTING.keys(), "each was asked for"
    assert threading.get_ident() not in set().union(*threads.values()), "the window's own thread"
