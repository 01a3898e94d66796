"""The intensities of an image inside each label of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, mask_of
from napari_medseg.arrays.label_boxes import label_boxes
from napari_medseg.metrics.inputs import require_segmentation, require_volume
from napari_medseg.volume import Segmentation, Volume, require_order_onto


@dataclass(frozen=True, kw_only=True)
class IntensityRow:
    """The intensities of one channel inside one label, in the image's own unit."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    channel: str
    """Channel of the image."""
    voxels: int
    """Voxels of the label whose intensity is finite."""
    mean: float
    """Mean intensity inside the label."""
    sd: float
    """Standard deviation inside the label (divided by n)."""
    minimum: float
    """Smallest intensity inside the label."""
    p5: float
    """5th percentile."""
    p25: float
    """25th percentile."""
    median: float
    """50th percentile."""
    p75: float
    """75th percentile."""
    p95: float
    """95th percentile."""
    maximum: float
    """Largest intensity inside the label."""


def intensity_statistics(segmentation: Segmentation, image: Volume) -> tuple[IntensityRow, ...]:
    """A row for each label id > 0 that occurs, and each channel.

    Memory holds one channel of one label's bounding box. Raises GridMismatchError unless both lie on the same
    grid, up to flips and permutations of the axes, InputError for bare arrays.
    """
    require_segmentation(segmentation, "the segmentation")
    require_volume(image, "the image")
    boxes = label_boxes(segmentation.data, "the segmentation")
    rows = []
    for label, box in sorted(boxes.items(), key=lambda item: item[0]):
        mask = mask_of(segmentation.data, label, box)
        for number, channel in enumerate(image.channels):
            values = channel_in(image, number, segmentation, box)[mask]
            rows.append(_row(values, label=label, name=segmentation.label_name(label), channel=channel))
    return tuple(rows)


def channel_in(image: Volume, channel: int, on: Segmentation, box: Box) -> npt.NDArray[Any]:
    """One channel (Z, Y, X) of an image, in a box of the segmentation's grid; nothing else is read.

    Raises GridMismatchError unless both lie on the same grid, up to flips and permutations of the axes.
    """
    order = require_order_onto(image, on, "the image", "the segmentation")
    return order.apply(np.asarray(image.data[(channel, *order.source_slices(box, image.grid.shape))]))


def _row(values: npt.NDArray[Any], *, label: int, name: str, channel: str) -> IntensityRow:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        finite = np.array([np.nan])
    p5, p25, median, p75, p95 = np.percentile(finite, (5, 25, 50, 75, 95)).tolist()
    return IntensityRow(
        label=label,
        name=name,
        channel=channel,
        voxels=int(np.isfinite(values).sum()),
        mean=float(finite.mean()),
        sd=float(finite.std()),
        minimum=float(finite.min()),
        p5=p5,
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
        maximum=float(finite.max()),
    )
