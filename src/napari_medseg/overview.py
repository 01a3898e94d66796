"""A picture of an image and its labels: one slice along each axis, in true proportions, with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import AxisOrder, triple_of
from napari_medseg.io.disk import files
from napari_medseg.volume import Segmentation, Volume, require_order_onto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = "IPL"
"""Orientation of the radiological pictures: head up, anterior up, the patient's left on the right."""
PLANES = ("axial", "coronal", "sagittal")
_AXES = {"axial": ("A", "P", "R", "L"), "coronal": ("S", "I", "R", "L"), "sagittal": ("S", "I", "A", "P")}
_PERCENTILES = (1.0, 99.0)
_OPACITY = 0.45
_FEW = 8
"""Largest number of labels that the qualitative colour map distinguishes."""

Array = npt.NDArray[Any]
Pair = tuple[float, float]
Colours = dict[int, tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice as it is shown: rows run down, columns to the right."""

    name: str
    image: Array
    labels: Array
    spacing_mm: Pair
    """Between rows, and between columns."""

    @property
    def width_mm(self) -> float:
        return float(self.image.shape[1] * self.spacing_mm[1])


def cut_planes(volume: Volume, segmentation: Segmentation) -> list[Plane]:
    """The axial, coronal and sagittal slice of the first channel through the labels' middle.

    Raises GridMismatchError where image and labels do not lie on the same grid.
    """
    stored = require_order_onto(segmentation, volume, "the labels", "the image")
    order = AxisOrder.between(volume.grid.orientation, SHOWN)
    spacing = volume.grid.reordered(order).spacing
    image = order.apply(np.asarray(volume.data[0]))
    labels = order.apply(stored.apply(np.asarray(segmentation.data[...])))
    planes = []
    for axis, (name, at) in enumerate(zip(PLANES, _middle(labels), strict=True)):
        rows, columns = (step for other, step in enumerate(spacing) if other != axis)
        planes.append(Plane(name, np.take(image, at, axis), np.take(labels, at, axis), (rows, columns)))
    return planes


def save_overview(path: Path, volume: Volume, segmentation: Segmentation) -> None:
    """Write a PNG of the three planes with the labels over them.

    Raises GridMismatchError where image and labels do not lie on the same grid, FileError where the file cannot be
    written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planes = cut_planes(volume, segmentation)
    grey = _grey_window(planes)
    shown = np.unique(np.concatenate([plane.labels.ravel() for plane in planes]))
    colours = _colours([int(label) for label in shown if label > 0])
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="black")
    canvas = FigureCanvasAgg(figure)
    # Columns as wide as their planes, so that a millimetre is about the same in all three.
    widths = {"width_ratios": [plane.width_mm for plane in planes]}
    for plane, axes in zip(planes, figure.subplots(1, 3, gridspec_kw=widths), strict=True):
        _draw(axes, plane, grey, colours)
        _annotate(axes, plane.name)
    _legend(figure, {segmentation.label_name(label): colour for label, colour in colours.items()})
    with files.replacing(path) as temporary:
        canvas.print_png(temporary)


def _middle(labels: Array) -> tuple[int, int, int]:
    """The centre (z, y, x) of all labels, or of the volume where there are none."""
    if not labels.any():
        return triple_of(n // 2 for n in labels.shape)
    return triple_of(int(np.median(where)) for where in np.nonzero(labels))


def _grey_window(planes: list[Plane]) -> Pair:
    """The intensities shown black and white: the range of the labelled voxels, widened by its width on either side."""
    image = np.concatenate([plane.image.ravel() for plane in planes])
    labelled = np.concatenate([plane.labels.ravel() for plane in planes]) > 0
    low, high = np.percentile(image[labelled] if labelled.any() else image, _PERCENTILES)
    margin = high - low if labelled.any() else 0.0
    return float(low - margin), float(high + margin)


def _colours(ids: list[int]) -> Colours:
    """{label id: RGB}: from a qualitative map if they are few, else along the hues."""
    import matplotlib as mpl

    colour_map = mpl.colormaps["Set1"] if len(ids) <= _FEW else mpl.colormaps["hsv"].resampled(len(ids) + 1)
    return {label: colour_map(position)[:3] for position, label in enumerate(ids)}


def _draw(axes: Axes, plane: Plane, grey: Pair, colours: Colours) -> None:
    overlay = np.zeros((*plane.labels.shape, 4))
    for label, colour in colours.items():
        overlay[plane.labels == label] = (*colour, _OPACITY)
    aspect = plane.spacing_mm[0] / plane.spacing_mm[1]
    axes.imshow(plane.image, cmap="gray", vmin=grey[0], vmax=grey[1], aspect=aspect)
    axes.imshow(overlay, aspect=aspect, interpolation="nearest")


def _annotate(axes: Axes, plane: str) -> None:
    """The plane's name, and the directions at its edges."""
    from matplotlib.patheffects import withStroke

    axes.set_axis_off()
    axes.set_title(plane, color="white")
    places = ((0.5, 0.97), (0.5, 0.03), (0.03, 0.5), (0.97, 0.5))
    for letter, (x, y) in zip(_AXES[plane], places, strict=True):
        text = axes.text(x, y, letter, color="white", transform=axes.transAxes, ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _legend(figure: Figure, colours: dict[str, tuple[float, float, float]]) -> None:
    from matplotlib.patches import Patch

    if colours:
        handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, labelcolor="white")
