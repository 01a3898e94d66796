"""Models of other programs over a volume, with the steps, windows and outputs that the source program has.

The image is prepared as a whole, the windows' outputs are summed plane by plane: no array of classes x volume exists,
but for the masks of regions where only their largest component is kept.
Shapes: images are (C, Z, Y, X), outputs (K, Y, X), in the model's axis order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from napari_medseg.arrays.boxes import whole
from napari_medseg.events import Event, Filled, Progress, Regions, Started, told_once
from napari_medseg.geometry import AxisMap
from napari_medseg.inference.plan import InferencePlan, Maps
from napari_medseg.inference.results.rows import RowWriter
from napari_medseg.inference.source.prepared import Prepared, preparing
from napari_medseg.inference.windows import WindowGrid
from napari_medseg.models.pipeline import Output
from napari_medseg.transforms.spatial import resample_axis
from napari_medseg.volume import Segmentation, Volume, label_dtype

if TYPE_CHECKING:
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.spec import ModelSpec

Labels = npt.NDArray[np.integer]
_HALF = 0.5


def segment_prepared(
    volume: Volume, plan: InferencePlan, predictor: Predictor, result: Segmentation, regions: Mapping[str, Segmentation]
) -> Generator[Event, None, None]:
    """Fill `result.data` with the labels of `volume`, and each region with its voxels, plane by plane.

    regions: by name, one for each of the model's, or none. Yields Started, Regions where there are some, Progress per
    step and per batch of windows, and Filled.
    """
    yield Started(plan.describe(), result, plan)
    if regions:
        yield Regions(regions)
    labels = yield from told_once(_labels(volume, plan, predictor, [region.data for region in regions.values()]))
    target: Any = result.data  # an array, or one of a store
    target[...] = plan.order.inverse.apply(labels).astype(target.dtype)
    yield Filled(whole(volume.grid.shape))


def fill_regions(
    volume: Volume, plan: InferencePlan, predictor: Predictor, regions: Sequence[Any]
) -> Generator[Event, None, None]:
    """Fill an array (Z, Y, X) for each region of a model, in the order of its outputs: 1 inside, also where they
    overlap."""
    yield from _labels(volume, plan, predictor, regions)


class _RegionRows:
    """Writes the regions in outputs that come plane by plane, in the model's axis order, to arrays in stored order."""

    def __init__(self, plan: InferencePlan, regions: Sequence[Any]) -> None:
        self._level = level_of(plan.spec)
        _, *self._sides = box = whole(plan.image_grid.shape)
        self._rows = [RowWriter(array, plan.order, box) for array in regions]

    def put(self, index: int, outputs: torch.Tensor) -> None:
        """Outputs (K, Y, X) of a plane."""
        y, x = self._sides
        for rows, output in zip(self._rows, outputs, strict=True):
            rows.put((slice(index, index + 1), y, x), (output > self._level)[None].cpu().numpy())
            rows.advance(index + 1)


def _labels(
    volume: Volume, plan: InferencePlan, predictor: Predictor, regions: Sequence[Any] = ()
) -> Generator[Event, None, Labels]:
    """The label ids (Z, Y, X) on the image's grid, in the model's axis order. regions: arrays that are filled too."""
    spec, output = plan.spec, plan.spec.output
    labels: Labels = np.zeros(plan.image_grid.shape, label_dtype(max(spec.label_ids)))
    ids = np.asarray(spec.label_ids)
    rows = _RegionRows(plan, regions)
    are_cleaned = bool(output.largest_regions or (output.largest and regions))
    masks = np.zeros((len(output.regions), *labels.shape), bool) if are_cleaned else None

    def keep(index: int, outputs: torch.Tensor) -> None:
        if masks is not None:
            masks[:, index] = (outputs > level_of(spec)).cpu().numpy()
            return
        labels[index] = ids[classes_of(outputs, spec).cpu().numpy()]
        if regions:
            rows.put(index, outputs)

    yield from _outputs(volume, plan, predictor, keep)
    if masks is None:
        return largest_kept(labels, output)
    labels = cleaned(masks, spec)
    for index in range(len(labels)) if regions else ():
        rows.put(index, torch.from_numpy(masks[:, index]).float())
    return labels


