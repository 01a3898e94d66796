"""The letters at the canvas' edges are where napari shows those ends of the patient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from balls import volume
from napari_medseg.widgets.canvas.layers import volume_layer
from napari_medseg.widgets.canvas.orientation import letters_of, show_orientation


@pytest.fixture
def shown(viewer: ViewerModel) -> ViewerModel:
    show_orientation(viewer)
    data, arguments, _ = volume_layer(volume())[0]
    viewer.add_image(data, **arguments)
    return viewer


def letters(viewer: ViewerModel) -> str:
    return "".join(o.text for o in viewer.canvas.overlays.values() if "text" in type(o).model_fields and o.visible)


@pytest.mark.parametrize(
    ("order", "expected"),
    [((0, 1, 2), "APRL"), ((1, 0, 2), "SIRL"), ((2, 0, 1), "SIAP")],
    ids=["axial", "coronal", "sagittal"],
)
def test_each_plane_is_lettered_as_a_radiologist_reads_it(
    shown: ViewerModel, order: tuple[int, int, int], expected: str
) -> None:
    shown.dims.order = order
    assert letters(shown) == expected


def test_a_turned_camera_turns_the_letters(shown: ViewerModel) -> None:
    shown.scene.camera.orientation2d = ("up", "left")
    assert letters(shown) == "PALR"


def luminance(channels: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Of sRGB channels from 0 to 1, as the Web Content Accessibility Guidelines 2.2 define it."""
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0], ids=["black", "grey", "white"])
def test_the_letters_can_be_read_on_image_and_canvas(shown: ViewerModel, grey: float) -> None:
    for name, overlay in shown.canvas.overlays.items():
        if name.startswith("napari_medseg "):
            assert overlay.box
            colour, box = (np.asarray(c, dtype=np.float64) for c in (overlay.color, overlay.box_color))
            behind = luminance(box[:3] * box[3] + grey * (1 - box[3]))
            assert (luminance(colour[:3]) + 0.05) / (behind + 0.05) >= 4.5, "the least contrast of text"


def test_there_are_none_in_3d_and_without_our_layers(shown: ViewerModel) -> None:
    shown.dims.ndisplay = 3
    assert letters(shown) == ""
    shown.dims.ndisplay = 2
    shown.layers.clear()
    shown.add_image(np.zeros((3, 4, 5)))
    assert letters(shown) == ""


def test_asking_twice_letters_once(shown: ViewerModel) -> None:
    count = len(shown.canvas.overlays)
    show_orientation(shown)
    assert len(shown.canvas.overlays) == count


def test_a_marked_patient_is_seen_from_the_feet_with_the_front_up(viewer: ViewerModel) -> None:
    """A voxel at the left front of the head is drawn right of the centre and above it."""
    image = volume()
    data = np.zeros_like(image.data)
    high = np.array(data.shape[1:]) - 1
    data[0, high[0], 0, high[2]] = 1  # the array is SPL: last plane is the head, first row the front, last column left
    layer = viewer.add_image(*volume_layer(replace(image, data=data))[0][:1], **volume_layer(image)[0][1])
    marked = np.array(layer.data_to_world(np.argwhere(layer.data == 1)[0]))
    centre = np.array(layer.data_to_world(high / 2))
    inferior, down, right = np.sign(marked - centre)
    assert (inferior, down, right) == (-1, -1, 1)
    assert letters_of(viewer) == ("A", "P", "R", "L")


def test_the_letters_survive_other_dimensions(shown: ViewerModel) -> None:
    shown.add_image(np.zeros((2, 3, 4, 5)))
    assert letters(shown) == "APRL", "the patient's axes are the last ones"
    shown.dims.order = (1, 2, 0, 3)
    assert letters(shown) == "", "a picture across time"


def test_a_viewer_of_an_older_napari_gets_none() -> None:
    class Old:
        """What matters of a viewer before 0.9."""

    old: Any = Old()
    show_orientation(old)
    assert not vars(old)
