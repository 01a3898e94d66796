"""Make the moving picture of the start page: `xvfb-run -a -s "-screen 0 1600x1200x24" python docs/moving.py`.

A real window: a CT is opened, organs are clicked one by one, and the masks are shown in 3D. It needs $MEDSEG_DATA (the
CT is a reference file of TotalSegmentator, Apache-2.0), and writes docs/images/moving.gif.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import napari
import numpy as np
from PIL import Image
from screenshots import CLICKS
from window import CT, IMAGES, add_image, add_labels, shot, wait, window

import napari_medseg as ms

WIDTH, HEIGHT = 760, 520
COLOURS = 64
HOLD_MS, TURN_MS, END_MS = 700, 120, 2000
MOST_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Frame:
    """A picture, and how long it stays."""

    pixels: np.ndarray
    ms: int


def frames(viewer: napari.Viewer) -> Iterator[Frame]:
    """Open, click, fill, turn."""
    volume = ms.read(CT / "example_ct_sm.nii.gz")
    image = add_image(viewer, CT / "example_ct_sm.nii.gz")
    image.contrast_limits = (-160, 240)
    session = ms.interact(volume)
    masks = add_labels(viewer, session.segmentation, name="masks", opacity=0.6)
    cross = viewer.add_points(
        np.empty((0, 3)), name="clicks", symbol="cross", face_color="yellow", size=9, units=image.units
    )
    cross.scale, cross.translate = image.scale, image.translate
    cross.affine = image.affine
    viewer.reset_view(margin=0)
    for label, voxels in CLICKS.values():
        for voxel in voxels:
            viewer.dims.set_point(range(3), image.data_to_world(voxel))
            cross.data = np.array([voxel], dtype=float)
            yield Frame(shot(viewer), HOLD_MS)
            masks.data = np.asarray(session.add(ms.Point(voxel, label=label)).data[...])
            yield Frame(shot(viewer), HOLD_MS)
    cross.data = np.empty((0, 3))
    viewer.dims.ndisplay = 3
    image.visible = False
    for angle in range(0, 180, 20):
        viewer.scene.camera.angles = (0, angle, 80)
        yield Frame(shot(viewer), TURN_MS)
    yield Frame(shot(viewer), END_MS)


def write_gif(moving: list[Frame]) -> int:
    """Write the frames with one palette of all; returns the bytes."""
    path = IMAGES / "moving.gif"
    palette = Image.fromarray(np.concatenate([f.pixels[::4, ::4, :3] for f in moving])).quantize(COLOURS)
    pictures = [
        Image.fromarray(frame.pixels[..., :3]).quantize(palette=palette, dither=Image.Dither.NONE) for frame in moving
    ]
    times = [frame.ms for frame in moving]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)
    return path.stat().st_size


def main() -> None:
    with window(WIDTH, HEIGHT) as viewer:
        viewer.window._qt_viewer.dockLayerControls.setVisible(False)
        wait(at_least_s=1.0)
        size = write_gif(list(frames(viewer)))
    print(f"moving.gif: {size} bytes")
    if size > MOST_BYTES:
        raise SystemExit(f"moving.gif has more than {MOST_BYTES} bytes: take fewer frames or colours")


if __name__ == "__main__":
    main()
