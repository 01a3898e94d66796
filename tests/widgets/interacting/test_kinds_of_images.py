"""Interact in a real window on what is no plain volume: 2D images, one point of time, a volume beside a time series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Layer

import napari_medseg as ms
from click_phantoms import balls
from interact_walk import Clicker, dice, walk_a_2d_image
from napari_medseg.volume import Grid, Volume
from napari_medseg.widgets.canvas.napari_io import read_layers

VOLUME, (BALL, OTHER) = balls((24, 28, 46), (12, 14, 12), (12, 14, 34), radius=7)
ROWS, COLUMNS = np.mgrid[:60, :80]
DISK = (ROWS - 30) ** 2 + (COLUMNS - 40) ** 2 < 12**2
GREY = (DISK * 100.0 + np.random.default_rng(0).normal(40, 8, DISK.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    return viewer


def opened(tmp_path: Path) -> Layer:
    """A TIFF that states the size of its pixels, as the menu's Open 2D images with their size shows it."""
    ms.write(tmp_path / "disk.tif", Volume(GREY[None, None], Grid.from_spacing((1, *GREY.shape), (1.0, 0.5, 0.5))))
    ((data, attributes, kind),) = read_layers(str(tmp_path / "disk.tif"))
    layer = Layer.create(data, attributes, kind)
    assert layer.ndim == 2
    return layer


KINDS = {
    "grey, without units": lambda _: Image(GREY),
    "colours": lambda _: Image(np.stack([GREY, GREY // 2, GREY], axis=-1), rgb=True),
    "with the size of a pixel": opened,
}


@pytest.mark.filterwarnings("ignore:layer .* has no units")
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_every_tool_on_a_2d_image(window: Any, tmp_path: Path, make: Any) -> None:
    walk_a_2d_image(Clicker(window, window.add_layer(make(tmp_path))), DISK, tmp_path / "labels.nii.gz")


def test_a_click_and_paint_at_one_point_of_time(window: Any) -> None:
    data = np.asarray(VOLUME.data)[0]
    user = Clicker(window, window.add_image(data[None], units=("s", "mm", "mm", "mm")))
    panel = user.panel
    user.press(panel.tools["P"])
    user.click_voxel((12, 14, 12))
    assert dice(user.mask(1), BALL) > 0.9
    assert panel.work.canvas.labels.data.shape == (1, *data.shape)
    user.press(panel.next_button)
    user.press(panel.tools["B"])
    user.look_at((12, 14, 34))
    user.drag(*(user.pixel((12, 14 + k, 34 + k)) for k in (-7, 0, 7)))
    assert dice(user.mask(2), OTHER) > 0.8
    user.press(panel.tools["M"])
    user.look_at((10, 4, 40))
    user.drag(user.pixel((10, 4, 39)), user.pixel((10, 4, 41)))
    painted = panel.work.view.prompts[-1]
    assert isinstance(painted, ms.SliceMask)
    assert (painted.axis, painted.index) == (0, 10)
    user.press(panel.slices.next_button)
    assert panel.work.canvas.slice_shown()[0] == 0
    assert window.dims.displayed == (2, 3)


def test_a_volume_beside_a_time_series(window: Any) -> None:
    data = np.asarray(VOLUME.data)[0]
    window.add_image(np.stack([data] * 3), name="series", units=("s", "mm", "mm", "mm"))
    user = Clicker(window, window.add_image(data, name="volume", units="mm"))
    panel = user.panel
    user.press(panel.tools["M"])
    user.look_at((10, 14, 34))
    user.drag(user.pixel((10, 14, 33)), user.pixel((10, 14, 35)))
    assert panel.work.canvas.slice_shown() == (0, 10)
    (painted,) = panel.work.view.prompts
    assert isinstance(painted, ms.SliceMask)
    assert (painted.axis, painted.index) == (0, 10)
    user.press(panel.slices.next_button)
    assert panel.work.canvas.slice_shown()[0] == 0
    user.press(panel.tools["P"])
    user.press(panel.next_button)
    user.click_voxel((12, 14, 12))
    assert dice(user.mask(2), BALL) > 0.9