def cleaned(masks: npt.NDArray[np.bool_], spec: ModelSpec) -> Labels:
    """The label ids (Z, Y, X) of the masks of regions (K, Z, Y, X), with the largest components alone; so are the masks
    afterwards."""
    for group in spec.output.largest_regions:
        channels = list(group)
        masks[channels] &= largest_of(np.any(masks[channels], axis=0))
    ids = np.asarray(spec.label_ids, label_dtype(max(spec.label_ids)))
    classes = [classes_of(torch.from_numpy(masks[:, z]).float(), spec).numpy() for z in range(masks.shape[1])]
    labels = ids[np.stack(classes)]
    kept = largest_kept(labels.copy(), spec.output)
    masks &= kept == labels
    return kept


def _outputs(
    volume: Volume, plan: InferencePlan, predictor: Predictor, keep: Callable[[int, torch.Tensor], None]
) -> Generator[Event, None, None]:
    """Run the model; `keep(index, outputs)` gets the outputs (K, Y, X) of each plane of the image's grid."""
    before: Labels | None = None
    if plan.first is not None:
        assert predictor.first is not None, "the model of a cascade brings the network of its first stage"
        before = yield from _labels(volume, plan.first, predictor.first)
    prepared = yield from preparing(volume, plan)
    values = torch.from_numpy(np.ascontiguousarray(prepared.values))
    if before is not None:
        assert plan.first is not None, "just looked at"
        values = torch.cat([values, _one_hot(before, prepared, plan.first.spec.label_ids[1:])])
    planes = _Planes(plan, predictor, values)
    done = 0
    for index, outputs in brought_back(planes, prepared.maps):
        keep(index, outputs)
        if planes.done > done:
            done = planes.done
            yield Progress(done, planes.total, "windows")


class _Planes:
    """The mean outputs of the windows, plane after plane of the model's grid, activated where the model says so."""

    def __init__(self, plan: InferencePlan, predictor: Predictor, values: torch.Tensor) -> None:
        self._plan, self._predictor = plan, predictor
        self._halo = plan.halo
        _, depth, height, width = values.shape
        self._windows = plan.windows_on((depth, height, width))
        self._window = self._windows.window
        before = self._windows.pad_before
        self._inside = [slice(b, b + n) for b, n in zip(before, self._windows.shape, strict=True)]
        self._values = _padded(values, self._windows, plan.spec.sliding.padding)
        self.total = len(self._windows)
        self.done = 0
        """Windows that have run."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        device = self._predictor.device
        shape = (self._plan.spec.outputs, *self._values.shape[2:])
        constant = self._plan.spec.sliding.blending == "constant"
        weight = torch.from_numpy(np.ones(self._window, np.float32) if constant else self._windows.weight).to(device)
        sums: dict[int, torch.Tensor] = {}
        weights: dict[int, torch.Tensor] = {}
        for z, following, corners in self._windows.rows():
            for plane in range(z, z + self._window[0]):
                if plane not in sums:
                    sums[plane] = torch.zeros(shape, device=device)
                    weights[plane] = torch.zeros(shape[1:], device=device)
            for batch in _batches(corners, self._plan.batch_size):
                for (y, x), outputs in zip(batch, self._run(z, batch), strict=True):
                    here = (slice(y, y + self._window[1]), slice(x, x + self._window[2]))
                    weighted = outputs * weight
                    for i in range(self._window[0]):
                        sums[z + i][:, here[0], here[1]] += weighted[:, i]
                        weights[z + i][here] += weight[i]
                self.done += len(batch)
            for plane in range(z, following):
                mean = sums.pop(plane) / weights.pop(plane)
                if self._inside[0].start <= plane < self._inside[0].stop:
                    yield self._activated(mean[:, self._inside[1], self._inside[2]])

    def _run(self, z: int, corners: list[tuple[int, int]]) -> torch.Tensor:
        """(B, K, z, y, x) of the windows at these corners; at the ends of the image a halo repeats its end planes."""
        depth = self._values.shape[1]
        planes = torch.arange(z - self._halo, z + self._window[0] + self._halo).clamp(0, depth - 1)
        slab = self._values[:, planes]
        _, height, width = self._window
        windows = torch.stack([slab[:, :, y : y + height, x : x + width] for y, x in corners])
        return self._predictor(windows)

    def _activated(self, outputs: torch.Tensor) -> torch.Tensor:
        spec = self._plan.spec
        if spec.output.brought_back != "probabilities":
            return outputs
        return outputs.sigmoid() if spec.output.regions else outputs.softmax(0)


def _batches(corners: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for i in range(0, len(corners), size):
        yield corners[i : i + size]


def _padded(values: torch.Tensor, windows: WindowGrid, padding: str) -> torch.Tensor:
    """The values (C, Z, Y, X), at least as large as a window."""
    sides = zip(windows.padded, windows.shape, windows.pad_before, strict=True)
    flat = [n for whole, inner, before in reversed(list(sides)) for n in (before, whole - inner - before)]
    if not any(flat):
        return values
    return pad(values[None], flat, mode="replicate")[0] if padding == "replicate" else pad(values, flat)


def brought_back(planes: _Planes, maps: Maps) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, outputs (K, Y, X)) of every plane of the image's grid, interpolated from the model's planes in order."""
    along_z, along_y, along_x = maps
    held: dict[int, torch.Tensor] = {}
    source = enumerate(planes)
    for k in range(len(along_z.first)):
        first = int(along_z.first[k])
        while first + along_z.taps - 1 not in held:
            index, plane = next(source)
            held[index] = plane
        for index in [i for i in held if i < first]:
            del held[index]
        plane = held[first] * float(along_z.weights[k, 0])
        for tap in range(1, along_z.taps):
            plane = plane + held[first + tap] * float(along_z.weights[k, tap])
        yield k, _along(_along(plane, along_y, 1), along_x, 2)


