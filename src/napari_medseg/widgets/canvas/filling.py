"""Labels layers that a run fills: the user looks on and paints when it is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseg.arrays.boxes import Box
from napari_medseg.widgets.canvas.layers import placement

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Labels


def begin_filling(layer: Labels) -> None:
    """Let nobody paint: the run would write over it."""
    layer.editable = False


def show_filled(layer: Labels, box: Box, dims: Dims) -> None:
    """Draw the layer anew if a box of voxels that has changed in its array lies in the slice that the viewer shows.

    In 3D all of it is drawn. dims: the viewer's.
    """
    extra = dims.ndim - 3
    if layer.ndim == 3 and extra >= 0 and dims.ndisplay == 2 and placement(layer).is_direct:
        at = layer.world_to_data(dims.point[extra:])
        hidden = [axis - extra for axis in dims.not_displayed if axis >= extra]
        if not all(box[axis].start <= round(at[axis]) < box[axis].stop for axis in hidden):
            return
    layer.refresh(extent=False)


def end_filling(layer: Labels) -> None:
    """Let the user paint, in a finished layer and in the part that a cancelled run left.

    The history starts here: undo would write what was there before the run.
    """
    # napari forgets the history when a layer stops being editable.
    layer.editable = True
    layer.editable = False
    layer.editable = True
