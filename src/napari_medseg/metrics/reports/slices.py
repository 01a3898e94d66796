"""Slices through the worst place of each label, with both outlines, for a report."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.arrays.views import Reordered
from napari_medseg.config import Preset
from napari_medseg.events import run_to_end
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics.descriptive.intensity import channel_in
from napari_medseg.metrics.pairwise.places import LabelSurfaces, all_boxes_in_steps, surfaces_of
from napari_medseg.metrics.pairwise.surface import Mask
from napari_medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_medseg.metrics.pairwise.scores import Scores

_SEEN = "IPL"
"""The axis order of arrays whose slices look as radiologists expect: axial, coronal and sagittal."""
_MARGIN_MM = 15.0
"""Margin around a label, in mm."""
_WINDOW = (1.0, 99.0)
"""Percentiles of the grey values that are drawn black and white."""
_DPI = 110
_INCHES = 2.6
_REFERENCE, _PREDICTION, _WORST = "#009E73", "#E69F00", "#D55E00"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of one label, in a file of its own."""

    case: str = ""
    label: int
    name: str
    caption: str
    """A sentence about the picture."""
    png: bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """A slice (rows, columns), of an image or on white, with two outlines and a ring."""

    grey: npt.NDArray[Any] | None
    reference: Mask
    prediction: Mask
    worst_xy: tuple[int, int]
    """Column and row of the ring's centre."""
    aspect: float
    """Height of a voxel over its width."""

    def png(self) -> bytes:
        """The picture as a PNG file."""
        from matplotlib.figure import Figure

        rows, columns = self.reference.shape
        figure = Figure(figsize=(_INCHES, min(2 * _INCHES, _INCHES * self.aspect * rows / columns)), dpi=_DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        self._draw(axes)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()

    def _draw(self, axes: Axes) -> None:
        if self.grey is None:
            axes.imshow(np.ones(self.reference.shape), cmap="gray", vmin=0, vmax=1, aspect=self.aspect)
        else:
            low, high = np.nanpercentile(self.grey, _WINDOW)
            axes.imshow(self.grey, cmap="gray", vmin=low, vmax=high, aspect=self.aspect)
        rows, columns = (np.arange(-1, n + 1) for n in self.reference.shape)
        for mask, colour, style in ((self.reference, _REFERENCE, "-"), (self.prediction, _PREDICTION, "--")):
            if mask.any():
                axes.contour(
                    columns, rows, np.pad(mask, 1), levels=[0.5], colors=colour, linestyles=style, linewidths=1.2
                )
        axes.plot(
            *self.worst_xy, "o", markersize=14, markerfacecolor="none", markeredgecolor=_WORST, markeredgewidth=1.5
        )


def labels_by_worst_case(scores: Scores) -> dict[str, list[int]]:
    """{case: the labels that have their lowest Dice in it}, cases in their order; "" names a single case."""
    worst: dict[str, list[int]] = {row.case: [] for row in scores.rows}
    for label in sorted({row.label for row in scores.rows}):
        lowest = min(scores.of_label(label).rows, key=lambda row: row.dice)
        worst[lowest.case].append(label)
    return {case: labels for case, labels in worst.items() if labels}


def worst_slices(
    *,
    prediction: Segmentation,
    reference: Segmentation,
    image: Volume | None = None,
    labels: Sequence[int] | None = None,
    preset: Preset = "survey",
) -> Iterator[Picture]:
    """Yield for each label, or those of `labels`, the slice where its surfaces are farthest apart, with a ring there.

    Labels that neither of the two has are left out: they may have been erased after the scores were made.

    Slices are perpendicular to the axis with the largest spacing, so that they are as sharp as the image. An image of
    one slice is shown whole. Raises GridMismatchError unless all lie on the same grid, up to flips and permutations of
    the axes.
    """
    seen = _as_seen(reference)
    boxes = run_to_end(all_boxes_in_steps(prediction, seen)) if labels is None or labels else {}
    for label in boxes if labels is None else [k for k in labels if k in boxes]:
        surfaces = surfaces_of(label, boxes[label], prediction, seen, preset)
        yield _picture(surfaces, seen, image, reference.labels.get(label) or prediction.label_name(label))


def _as_seen(reference: Segmentation) -> Segmentation:
    """The same labels in the axis order of a picture; nothing is copied."""
    order = AxisOrder.between(reference.grid.orientation, _SEEN)
    data = Reordered(reference.data, order)
    return Segmentation(data, reference.grid.reordered(order), reference.labels, name=reference.name)


def _picture(surfaces: LabelSurfaces, seen: Segmentation, image: Volume | None, name: str) -> Picture:
    worst, spacing = surfaces.worst, seen.grid.spacing
    # An axis of one voxel cannot be a side of the picture.
    axis = max(range(3), key=lambda k: (seen.grid.shape[k] == 1, spacing[k]))
    around = _around(surfaces.box, seen, axis, worst.index_zyx[axis])
    rows, columns = (k for k in range(3) if k != axis)
    shown = Slice(
        grey=None if image is None else channel_in(image, 0, seen, around).take(0, axis),
        reference=_plane(surfaces.reference, surfaces.box, around, axis),
        prediction=_plane(surfaces.prediction, surfaces.box, around, axis),
        worst_xy=(worst.index_zyx[columns] - around[columns].start, worst.index_zyx[rows] - around[rows].start),
        aspect=spacing[rows] / spacing[columns],
    )
    apart = "one of the two is missing" if math.isinf(worst.distance_mm) else f"{worst.distance_mm:.1f} mm apart"
    s, p, l = seen.grid.index_to_world(worst.index_zyx).tolist()  # noqa: E741
    caption = f"{name}: worst place at S {s:.0f}, P {p:.0f}, L {l:.0f} mm, {apart}"
    return Picture(label=surfaces.label, name=name, caption=caption, png=shown.png())


def _around(box: Box, seen: Segmentation, axis: int, at: int) -> Box:
    """The slice `at` of an axis, as large as the label and a margin."""
    sides = []
    for k, (b, n, step) in enumerate(zip(box, seen.grid.shape, seen.grid.spacing, strict=True)):
        margin = math.ceil(_MARGIN_MM / step)
        sides.append(slice(at, at + 1) if k == axis else slice(max(0, b.start - margin), min(n, b.stop + margin)))
    return sides[0], sides[1], sides[2]


def _plane(mask: Mask, box: Box, around: Box, axis: int) -> Mask:
    """The slice of a mask of `box`, as large as `around`."""
    plane = mask.take(around[axis].start - box[axis].start, axis)
    sides = [
        (b.start - a.start, a.stop - b.stop) for k, (b, a) in enumerate(zip(box, around, strict=True)) if k != axis
    ]
    return np.pad(plane, sides)
