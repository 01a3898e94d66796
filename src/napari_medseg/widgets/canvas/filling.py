"""Labels layers that a run fills: the user looks on and paints when it is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseg.arrays.boxes import Box
from napari_medseg.widgets.canvas.layers import placement

if TYPE_CHECKING:
    from napari.layers import Labels


def begin_filling(layer: Labels) -> None:
    """Let nobody paint: the run would write over it."""
    layer.editable = False


def show_filled(layer: Labels, box: Box, point: tuple[float, ...]) -> None:
    """Draw a box of a segmentation's voxels that has changed in the layer's array: nothing else goes to the screen.

    point: of the world, where the viewer's slices lie.
    """
    if layer.ndim != 3 or not placement(layer).is_direct:
        layer.refresh(extent=False)
        return
    displayed = layer._slice_input.displayed
    if len(displayed) == 3 and layer.loaded and layer._slice.image.raw.shape == layer.data.shape:
        # As napari does with a stroke of the brush: a part of the texture, at its place.
        part = tuple(box[axis] for axis in displayed)
        colours = layer._raw_to_displayed(layer._slice.image.raw, data_slice=part)
        layer._slice.image.view[part] = colours
        layer.events.labels_update(data=colours, offset=[side.start for side in part])
        return
    at = layer.world_to_data(point[-3:])
    if all(box[axis].start <= round(at[axis]) < box[axis].stop for axis in range(3) if axis not in displayed):
        layer.refresh(extent=False)


def end_filling(layer: Labels) -> None:
    """Let the user paint, in a finished layer and in the part that a cancelled run left.

    The history starts here: undo would write what was there before the run.
    """
    # napari forgets the history when a layer stops being editable.
    layer.editable = True
    layer.editable = False
    layer.editable = True
