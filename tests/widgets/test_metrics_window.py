"""Every control of the Metrics panel in a real window, on a real pair of 41 organs, while the window stays alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseg.widgets.chart  # matplotlib is loaded before the walk
import napari_medseg.widgets.metrics  # noqa: F401  # and so is the panel
from metrics_walk import Pair, walk

COMPUTED_IN_THE_WINDOW_S = 1.0
"""Processor time of the window's thread between two ticks, by which one knows work that belongs into another thread,
on any machine. How long the window waits in a napari of its own, benchmarks/bench_window.py measures."""


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
    medseg_data: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    heart = walk(window, Pair.read(medseg_data), tmp_path)
    with capsys.disabled():
        for line in ("", *heart.report()):
            request.config.get_terminal_writer().line(line)
    assert heart.longest_busy < COMPUTED_IN_THE_WINDOW_S
