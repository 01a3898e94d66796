"""Label files open as Labels over their image, and an image layer that holds labels becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from npe2.manifest.contributions import MenuCommand

import napari_medseg as ms
from balls import segmentation, volume
from napari_medseg.io import caret
from napari_medseg.widgets.canvas.layers import to_segmentation, to_volume, volume_layer
from napari_medseg.widgets.canvas.use_as_labels import as_labels, use_as_labels


def written(path: Path, data: npt.NDArray[Any]) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.T, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def areas(dtype: str, ids: tuple[int, ...] = (1, 7)) -> npt.NDArray[Any]:
    data = np.zeros((4, 20, 30), dtype)
    for number, label in enumerate(ids):
        data[:, :, 3 * number + 1 : 3 * number + 4] = label
    return data


@pytest.mark.parametrize(
    ("name", "data", "opens"),
    [
        ("case.nii.gz", areas("u1"), Labels),
        ("case.nii.gz", areas("f4"), Labels),
        ("case.nii.gz", areas("f4") + 0.5, Image),
        ("case.nii.gz", areas("i2") - 1, Image),
        ("case.nii.gz", areas("u1", ()), Image),
        ("case.nii.gz", np.random.default_rng(0).integers(0, 5, (4, 20, 30)).astype("u1"), Image),
        ("case.nii.gz", np.arange(2400, dtype="u2").reshape(4, 20, 30), Image),
        ("case_seg.nii.gz", np.arange(2400, dtype="u2").reshape(4, 20, 30), Labels),
        ("Case-Mask.nii", areas("u1", ()), Labels),
        ("labels_01.nii", areas("i4", (9,)), Labels),
        ("case_labels.nii.gz", areas("f4") + 0.5, Image),
        ("case_mask.nii.gz", areas("i2") - 1, Image),
        ("masked_ct.nii.gz", np.arange(2400, dtype="u2").reshape(4, 20, 30), Image),
    ],
)
def test_what_is_labels_opens_as_labels(
    viewer: ViewerModel, tmp_path: Path, name: str, data: npt.NDArray[Any], opens: type[Layer]
) -> None:
    (layer,) = viewer.open(written(tmp_path / name, data), plugin="napari-medseg")
    assert type(layer) is opens
    np.testing.assert_array_equal(np.asarray(layer.data), data)
    assert layer.opacity == (0.5 if opens is Labels else 1.0)


def test_names_and_colours_of_a_header_come_to_the_layer_and_back(viewer: ViewerModel, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(areas("u1", (1, 7, 9)), np.eye(4))
    table = caret.to_extension({1: "liver", 7: "spleen", 9: "colon"}, {1: (255, 128, 0), 7: (0, 5, 200), 9: (1, 2, 3)})
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, table))
    nibabel.save(image, tmp_path / "organs.nii.gz")
    (layer,) = viewer.open(tmp_path / "organs.nii.gz", plugin="napari-medseg")
    assert isinstance(layer, Labels)
    np.testing.assert_allclose(layer.get_color(1), (1, 128 / 255, 0, 1), atol=1e-6)
    layer.save(tmp_path / "again.nii.gz", plugin="napari-medseg")
    again = ms.read_segmentation(tmp_path / "again.nii.gz")
    assert dict(again.labels) == {1: "liver", 7: "spleen", 9: "colon"}
    assert dict(again.colours) == {1: (255, 128, 0), 7: (0, 5, 200), 9: (1, 2, 3)}


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, about its display
def test_an_image_layer_is_used_as_labels_in_its_place(viewer: ViewerModel, plugins: PluginManager) -> None:
    data, arguments, _ = volume_layer(ms.Volume(areas("f4")[None], ms.Grid.from_spacing((4, 20, 30), (2, 1, 1))))[0]
    image = viewer.add_image(data, **{**arguments, "name": "organs"})
    image.rotate = (20, 0, 10)
    viewer.add_points(np.zeros((1, 3)))
    viewer.layers.selection = {image}
    grid = to_volume(image).grid
    plugins.get_command("napari-medseg.use_as_labels").exec(args=(viewer.layers,))
    labels = viewer.layers[0]
    assert isinstance(labels, Labels)
    assert (labels.name, len(viewer.layers)) == ("organs", 2)
    found = to_segmentation(labels)
    np.testing.assert_array_equal(np.asarray(found.data), areas("u1"))
    assert found.grid.same_as(grid)
    np.testing.assert_allclose(labels.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))


def test_what_holds_no_labels_stays_and_one_line_says_why(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.full((3, 4, 5), 0.5), name="probabilities", units="mm")
    use_as_labels(viewer.layers)
    assert viewer.layers[0] is image
    assert "probabilities: labels must be whole numbers" in notification_manager.records[-1].message
    viewer.layers.selection.clear()
    use_as_labels(viewer.layers)
    assert notification_manager.records[-1].message == "select an image layer that holds labels first"


def test_the_labels_of_a_slice_stay_a_slice() -> None:
    image = Image(np.pad(np.ones((3, 4), np.uint8), 2), scale=(2, 1), units="mm", name="slice")
    assert as_labels(image).data.shape == (7, 8)


def test_the_action_is_offered_for_image_layers(plugins: PluginManager) -> None:
    (item,) = plugins.get_manifest("napari-medseg").contributions.menus["napari/layers/layer_type"]
    assert isinstance(item, MenuCommand)
    assert (item.command, item.when) == ("napari-medseg.use_as_labels", "num_selected_image_layers > 0")


def test_labels_of_our_own_need_no_guess(viewer: ViewerModel, tmp_path: Path) -> None:
    ms.write(tmp_path / "ct.nii.gz", volume())
    ms.write(tmp_path / "x.nii.gz", segmentation())
    kinds = [type(viewer.open(tmp_path / n, plugin="napari-medseg")[0]) for n in ("ct.nii.gz", "x.nii.gz")]
    assert kinds == [Image, Labels]
