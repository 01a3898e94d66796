"""Labels layers that a run fills: the user looks on and paints when it is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Labels


def begin_filling(layer: Labels) -> None:
    """Let nobody paint: the run would write over it."""
    layer.editable = False


def end_filling(layer: Labels) -> None:
    """Let the user paint, in a finished layer and in the part that a cancelled run left.

    The history starts here: undo would write what was there before the run.
    """
    # napari forgets the history when a layer stops being editable.
    layer.editable = True
    layer.editable = False
    layer.editable = True
