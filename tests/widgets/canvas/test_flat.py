"""2D images as layers: of two axes, in mm where the file says so, and offered where napari's own reader is worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers._source import layer_source
from napari.plugins import _npe2
from PIL import Image
from qtpy.QtWidgets import QFileDialog

import napari_medseg as ms
from napari_medseg.errors import MedsegWarning
from napari_medseg.widgets.canvas.layers import label_colours, to_segmentation, to_volume
from napari_medseg.widgets.canvas.open_flat import open_flat

GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)
RGB = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
SIZED = ms.Grid.from_spacing((1, 5, 7), (1.0, 0.7, 0.3))


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("photo.png", False),
        ("photo.jpg", False),
        ("scan.bmp", False),
        ("scan.tif", True),
        ("scan.OME.TIFF", True),
        ("case_seg.png", True),
        ("case_mask.PNG", True),
        ("a.nii.gz", True),
    ],
)
def test_a_plain_picture_stays_napari_s(name: str, offered: bool, tmp_path: Path, viewer: ViewerModel) -> None:
    (tmp_path / name).touch()
    assert ("napari-medseg" in _npe2.get_readers(tmp_path / name)) is offered


def test_a_file_that_states_a_size_opens_in_mm_and_goes_back(tmp_path: Path, viewer: ViewerModel) -> None:
    ms.write(tmp_path / "scan.tif", ms.Volume(GREY[None, None], SIZED))
    (layer,) = viewer.open(tmp_path / "scan.tif", plugin="napari-medseg")
    assert (layer.ndim, tuple(map(str, layer.units))) == (2, ("millimeter", "millimeter"))
    np.testing.assert_allclose(layer.scale, (0.7, 0.3))
    np.testing.assert_array_equal(layer.data, GREY)
    assert to_volume(layer).grid.same_as(SIZED)
    assert layer.save(tmp_path / "again.tif", plugin="napari-medseg")
    assert ms.read(tmp_path / "again.tif").grid.same_as(SIZED)


def test_a_file_without_a_size_opens_in_pixels_and_who_uses_it_is_told(tmp_path: Path, viewer: ViewerModel) -> None:
    Image.fromarray(GREY).save(tmp_path / "scan.tif")
    (layer,) = viewer.open(tmp_path / "scan.tif", plugin="napari-medseg")
    assert {str(unit) for unit in layer.units} == {"pixel"}
    with pytest.warns(MedsegWarning, match=r"layer 'scan' has no units: .* viewer\.layers\['scan'\]\.units = 'um'$"):
        to_volume(layer)
    with layer_source(path=str(tmp_path / "scan.tif"), reader_plugin="napari"):
        other = ViewerModel().add_image(GREY)
    with pytest.warns(MedsegWarning, match="File > IO Utilities > Open 2D images with their size reads it"):
        to_volume(other)


def test_masks_open_as_labels_with_ids_names_and_colours(tmp_path: Path, viewer: ViewerModel) -> None:
    data = np.zeros((1, 5, 7), np.uint8)
    data[0, 1:3], data[0, 4] = 1, 7
    made = ms.Segmentation(data, SIZED, {1: "liver", 7: "tumour"}, colours={1: (255, 0, 10), 7: (1, 2, 3)})
    ms.write(tmp_path / "case_seg.png", made)
    (layer,) = viewer.open(tmp_path / "case_seg.png", plugin="napari-medseg")
    assert (layer.ndim, label_colours(layer)) == (2, made.colours)
    assert layer.save(tmp_path / "saved_seg.png")  # napari's own writer has no labels in PNG
    found = ms.read_segmentation(tmp_path / "saved_seg.png")
    assert (found.labels, found.grid.same_as(SIZED)) == (made.labels, True)
    np.testing.assert_array_equal(found.data, data)
    drawn = Image.fromarray(data[0] % 7)
    drawn.putpalette([0, 0, 0, 9, 9, 9])
    drawn.save(tmp_path / "drawn_mask.png")
    (layer,) = viewer.open(tmp_path / "drawn_mask.png", plugin="napari-medseg")
    assert layer._type_string == "labels"
    np.testing.assert_array_equal(layer.data, data[0] % 7)


def test_the_menu_opens_any_of_them_and_says_what_does_not_open(
    tmp_path: Path, viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "photo.png", dpi=(254, 254))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    told: list[str] = []
    chosen = [str(tmp_path / name) for name in ("photo.png", "broken.png")]
    monkeypatch.setattr("napari_medseg.widgets.canvas.open_flat.show_error", told.append)
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (chosen, ""))
    shown: Any = viewer
    shown.__dict__["window"] = type("Window", (), {"_qt_window": None})
    open_flat(shown)
    (layer,) = viewer.layers
    assert (layer.rgb, layer.name, str(layer.source.path)) == (True, "photo", chosen[0])
    np.testing.assert_array_equal(layer.data, RGB)
    volume = to_volume(layer)
    assert volume.grid.same_as(ms.read(chosen[0]).grid)
    np.testing.assert_array_equal(volume.data, ms.read(chosen[0]).data)
    assert len(told) == 1
    assert told[0].startswith(f"{chosen[1]}: not a PNG file")


def test_labels_drawn_beside_lie_on_the_image(tmp_path: Path, viewer: ViewerModel) -> None:
    ms.write(tmp_path / "scan.tif", ms.Volume(GREY[None, None], SIZED))
    viewer.open(tmp_path / "scan.tif", plugin="napari-medseg")
    viewer._new_labels()
    drawn = viewer.layers[-1]
    assert drawn.ndim == 2
    assert to_segmentation(drawn, viewer.layers).grid.same_as(SIZED)
