"""The scripts that the panel hands out run, and compute what the panel shows."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import napari
import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseg as ms
from balls import segmentation
from napari_medseg.config import MetricsConfig, RegionsConfig
from napari_medseg.widgets.canvas.layers import labels_layer
from napari_medseg.widgets.measuring.as_python import evaluation_script, folders_script

CONFIG = MetricsConfig(preset="chaos", nsd_tolerance_mm=0.5)


def run(script: str) -> tuple[Any, str]:
    """The scores that a script leaves, and what it prints."""
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "copied.py", "exec"), names)
    return names["scores"], printed.getvalue()


def test_layers_from_files_are_read_from_them(viewer: ViewerModel, tmp_path: Path) -> None:
    for name in ("it's A.nii.gz", "B.nii.gz"):
        ms.write(tmp_path / name, segmentation())
        viewer.open(tmp_path / name, plugin="napari-medseg", layer_type="labels")
    reference, prediction = viewer.layers
    scores, printed = run(evaluation_script(prediction, reference, CONFIG))
    expected = ms.evaluate(prediction=segmentation(), reference=segmentation(), preset="chaos", nsd_tolerance_mm=0.5)
    assert scores.config == expected.config
    assert [row.dice for row in scores.rows] == [row.dice for row in expected.rows]
    assert "left ball" in printed


def test_parts_of_a_file_are_told_apart(viewer: ViewerModel, tmp_path: Path) -> None:
    first = np.zeros((3, 4, 5), np.int16)
    first[1, 1:3, 1:3] = 1
    series = np.stack([first, np.roll(first, 1, axis=2)])
    nibabel.save(nibabel.Nifti1Image(series.T, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "series.nii.gz")
    viewer.open(tmp_path / "series.nii.gz", plugin="napari-medseg", layer_type="labels")
    reference, prediction = viewer.layers
    scores, _ = run(evaluation_script(prediction, reference, CONFIG))
    assert scores.rows[0].voxels_both == 2


def test_a_script_says_what_the_files_have_not(viewer: ViewerModel, tmp_path: Path) -> None:
    ms.write(tmp_path / "a.nii.gz", segmentation())
    viewer.open(tmp_path / "a.nii.gz", plugin="napari-medseg", layer_type="labels")
    assert "what was painted since" in evaluation_script(viewer.layers[0], viewer.layers[0], CONFIG)


def test_other_layers_are_taken_from_the_viewer(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("manual", "net"):
        data, arguments, _ = labels_layer(segmentation())
        viewer.add_labels(data, **{**arguments, "name": name})
    viewer.layers["net"].data[6, 5, 8] = 0
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    scores, _ = run(evaluation_script(viewer.layers["net"], viewer.layers["manual"], CONFIG))
    assert scores.rows[0].voxels_prediction == scores.rows[0].voxels_reference - 1


def test_folders(ball_labels: Path) -> None:
    scores, _ = run(folders_script(ball_labels, ball_labels, CONFIG, RegionsConfig()))
    assert scores.cases == ("case0", "case1", "case2")
    assert scores.config == CONFIG
