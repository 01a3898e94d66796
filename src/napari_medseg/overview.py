"""A picture of an image and its labels: one slice along each axis, in true proportions, with a legend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import AxisOrder
from napari_medseg.io import files
from napari_medseg.volume import Segmentation, Volume, require_same_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

#: the orientation whose slices are the radiological pictures: head up, anterior up, the patient's left on the right
SHOWN = "IPL"
PLANES = ("axial", "coronal", "sagittal")
_AXES = {"axial": ("A", "P", "R", "L"), "coronal": ("S", "I", "R", "L"), "sagittal": ("S", "I", "A", "P")}
#: grey values are stretched between these percentiles of the slices shown
_WINDOW_PERCENT = (0.5, 99.5)

Array = npt.NDArray[Any]


def save_overview(path: Path, volume: Volume, segmentation: Segmentation) -> None:
    """Write a PNG of the first channel and the labels over it, cut through the labels' middle.

    Raises GridMismatchError where they do not lie on the same grid, FileError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    require_same_grid(volume, segmentation, "the image", "the labels")
    order = AxisOrder.between(volume.grid.orientation, SHOWN)
    grid = volume.grid.reordered(order)
    image, labels = order.apply(np.asarray(volume.data[0])), order.apply(np.asarray(segmentation.data[...]))
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="black")
    canvas = FigureCanvasAgg(figure)
    middle = _middle(labels)
    slices = [(np.take(image, middle[a], a), np.take(labels, middle[a], a)) for a in range(3)]
    grey = np.percentile(np.concatenate([s.ravel() for s, _ in slices]), _WINDOW_PERCENT)
    ids = [int(i) for i in np.unique(labels) if i > 0]
    colours = _colours(len(ids))
    for axis, axes in enumerate(figure.subplots(1, 3)):
        height, width = (grid.spacing[a] for a in range(3) if a != axis)
        _draw(axes, *slices[axis], aspect=height / width, grey=(grey[0], grey[1]), ids=ids, colours=colours)
        _annotate(axes, PLANES[axis])
    _legend(figure, [segmentation.label_name(i) for i in ids], colours)
    with files.replacing(path) as temporary:
        canvas.print_png(temporary)


def _middle(labels: Array) -> tuple[int, int, int]:
    """The centre (z, y, x) of all labels, or of the volume where there are none."""
    if not labels.any():
        z, y, x = (n // 2 for n in labels.shape)
        return z, y, x
    z, y, x = (int(np.median(where)) for where in np.nonzero(labels))
    return z, y, x


def _colours(count: int) -> Colormap:
    import matplotlib as mpl

    return mpl.colormaps["turbo"].resampled(max(2, count))


def _draw(
    axes: Axes,
    image: Array,
    labels: Array,
    *,
    aspect: float,
    grey: tuple[float, float],
    ids: list[int],
    colours: Colormap,
) -> None:
    axes.imshow(image, cmap="gray", vmin=grey[0], vmax=grey[1], aspect=aspect)
    position = np.searchsorted(ids, labels) if ids else labels
    shown = np.ma.masked_where(labels == 0, position)
    axes.imshow(
        shown, cmap=colours, vmin=0, vmax=max(1, len(ids) - 1), alpha=0.45, aspect=aspect, interpolation="nearest"
    )


def _annotate(axes: Axes, plane: str) -> None:
    """The plane's name, and the directions at its edges."""
    axes.set_axis_off()
    axes.set_title(plane, color="white")
    places = ((0.5, 0.97), (0.5, 0.03), (0.03, 0.5), (0.97, 0.5))
    for letter, (x, y) in zip(_AXES[plane], places, strict=True):
        axes.text(x, y, letter, color="white", transform=axes.transAxes, ha="center", va="center")


def _legend(figure: Any, names: list[str], colours: Colormap) -> None:
    from matplotlib.patches import Patch

    if names:
        handles = [Patch(color=colours(i), label=name) for i, name in enumerate(names)]
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, labelcolor="white")
