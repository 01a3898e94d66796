"""The streaming engine: windows of the model's grid through the network, blended, and written as labels.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medseg import registry
from napari_medseg._version import __version__
from napari_medseg.config import SegmentConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Progress, Started, result_of
from napari_medseg.inference.blend import LabelWriter, RollingLogits, classes_of, ring_depth
from napari_medseg.inference.cascade import find_boxes, guided
from napari_medseg.inference.device import choose_device, has_fast_bf16
from napari_medseg.inference.planes import ModelPlanes, axis_maps, axis_order, model_grid
from napari_medseg.inference.runner import WindowRunner, window_of
from napari_medseg.inference.stream import Plane, blended
from napari_medseg.inference.windows import BoxWindows, WindowGrid, Windows
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.volume import Outline, Segmentation, Volume, label_dtype

if TYPE_CHECKING:
    from napari_medseg.config import Precision


def iter_segment(
    volume: Volume,
    model: Model | str | Path,
    *,
    out: str | Path | None = None,
    origin: Mapping[str, object] | None = None,
    config: SegmentConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Segment a volume window by window.

    volume: (C, Z, Y, X), numpy, dask or zarr; read plane by plane, never as a whole. out: a ".zarr" path for the
    labels, else they are an array in memory. Yields `Started` (its result is the Segmentation being filled), a
    `Progress` per batch of windows, and `Finished` with the Segmentation on the volume's grid. `close()` cancels before
    the next window: what is done stays in the store, which remains marked as incomplete, unless a complete one was
    there before: it is kept until the new one is complete, too.

    origin: what the labels' provenance says besides the model, the versions and the parameters, such as the input's
    SHA-256. config, or knobs: the fields of SegmentConfig (device, overlap, precision ...).

    The windows, weights and sums are those of MONAI's sliding_window_inference with gaussian blending.
    Raises InputError where volume and model do not fit, ModelFileError, or FileError for a store that cannot be read.
    """
    config = configured(SegmentConfig, config, knobs)
    model = as_model(model)
    require_fit(volume, model.spec, str(model.path))
    target = choose_device(config.device)
    runner = load_runner(model, target, resolve_precision(config.precision, model.spec, target))
    with _new_segmentation(volume, model, out, {**provenance(model, config), **(origin or {})}) as result:
        yield from segment_windows(volume, model.spec, runner, result, config)
    yield Finished(result)


def segment(volume: Volume, model: Model | str | Path, **options: Any) -> Segmentation:
    """Segment a volume and return its labels; the options are those of `iter_segment`."""
    result: Segmentation = result_of(iter_segment(volume, model, **options))
    return result


def load_runner(model: Model, device: torch.device, precision: Precision) -> WindowRunner:
    """A model's networks on a device."""
    runner = WindowRunner.of(model.load_network(str(device)), model.spec, device, precision)
    if model.spec.first is None:
        return runner
    stage = model.spec.first.model
    # The second stage was validated with the first in fp32: bf16 only where that is as good.
    first_precision = precision if stage.bf16_ok else "fp32"
    return replace(runner, first=WindowRunner.of(model.load_first(str(device)), stage, device, first_precision))


def require_fit(volume: Volume | Outline, spec: ModelSpec, model_name: str) -> None:
    """Raise InputError unless the model segments images, and the volume has the channels that it was trained on."""
    for stage in (spec, spec.first.model) if spec.first else (spec,):
        if not registry.network(stage.network).image_to_logits:
            raise InputError(f"model {model_name} cannot segment: {stage.network} is no network from image to labels")
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


def segment_windows(
    volume: Volume, spec: ModelSpec, runner: WindowRunner, result: Segmentation, config: SegmentConfig
) -> Iterator[Event]:
    """Fill `result.data` with the labels of `volume`; yields Started and a Progress per batch of windows."""
    planes = ModelPlanes(volume, spec)
    source = guided(planes, volume, spec.first, runner.first, config)
    windows: Windows = WindowGrid(planes.shape, window_of(spec), config.overlap)
    yield Started(_plan(windows, ring_depth(windows, planes.to_image), spec, runner.device, runner.precision), result)
    if spec.first is not None and spec.first.guide == "boxes":
        assert runner.first is not None, "the model of a cascade brings the network of its first stage"
        boxes = yield from find_boxes(volume, spec.first, planes.grid, runner.first, config)
        windows = BoxWindows(planes.shape, windows.window, config.overlap, boxes)
    classes = len(spec.label_ids)
    blend = RollingLogits(classes, windows, planes.to_image, runner.device)
    writer = LabelWriter(result.data, planes.order, spec.label_ids)
    total = max(1, len(windows))  # a first stage may find nothing
    for done in blended(source, windows, runner, blend, config):
        if isinstance(done, Plane):
            writer.put(classes_of(done.logits))
        elif done < total:
            yield Progress(done, total, "windows")
    yield Progress(total, total, "windows")


@contextmanager
def _new_segmentation(
    volume: Volume, model: Model, out: str | Path | None, made_by: Mapping[str, object]
) -> Iterator[Segmentation]:
    """The labels to be filled inside, in memory or in the store `out`, which is marked complete at the end."""
    spec = model.spec
    dtype = label_dtype(max(spec.label_ids))
    name = f"{volume.name} labels" if volume.name else "labels"
    if out is None:
        yield Segmentation(np.zeros(volume.grid.shape, dtype), volume.grid, spec.labels, name=name, provenance=made_by)
        return
    if Path(out).suffix != ".zarr":
        raise InputError(
            f"{out}: labels are streamed into a .zarr folder; for other formats use write(path, segment(...))"
        )
    from napari_medseg.io.zarr.format import filling_labels

    with filling_labels(out, volume.grid, spec.labels, dtype=dtype, provenance=made_by) as labels:
        yield Segmentation(labels, volume.grid, spec.labels, name=name, provenance=made_by)


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
    windows = WindowGrid(grid.shape, window_of(spec), config.overlap)
    depth = ring_depth(windows, axis_maps(grid.shape, image_grid.shape))
    device = choose_device(config.device)
    precision = resolve_precision(config.precision, spec, device)
    return _plan(windows, depth, spec, device, precision)


def _plan(windows: Windows, depth: int, spec: ModelSpec, device: torch.device, precision: Precision) -> str:
    accumulator = depth * len(spec.label_ids) * windows.padded[1] * windows.padded[2] * 4
    at_most = "" if spec.first is None else "at most "
    return (
        f"{device} {precision}: {at_most}{len(windows)} windows of {'x'.join(map(str, windows.window))} on "
        f"{'x'.join(map(str, windows.shape))} voxels; about {accumulator / 2**20:.0f} MiB beside the network"
    )
