"""The streaming engine: windows of the model's grid through the network, blended, and written as labels.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medseg import registry
from napari_medseg._version import __version__
from napari_medseg.config import SegmentConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Progress, Started, Work, finishing, result_of
from napari_medseg.inference.blend import LabelWriter, RollingLogits, classes_of
from napari_medseg.inference.cascade import FirstStage, find_boxes, with_guides
from napari_medseg.inference.device import bf16_doubt, machine_for
from napari_medseg.inference.plan import ImageFacts, InferencePlan, precision_for, resolve
from napari_medseg.inference.planes import ModelPlanes, PlaneReader, measuring
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.source.pipeline import segment_prepared
from napari_medseg.inference.stream import PlaneDone, blended
from napari_medseg.inference.suitability import ImageSample, doubts_about
from napari_medseg.inference.windows import BoxWindows, Windows
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.volume import Outline, Segmentation, Volume, label_dtype

if TYPE_CHECKING:
    pass


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
    labels; without it they are an array in memory.

    Yields `Started` (with the plan, and the Segmentation being filled), a `Notice` for each sign that the model was not
    made for such an image, a `Progress` per row of chunks where the
    model's normalisation asks for the image's statistics, a `Progress` per batch of windows, and `Finished` with the
    Segmentation on the volume's grid. `close()` cancels before the next of these steps. What is done then stays in the
    store, which remains marked as incomplete. A complete store that was there before is kept until the new one is
    complete.

    origin: what the labels' provenance says besides the model, the versions and the parameters, such as the input's
    SHA-256. config, or knobs: the fields of SegmentConfig (device, overlap, precision ...).

    The windows, weights and sums are those of MONAI's sliding_window_inference with gaussian blending.
    Raises InputError where volume and model do not fit, ModelFileError, or FileError for a store that cannot be read.
    """
    config = configured(SegmentConfig, config, knobs)
    yield from finishing(segmenting(volume, model, config, out=out, origin=origin))


def segmenting(
    volume: Volume,
    model: Model | str | Path,
    config: SegmentConfig,
    *,
    out: str | Path | None = None,
    origin: Mapping[str, object] | None = None,
) -> Work[Segmentation]:
    """The work of `iter_segment`: yields its events but for the last, and returns the Segmentation."""
    model = as_model(model)
    require_fit(volume, model.spec, str(model.path))
    plan = resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device))
    predictor = load_predictor(model, plan)
    run = segment_prepared if plan.spec.has_pipeline else segment_windows
    with _new_segmentation(volume, model, out, {**provenance(model, config), **(origin or {})}) as result:
        events = run(volume, plan, predictor, result)
        yield next(events)
        for doubt in _doubts(volume, plan, config):
            yield Notice(doubt)
        yield from events
    return result


def _doubts(volume: Volume, plan: InferencePlan, config: SegmentConfig) -> list[str]:
    """What the user should know before the run: that it is slow, or that the model was made for other images."""
    slow = bf16_doubt(config.precision, torch.device(plan.device))
    return [*([slow] if slow else []), *doubts_about(ImageSample.of(volume, plan.spec), plan.spec)]


def segment(volume: Volume, model: Model | str | Path, **options: Any) -> Segmentation:
    """Segment a volume and return its labels; the options are those of `iter_segment`."""
    result: Segmentation = result_of(iter_segment(volume, model, **options))
    return result


def require_fit(volume: Volume | Outline, spec: ModelSpec, model_name: str) -> None:
    """Raise InputError unless the model segments images, and the volume has the channels that it was trained on."""
    for stage in (spec, spec.first.model) if spec.first else (spec,):
        if registry.network(stage.network).takes != "image":
            raise InputError(f"model {model_name} cannot segment: {stage.network} is no network from image to labels")
    have, want = len(volume.channels), len(spec.channels)
    if have != want:
        names = ", ".join(c.name for c in spec.channels)
        raise InputError(
            f"{volume.name or 'the volume'} has {have} channel{'s' * (have != 1)} but model {model_name} needs {want} "
            f"({names}): give as many channels as the model was trained with, in that order"
        )
    require_order(volume.name or "the volume", volume.channels, [c.name for c in spec.channels])


def require_order(name: str, have: Sequence[str], want: Sequence[str]) -> None:
    """Raise InputError for channels that have the names wanted in another order."""
    if list(have) != list(want) and sorted(have) == sorted(want):
        raise InputError(
            f"{name} has its channels in the order {', '.join(have)}, where {', '.join(want)} are needed: give them in "
            f"that order"
        )


def segment_windows(
    volume: Volume, plan: InferencePlan, predictor: Predictor, result: Segmentation
) -> Generator[Event, None, None]:
    """Fill `result.data` with the labels of `volume`.

    Yields Started, a Progress per row of chunks while statistics are measured, and a Progress per batch of windows.
    """
    yield Started(plan.describe(), result, plan)
    reader = PlaneReader(volume, plan.order)
    statistics = yield from measuring(reader, plan)
    first = FirstStage.of(volume, plan, statistics, predictor.first)
    source = with_guides(ModelPlanes(reader, plan, statistics), first)
    windows: Windows = plan.windows
    if first is not None and first.stage.guide == "boxes":
        boxes = yield from find_boxes(first, plan.grid)
        windows = BoxWindows(windows.shape, windows.window, windows.overlap, boxes)
    blend = RollingLogits(len(plan.spec.label_ids), windows, plan.to_image, predictor.device)
    writer = LabelWriter(result.data, plan.order, plan.spec.label_ids)
    total = max(1, len(windows))  # a first stage may find nothing
    for event in blended(source, windows, predictor, blend, batch_size=plan.batch_size, halo=plan.halo):
        if isinstance(event, PlaneDone):
            writer.put(classes_of(event.logits))
        elif event.count < total:
            yield Progress(event.count, total, "windows")
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
        "precision": precision_for(config.precision, model.spec, machine_for(config.device)),
    }


def estimate(volume: Volume, model: Model, config: SegmentConfig) -> str:
    """The line of a run's `Started`, without a run: no voxel is read and no weight is loaded.

    Raises InputError where volume and model do not fit, or this machine lacks the device.
    """
    require_fit(volume, model.spec, str(model.path))
    return resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device)).describe()
