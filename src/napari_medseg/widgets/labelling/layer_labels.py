"""What the Labels table changes of a Labels layer: names, what is shown, voxels. A step of the history each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.utils import DirectLabelColormap

from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import COLOURS_KEY, label_names, set_label_names

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.widgets.canvas.layers import Placement

_NOWHERE = (0.0, 0.0, 0.0, 0.0)
"""The colour of a label that is not shown (RGBA)."""


@dataclass(frozen=True, eq=False)
class Edit:
    """Voxels of a layer's array that are to change."""

    indices: tuple[npt.NDArray[np.intp], ...]
    """One array an axis of the layer."""
    before: npt.NDArray[Any]
    after: npt.NDArray[Any]

    @classmethod
    def between(cls, before: Segmentation, after: Segmentation, place: Placement) -> Edit:
        """What differs, in the order of the layer that shows `before` by this placement."""
        old, new = (np.asarray(place.to_layer(one.data)) for one in (before, after))
        indices = np.nonzero(old != new)
        return cls(indices, old[indices], new[indices])

    def apply(self, layer: Labels) -> int:
        """Change the voxels in one step of the layer's history; return how many.

        A voxel that was painted since the edit was worked out keeps its paint.
        """
        same = np.asarray(layer.data[self.indices]) == self.before
        if same.any():
            layer.data_setitem(tuple(index[same] for index in self.indices), self.after[same])
        return int(np.count_nonzero(same))

    def reversed(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(self.indices, self.after, self.before)

    def show(self, layer: Labels, *, before: bool) -> None:
        """Show the voxels as they were, or as they are now, without a step of the history; later paint stays."""
        old, new = (self.after, self.before) if before else (self.before, self.after)
        same = np.asarray(layer.data[self.indices]) == old
        layer.data[tuple(index[same] for index in self.indices)] = new[same]
        layer.refresh()


def rename(layer: Labels, label: int, name: str) -> None:
    """Give a label a name, or none (""): see `set_label_names`."""
    set_label_names(layer, {**label_names(layer), label: name.strip()})


def hidden_labels(layer: Labels) -> frozenset[int]:
    """The labels that `with_hidden` left out."""
    if COLOURS_KEY not in layer.metadata or not isinstance(layer.colormap, DirectLabelColormap):
        return frozenset()
    colours = layer.colormap.color_dict
    return frozenset(k for k, colour in colours.items() if k and not np.asarray(colour)[3])


def full_colours(layer: Labels) -> Any:
    """The layer's colours with all labels shown."""
    return layer.metadata[COLOURS_KEY] if hidden_labels(layer) else layer.colormap


def with_hidden(colours: Any, labels: Iterable[int], hidden: frozenset[int], dtype: npt.DTypeLike) -> Any:
    """The colours of a layer that shows its labels except some.

    labels: ids that occur. A label that is painted later has the colour that the layer gave it before, up to 255.
    Made in a worker: napari compiles such colours with numba at their first use.
    """
    if not hidden:
        return colours
    most = min(255, np.iinfo(dtype).max) if np.dtype(dtype).kind != "b" else 1
    shown: dict[int | None, Any] = {k: colours.map(k) for k in sorted({*labels, *range(1, most + 1)})}
    shown |= dict.fromkeys((0, None, *hidden), _NOWHERE)
    made = DirectLabelColormap(color_dict=shown)
    made.map(np.zeros(1, dtype))
    return made


def show_colours(layer: Labels, full: Any, colours: Any) -> None:
    """Show the layer by `colours`; `full` are those of all its labels."""
    if colours is full:
        layer.metadata.pop(COLOURS_KEY, None)
    else:
        layer.metadata[COLOURS_KEY] = full
    layer.colormap = colours