def _along(values: torch.Tensor, axis_map: AxisMap, dim: int) -> torch.Tensor:
    """As `resample_axis`, and 0 where a map of one tap says that nothing is there."""
    made = resample_axis(values, axis_map, dim)
    if axis_map.taps == 1 and not axis_map.weights.all():
        weights = torch.from_numpy(axis_map.weights[:, 0]).to(made)
        made = made * (weights[:, None] if dim == 1 else weights)
    return made


def classes_of(outputs: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """The position among the label ids (Y, X) of outputs (K, Y, X): the largest, or of overlapping regions the last."""
    from napari_medseg.inference.blend import classes_of as largest

    regions = spec.output.regions
    if not regions:
        return largest(outputs)
    level = level_of(spec)
    classes = torch.zeros(outputs.shape[1:], dtype=torch.int16, device=outputs.device)
    place = {label: i for i, label in enumerate(spec.label_ids)}
    for k in sorted(range(len(regions)), key=lambda k: regions[k].rank):
        if regions[k].label:
            classes.masked_fill_(outputs[k] > level, place[regions[k].label])
    return classes


def level_of(spec: ModelSpec) -> float:
    """Above which output a voxel is in a region: a half as a probability, 0 as a logit."""
    return _HALF if spec.output.brought_back == "probabilities" else 0.0


def largest_kept(labels: Labels, output: Output) -> Labels:
    """The labels with only the largest connected component of each group."""
    for group in output.largest:
        mask = np.isin(labels, group)
        labels[mask & ~largest_of(mask)] = 0
    return labels


def largest_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected component (26 neighbours) of a mask (Z, Y, X)."""
    from scipy.ndimage import label as connected

    numbered, count = connected(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    return np.asarray(numbered == sizes.argmax())


def _one_hot(labels: Labels, prepared: Prepared, ids: tuple[int, ...]) -> torch.Tensor:
    """The labels of the first stage on the grid of the second, a channel for each: linear, at least a half."""
    from skimage.transform import resize

    if prepared.bounds is not None:
        labels = labels[tuple(slice(*bounds) for bounds in prepared.bounds)]
    shape = prepared.values.shape[1:]
    if labels.shape == shape:
        masks = [(labels == i).astype(np.float32) for i in ids]
    else:
        wide = [resize((labels == i).astype(float), shape, order=1, mode="edge", anti_aliasing=False) for i in ids]
        masks = [(mask >= _HALF).astype(np.float32) for mask in wide]
    return torch.from_numpy(np.stack(masks))
