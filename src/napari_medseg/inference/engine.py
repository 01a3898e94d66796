"""The streaming engine: windows of the model's grid through the network, blended, and written as labels.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_medseg import __version__
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Progress, Started, result_of
from napari_medseg.geometry import AxisMap
from napari_medseg.inference.blend import LabelWriter, RollingLogits, ring_depth
from napari_medseg.inference.device import autocast, choose_device, has_fast_bf16
from napari_medseg.inference.planes import ModelPlanes, axis_order, model_grid
from napari_medseg.inference.windows import WindowGrid, gaussian
from napari_medseg.modelfile import Model, as_model
from napari_medseg.modelspec import ModelSpec
from napari_medseg.volume import Segmentation, Volume

if TYPE_CHECKING:
    from napari_medseg.config import Precision

OVERLAP = SegmentConfig().overlap


def iter_segment(
    volume: Volume,
    model: Model | str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    overlap: float = OVERLAP,
    precision: Precision = "auto",
    batch_size: int = 1,
    origin: Mapping[str, object] | None = None,
) -> Iterator[Event]:
    """Segment a volume window by window.

    volume: (C, Z, Y, X), numpy, dask or zarr; read plane by plane, never as a whole. out: a ".zarr" path for the
    labels, else they are an array in memory. Yields `Started` (its result is the Segmentation being filled), a
    `Progress` per batch of windows, and `Finished` with the Segmentation on the volume's grid. `close()` cancels before
    the next window: what is done stays in the store, which remains marked as incomplete.

    origin: what a store at `out` records besides the model, the versions and the parameters, such as the input's
    SHA-256.

    The windows, weights and sums are those of MONAI's sliding_window_inference with gaussian blending.
    Raises InputError where volume and model do not fit, ModelFileError, or FileError for a store that cannot be read.
    """
    config = SegmentConfig(device=device, overlap=overlap, precision=precision, batch_size=batch_size)
    model = as_model(model)
    require_fit(volume, model.spec, str(model.path))
    target = choose_device(config.device)
    network = model.load_network(str(target))
    precision = resolve_precision(config.precision, model.spec, target)
    runner = WindowRunner(network, target, precision, is_flat(model.spec))
    result = _new_segmentation(volume, model, out, {**provenance(model, config), **(origin or {})})
    yield from segment_windows(volume, model.spec, runner, result, config)
    if out is not None:
        from napari_medseg.io import ome_zarr

        ome_zarr.mark_complete(out)
    yield Finished(result)


def segment(volume: Volume, model: Model | str | Path, **options: Any) -> Segmentation:
    """Segment a volume and return its labels; the options are those of `iter_segment`."""
    result: Segmentation = result_of(iter_segment(volume, model, **options))
    return result


def require_fit(volume: Volume, spec: ModelSpec, model_name: str) -> None:
    """Raise InputError unless the volume has the channels that the model was trained on."""
    have, want = len(volume.channels), len(spec.channels)
    if have != want:
        names = ", ".join(c.name for c in spec.channels)
        raise InputError(
            f"{volume.name or 'the volume'} has {have} channel{'s' * (have != 1)} but model {model_name} needs {want} "
            f"({names}): give as many channels as the model was trained with, in that order"
        )


def resolve_precision(precision: Precision, spec: ModelSpec, device: torch.device) -> Precision:
    """fp32 or bf16: "auto" is bf16 where the model states that it is as good and the hardware is fast at it."""
    if precision == "auto":
        return "bf16" if spec.bf16_ok and has_fast_bf16(device) else "fp32"
    return precision


def is_flat(spec: ModelSpec) -> bool:
    """Whether the model's network is 2D: its windows are single planes."""
    return spec.arguments["spatial_dims"] == 2


