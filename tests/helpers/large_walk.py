"""A large image in a real window: a chest CT of 275 x 512 x 512 voxels as a store, segmented, cancelled and resumed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from qtpy.QtTest import QTest

import napari_medseg as ms
from job_walk import click, open_panel, show_first_layers
from metrics_walk import During, unmeasured, wait_until
from napari_medseg import registry
from napari_medseg.events import Filled, Progress, Started
from napari_medseg.models.file import load_model, write_model
from napari_medseg.sample import sample_files

SHAPE, SPACING = (275, 512, 512), (1.0, 0.7, 0.7)
ROW = 64
"""Planes of a row of chunks."""
PARTIAL = "chest labels (partial)"


def walk_large(window: Any, source: Path, folder: Path, during: During = unmeasured) -> None:
    """Segment, cancel and resume, and check what is shown.

    source: a smaller chest CT. folder: for the image and its labels; the model goes to $MEDSEG_MODELS.
    """
    write_image(source, folder / "chest.zarr")
    models = Path(os.environ["MEDSEG_MODELS"])
    models.mkdir(exist_ok=True)
    write_small_model(models / "chest.safetensors")
    show_first_layers(window, during)
    with during("open the image"):
        window.open(folder / "chest.zarr", plugin="napari-medseg")
    panel = open_panel(window, "Segment", during)
    wait_until(lambda: panel.models.model is not None and panel.segment_button.isEnabled())
    panel.options["overlap"].value = "0"  # the fewest windows
    watched = Watched(window, panel)
    with during("segment, and cancel"):
        click(panel.segment_button, panel)
    partial = np.array(window.layers[PARTIAL].data)
    done = planes_with_labels(partial)
    assert done >= 2 * ROW
    assert done < len(partial), "it was cancelled"
    assert not partial[done:].any()
    assert watched.grown == sorted(set(watched.grown)), "labels grow before the user's eyes"

    watched.cancels = False
    with during("resume"):
        click(panel.segment_button, panel)
    final = np.asarray(window.layers["chest labels"].data)
    assert np.array_equal(watched.begun, partial), "it goes on with what was done"
    whole, rest = watched.windows
    assert rest < whole, "what was done is not done again"
    assert planes_with_labels(final) == len(final)
    assert np.array_equal(final[:done], partial[:done])
    (store,) = folder.glob("*.labels.zarr")
    assert np.array_equal(np.asarray(ms.read_segmentation(store).data), final)


def show_image_alone(window: Any, source: Path, folder: Path, during: During) -> None:
    """Show the image by napari's own means: the peer of its opening in `walk_large`."""
    write_image(source, folder / "chest.zarr")
    data = da.from_zarr(folder / "chest.zarr" / "0")[0]
    show_first_layers(window, during)
    with during("open the image"):
        window.add_image(data, scale=SPACING)
        QTest.qWait(100)


def write_image(source: Path, path: Path) -> None:
    small = ms.read(source)
    near = [np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(small.grid.shape, SHAPE, strict=True)]
    data = np.asarray(small.data)[0][np.ix_(*near)][None]
    ms.write(path, ms.Volume(data, ms.Grid.from_spacing(SHAPE, SPACING), name="chest"))


def write_small_model(path: Path) -> None:
    """A model that is fast, and labels something everywhere."""
    network = registry.network("unet3d")
    arguments = network.arguments(in_channels=1, out_channels=3, channels=(4, 8), deep_supervision=False)
    spec = replace(
        load_model(sample_files()["model"]).spec,
        arguments=arguments,
        deep_supervision=False,
        labels={1: "a", 2: "b"},
        orientation=None,
        patch_zyx=(64, 128, 128),
        spacing_zyx_mm=None,
    )
    write_model(path, spec, network.build_from(arguments).state_dict())


def planes_with_labels(labels: Any) -> int:
    """The planes from the first on that hold a label."""
    held = labels.any(axis=(1, 2))
    return len(held) if held.all() else int(held.argmin())


class Watched:
    """What the panel's runs do; the first is cancelled once two rows are there."""

    def __init__(self, window: Any, panel: Any) -> None:
        self._window, self._panel = window, panel
        self.grown: list[int] = []
        """The planes with labels in the layer, after each row."""
        self.begun: Any = None
        self.windows: list[int] = []
        """Of each run."""
        self.cancels = True
        panel.runner.happened.connect(self._on_event)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Started):
            self.begun = np.array(event.result.data)
            self.windows.append(0)
        if isinstance(event, Progress) and event.message == "windows":
            self.windows[-1] = event.total
        if isinstance(event, Filled) and self.cancels:
            self.grown.append(planes_with_labels(self._window.layers[PARTIAL].data))
            if len(self.grown) == 2:
                self._panel.runner.cancel()
