"""The letters at the edges of the canvas that say which way the patient lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medseg.widgets.canvas.layers import GRID_KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel

_ENDS = (("S", "I"), ("A", "P"), ("R", "L"))
"""The ends of napari's world axes (I, P, L): where an axis comes from, where it runs to."""
_EDGES = ("top_center", "bottom_center", "middle_left", "middle_right")
_PREFIX = "napari_medseg "
_LETTER, _BOX = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.6)
"""Readable on any image and in any theme (RGBA)."""


def show_orientation(viewer: ViewerModel) -> None:
    """Letters at the four edges from now on, in 2D and while a layer with our geometry is there.

    Once per viewer is enough. napari before 0.9 has no place for letters and shows none.
    """
    canvas = getattr(viewer, "canvas", None)
    if canvas is None or any(name.startswith(_PREFIX) for name in canvas.overlays):
        return
    from napari.components.overlays import TextOverlay

    for edge in _EDGES:
        # Without a colour and a box of their own they take the canvas' opposite: black in the light theme, where they
        # lie on the dark image.
        canvas.overlays[_PREFIX + edge] = TextOverlay(
            position=edge, font_size=12, color=_LETTER, box=True, box_color=_BOX
        )

    def update(_event: Any = None) -> None:
        placed = any(GRID_KEY in layer.metadata for layer in viewer.layers)
        letters = letters_of(viewer) if placed else ("", "", "", "")
        for edge, letter in zip(_EDGES, letters, strict=True):
            overlay = canvas.overlays[_PREFIX + edge]
            overlay.text, overlay.visible = letter, bool(letter)

    # A function, not a method: napari holds methods only weakly, and nothing else holds this one.
    for emitter in (
        viewer.layers.events.inserted,
        viewer.layers.events.removed,
        viewer.dims.events.order,
        viewer.dims.events.ndim,
        viewer.dims.events.ndisplay,
        viewer.scene.camera.events.orientation,
    ):
        emitter.connect(update)
    update()


def letters_of(viewer: ViewerModel) -> tuple[str, str, str, str]:
    """The letters at top, bottom, left and right; empty in 3D and where other axes than the patient's are shown.

    Those are the last three of the viewer, which lines its layers up there.
    """
    shown = [axis - viewer.dims.ndim for axis in viewer.dims.displayed]
    if viewer.dims.ndisplay != 2 or viewer.dims.ndim < 3 or min(shown) < -3:
        return "", "", "", ""
    vertical, horizontal = (_ENDS[axis] for axis in shown)
    down, right = viewer.scene.camera.orientation2d
    top, bottom = vertical if str(down) == "down" else vertical[::-1]
    left, right_end = horizontal if str(right) == "right" else horizontal[::-1]
    return top, bottom, left, right_end