@dataclass(frozen=True)
class WindowRunner:
    """A network on a device, in a number format: windows in, float32 logits out."""

    network: nn.Module
    device: torch.device
    precision: Precision
    flat: bool = False
    """Whether the network is 2D and sees the only plane of its windows."""

    @torch.no_grad()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K, z, y, x)."""
        windows = windows.to(self.device)
        with autocast(self.device, self.precision):
            logits: torch.Tensor = self.network(windows.squeeze(2) if self.flat else windows)
        logits = logits.float()
        return logits.unsqueeze(2) if self.flat else logits


def segment_windows(
    volume: Volume, spec: ModelSpec, runner: WindowRunner, result: Segmentation, config: SegmentConfig
) -> Iterator[Event]:
    """Fill `result.data` with the labels of `volume`; yields Started and a Progress per batch of windows."""
    planes = ModelPlanes(volume, spec)
    windows = WindowGrid(planes.shape, spec.patch_zyx, config.overlap)
    classes = len(spec.label_ids)
    yield Started(_plan(windows, ring_depth(windows, planes), classes, runner.device, runner.precision), result)
    weight = torch.from_numpy(gaussian(windows.window)).to(runner.device)
    blend = RollingLogits(classes, windows, planes, runner.device)
    writer = LabelWriter(result.data, planes.order, spec.label_ids)
    slab = InputSlab(planes, windows)
    total, done = len(windows), 0
    for z, following, corners in windows.rows():
        slab.advance(z)
        for i in range(0, len(corners), config.batch_size):
            some = corners[i : i + config.batch_size]
            logits = runner(slab.windows(some))
            for corner, window_logits in zip(some, logits, strict=True):
                blend.add((z, *corner), window_logits, weight)
            done += len(some)
            if done < total:
                yield Progress(done, total, "windows")
        for _, indices in blend.finish(following):
            writer.put(indices)
    yield Progress(total, total, "windows")


class InputSlab:
    """The padded input planes of one row of windows; planes shared with the row before are kept."""

    def __init__(self, planes: ModelPlanes, windows: WindowGrid) -> None:
        self._planes = planes
        self._windows = windows
        self._slab = torch.zeros((0,))
        self._start = self._stop = 0

    def advance(self, z: int) -> None:
        """Hold the padded planes [z, z + window); rows come in ascending order."""
        stop = z + self._windows.window[0]
        fresh = self._read_padded(max(z, self._stop), stop)
        if z < self._stop:
            fresh = torch.cat([self._slab[:, z - self._start :], fresh], dim=1)
        self._slab, self._start, self._stop = fresh, z, stop

    def _read_padded(self, start: int, stop: int) -> torch.Tensor:
        pad, shape, padded = self._windows.pad_before, self._windows.shape, self._windows.padded
        first, last = max(0, start - pad[0]), min(shape[0], stop - pad[0])
        values = self._planes.read(first, last)
        sides: list[int] = []
        for axis in (2, 1):
            sides += [pad[axis], padded[axis] - shape[axis] - pad[axis]]
        sides += [first + pad[0] - start, stop - pad[0] - last]
        return nn.functional.pad(values, sides) if any(sides) else values

    def windows(self, corners: list[tuple[int, int]]) -> torch.Tensor:
        """The windows (B, C, z, y, x) at these (y, x) corners."""
        _, height, width = self._windows.window
        return torch.stack([self._slab[:, :, y : y + height, x : x + width] for y, x in corners])


def label_dtype(label_ids: tuple[int, ...]) -> np.dtype[Any]:
    """The smallest integer type that holds the ids."""
    return np.min_scalar_type(max(label_ids)) if max(label_ids) < 2**16 else np.dtype(np.int32)


def _new_segmentation(
    volume: Volume, model: Model, out: str | Path | None, made_by: Mapping[str, object]
) -> Segmentation:
    spec = model.spec
    dtype = label_dtype(spec.label_ids)
    name = f"{volume.name} labels" if volume.name else "labels"
    if out is None:
        return Segmentation(np.zeros(volume.grid.shape, dtype), volume.grid, spec.labels, name=name)
    if Path(out).suffix != ".zarr":
        raise InputError(
            f"{out}: labels are streamed into a .zarr folder; for other formats use write(path, segment(...))"
        )
    from napari_medseg.io import ome_zarr

    labels = ome_zarr.create_labels(out, volume.grid, spec.labels, dtype=dtype, provenance=made_by)
    return Segmentation(labels, volume.grid, spec.labels, name=name)


def provenance(model: Model, config: SegmentConfig) -> dict[str, object]:
    """What a label file records of how it was made: the model, the versions and the parameters."""
    return {
        "model_sha256": model.sha256,
        "network": model.spec.network,
        "napari_medseg": __version__,
        "torch": torch.__version__,
        "overlap": config.overlap,
        "precision": resolve_precision(config.precision, model.spec, choose_device(config.device)),
    }


def estimate(volume: Volume, model: Model, config: SegmentConfig) -> str:
    """The line of a run's `Started`, without a run: no voxel is read and no weight is loaded.

    Raises InputError where volume and model do not fit, or this machine lacks the device.
    """
    spec = model.spec
    require_fit(volume, spec, str(model.path))
    image_grid = volume.grid.reordered(axis_order(volume.grid, spec))
    grid = image_grid if spec.spacing_zyx_mm is None else model_grid(image_grid, spec.spacing_zyx_mm)
    windows = WindowGrid(grid.shape, spec.patch_zyx, config.overlap)
    depth = windows.window[0] + AxisMap.between(grid.shape[0], image_grid.shape[0]).taps - 1
    device = choose_device(config.device)
    precision = resolve_precision(config.precision, spec, device)
    return _plan(windows, depth, len(spec.label_ids), device, precision)


def _plan(windows: WindowGrid, depth: int, classes: int, device: torch.device, precision: Precision) -> str:
    accumulator = depth * classes * windows.padded[1] * windows.padded[2] * 4
    return (
        f"{device} {precision}: {len(windows)} windows of {'x'.join(map(str, windows.window))} on "
        f"{'x'.join(map(str, windows.shape))} voxels; about {accumulator / 2**20:.0f} MiB beside the network"
    )
