"""A model of another program is shown before it is written, then chosen; a walk from the bundle to labels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFormLayout, QLabel

import napari_medseg as ms
import zoo
from napari_medseg.registry import network
from napari_medseg.widgets.canvas.layers import to_segmentation, to_volume, volume_layer
from napari_medseg.widgets.fields.import_model import ImportModel
from napari_medseg.widgets.segment import SegmentPanel
from nnunet_peer import PlainConvUNet, write_folder

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")


CT = Path(os.environ.get("MEDSEG_DATA", "")) / "abdomen_ct/example_ct_sm.nii.gz"


@pytest.fixture
def panel(viewer: ViewerModel, qtbot: QtBot) -> SegmentPanel:
    if CT.is_file():
        volume = ms.read(CT)
        data, arguments, _ = volume_layer(replace(volume, name="ct"))[0]
        viewer.add_image(data, **arguments)
    else:
        viewer.add_image(np.random.default_rng(0).normal(0, 200, (12, 20, 24)).astype(np.float32), name="ct")
    made = SegmentPanel(viewer)
    qtbot.addWidget(made)
    return made


def rows_of(dialog: ImportModel) -> dict[str, str]:
    rows = {}
    for i in range(dialog.rows.rowCount()):
        parts = [dialog.rows.itemAt(i, role).widget() for role in (QFormLayout.LabelRole, QFormLayout.FieldRole)]
        assert all(isinstance(part, QLabel) for part in parts)
        rows[parts[0].text()] = parts[1].text()
    return rows


def test_a_bundle_is_seen_imported_and_segments(
    panel: SegmentPanel, viewer: ViewerModel, qtbot: QtBot, tmp_path: Path, models_folder: Path
) -> None:
    bundle = zoo.Published(
        {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8],
            "strides": [2],
        },
        zoo.window(30, -57, 164),
        ["background", "spleen"],
        inferer={**zoo.SLIDING, "roi_size": [32, 32, 32]},
    )
    folder = zoo.write_bundle(tmp_path / "spleen", bundle, zoo.source_network(bundle, small=False), small=False)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder))])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    panel.models.dropEvent(QDropEvent(QPointF(1, 1), copy, data, left, Qt.KeyboardModifier.NoModifier))
    (dialog,) = panel.models.findChildren(ImportModel)
    qtbot.waitUntil(dialog.import_button.isEnabled)
    rows = rows_of(dialog)
    qtbot.waitUntil(lambda: dialog.height() >= dialog.layout().totalHeightForWidth(dialog.width()))
    assert rows["Network"] == "monai_unet, 3d; window 32 × 32 × 32"
    assert rows["Labels"] == "1 label: spleen"
    assert rows["Spacing"] == "3 × 3 × 3 mm"
    assert rows["Intensities"] == "times 0.004525 plus 0.2579, then clipped to 0.0 … 1.0"
    assert rows["Licence"] == "Copyright (c) the consortium"
    assert not list(models_folder.iterdir()), "nothing is written before Import"
    with qtbot.waitSignal(panel.models.model_changed, check_params_cb=lambda model: model is not None):
        dialog.import_button.click()
    assert [path.name for path in models_folder.iterdir()] == ["spleen.safetensors"]
    qtbot.waitUntil(panel.segment_button.isEnabled)
    panel.segment_button.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy)
    assert [layer.name for layer in viewer.layers] == ["ct", "ct labels"]
    found = to_segmentation(viewer.layers["ct labels"])
    expected = ms.segment(to_volume([viewer.layers["ct"]], viewer.layers), models_folder / "spleen.safetensors")
    assert np.array_equal(np.asarray(found.data), np.asarray(expected.data))
    assert np.unique(np.asarray(found.data)).tolist() == [0, 1]


def test_weights_wait_for_what_they_do_not_say(panel: SegmentPanel, qtbot: QtBot, tmp_path: Path) -> None:
    torch.save(network("unet3d").build(channels=(4, 8)).state_dict(), tmp_path / "w.pt")
    dialog = panel.models.import_model(tmp_path / "w.pt")
    assert not dialog.import_button.isEnabled()
    dialog.network.setCurrentIndex(dialog.network.findData("vnet"))
    dialog.read()
    qtbot.waitUntil(lambda: "does not fit network vnet" in dialog.status.text())
    dialog.network.setCurrentIndex(dialog.network.findData("unet3d"))
    dialog.labels.setText("liver")
    dialog.spacing.setText("2.5, 1, 1")
    dialog.intensities.setText("-175,250,37,106")
    dialog.read()
    qtbot.waitUntil(dialog.import_button.isEnabled)
    rows = rows_of(dialog)
    assert (rows["Labels"], rows["Spacing"], rows["Intensities"]) == ("1 label: liver", "2.5 × 1 × 1 mm", "clip_zscore")
    dialog.cancel()


def test_a_set_that_is_cancelled_leaves_nothing(
    panel: SegmentPanel, qtbot: QtBot, tmp_path: Path, models_folder: Path
) -> None:
    torch.manual_seed(0)
    folder = write_folder(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", PlainConvUNet(1, 3))
    other = write_folder(tmp_path / "other", PlainConvUNet(1, 3))
    (other / "fold_0").rename(folder / "fold_1")
    dialog = panel.models.import_model(folder)
    qtbot.waitUntil(dialog.import_button.isEnabled)
    assert rows_of(dialog)["Models"] == "2, averaged: fold0, fold1"
    dialog._told.connect(lambda done, _total: dialog._stop.set())
    dialog._stop.clear = lambda: None  # type: ignore[method-assign]  # stays set from the first progress on
    dialog._stop.set()
    dialog.take()
    qtbot.waitUntil(lambda: dialog.status.text() == "Stopped; nothing was written.")
    assert not list(models_folder.iterdir())
