"""The two Labels layers that are compared, as the core takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal

from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.volume import Grid, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import PROVENANCE_KEY, placement, to_segmentation, to_volume
from napari_medseg.widgets.fields.layer_box import LayerBox

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


@dataclass(frozen=True, eq=False)
class LayerPair:
    """Two layers as they were at a moment; a script may give them other arrays, or another place, at any time."""

    layers: tuple[Labels, Labels]
    """(prediction, reference), as in `arrays`."""
    arrays: tuple[Any, Any]
    """What the layers held."""
    segmentations: dict[str, Segmentation]
    """{"prediction": ..., "reference": ...}: what the core takes."""

    def same_as(self, other: LayerPair) -> bool:
        """Whether both hold the same arrays on the same grids; painting into an array does not count."""
        if any(mine is not its for mine, its in zip(self.arrays, other.arrays, strict=True)):
            return False
        return all(mine.grid.same_as(other.segmentations[role].grid) for role, mine in self.segmentations.items())


class ComparedLayers(QObject):
    """Two drop-downs of Labels layers; `changed` is emitted when one of them changes."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.reference = LayerBox(viewer, Labels, "The labels that count as true (A).", first=_reference_of)
        self.prediction = LayerBox(
            viewer, Labels, "The labels to judge (B).", unlike=self.reference, beside=_at_one_place
        )
        for box in (self.reference, self.prediction):
            box.layer_changed.connect(lambda _: self.changed.emit())

    @property
    def layers(self) -> tuple[Labels, Labels] | None:
        """(prediction, reference); None until two are chosen."""
        chosen = (self.prediction.layer, self.reference.layer)
        return None if None in chosen or chosen[0] is chosen[1] else chosen

    @property
    def missing(self) -> str:
        """What the user has to do first; empty where two layers are chosen."""
        if not self.prediction.layers:
            return "Open or paint two Labels layers: the prediction, and the reference to compare it with."
        if self.layers is None:
            return "Reference and prediction are the same layer: choose two, or open another one."
        return ""

    @property
    def among(self) -> list[Any]:
        """The viewer's layers: a layer without a Grid of ours takes the Grid of a layer at the same place."""
        return list(self._viewer.layers)

    def pair(self) -> LayerPair:
        """The two as they are now, wrapped and never copied.

        Raises GridMismatchError where they lie on different grids, InputError for time series and the like.
        """
        assert self.layers is not None, "the buttons are off before both are chosen"
        pair = self.pair_of(*self.layers)
        if pair.segmentations["prediction"].grid.order_onto(pair.segmentations["reference"].grid) is None:
            prediction, reference = (layer.name for layer in pair.layers)
            raise GridMismatchError(
                f"{prediction!r} and {reference!r} lie on different grids: choose two of one image, or bring one onto "
                f"the other in the Resample panel"
            )
        return pair

    def pair_of(self, prediction: Labels, reference: Labels) -> LayerPair:
        """The same for two layers that were chosen before."""
        segmentations = {
            "prediction": to_segmentation(prediction, self.among),
            "reference": to_segmentation(reference, self.among),
        }
        return LayerPair((prediction, reference), (prediction.data, reference.data), segmentations)

    def image_on(self, reference: Labels) -> Volume | None:
        """The topmost image of the viewer on the reference's grid, or None."""
        grid = placement(reference, self.among).grid
        for layer in reversed(self.among):
            if isinstance(layer, Image) and not layer.rgb and self._lies_on(grid, layer):
                return to_volume(layer, self.among)
        return None

    def _lies_on(self, grid: Grid, layer: Image) -> bool:
        try:
            return placement(layer, self.among).grid.same_as(grid)
        except InputError:  # time series, or no lengths on its axes
            return False


def _reference_of(layers: Sequence[Layer]) -> Layer:
    """The oldest layer that no model made, where there is one; of those at the place of the top one, if it has others.

    layers: the top one first.
    """
    here = [layer for layer in layers if _at_one_place(layer, layers[0])]
    here = here if len(here) > 1 else list(layers)
    drawn = [layer for layer in here if PROVENANCE_KEY not in layer.metadata]
    return (drawn or here)[-1]


def _at_one_place(a: Layer, b: Layer) -> bool:
    """Whether two layers have the same shape and the same place in the world."""
    pairs = ((a.extent.data, b.extent.data), (a.extent.world, b.extent.world))
    return a.ndim == b.ndim and all(np.allclose(mine, its) for mine, its in pairs)
