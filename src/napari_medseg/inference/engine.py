"""The streaming engine: windows of the model's grid through the network, blended, and written as labels.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseg import registry
from napari_medseg._version import __version__
from napari_medseg.architectures.layout import lay
from napari_medseg.arrays.boxes import Box
from napari_medseg.config import SegmentConfig, configured
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.events import Event, Filled, Notice, Progress, Started, Work, finishing, result_of, told_once
from napari_medseg.inference.cleaning.steps import cleaning_labels
from napari_medseg.inference.device import bf16_doubt, machine_for
from napari_medseg.inference.graphs.running import openvino_version
from napari_medseg.inference.job import (
    Job,
    Written,
    careful,
    identity_of,
    known_statistics,
    note_statistics,
    regions_left,
    store_journal,
    working,
)
from napari_medseg.inference.objects.instances import PROVENANCE_KEY
from napari_medseg.inference.objects.run import Way, on_detections, on_labels, way_of
from napari_medseg.inference.plan import ImageFacts, InferencePlan, precision_for, preset_of, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.refining.run import described_by, require_refiner_of, segmenting_and_refining
from napari_medseg.inference.results.journal import Journal
from napari_medseg.inference.results.merge import merging, store_beside
from napari_medseg.inference.results.sink import DOUBTS, TTA, Outputs
from napari_medseg.inference.results.softness import Softness
from napari_medseg.inference.results.wanted import Wanted, region_names, region_paths
from napari_medseg.inference.source.absent import completed, doubt_about_missing
from napari_medseg.inference.source.pipeline import segment_prepared
from napari_medseg.inference.source.regions import new_regions
from napari_medseg.inference.suitability import ImageSample, doubts_about, require_channels
from napari_medseg.inference.tuning import LAYOUTS, finding_layout
from napari_medseg.io.stored import Stored
from napari_medseg.io.zarr.format import CHUNKS, filling, filling_labels, has_begun
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.presets import doubt_about_preset
from napari_medseg.models.several import AnyModel, ModelSet, as_models, models_of
from napari_medseg.models.spec import ModelSpec
from napari_medseg.volume import Outline, Segmentation, Volume, label_dtype

Spread = Callable[[Job, Outputs, Journal], Generator[Event, None, None]]
"""Segments the regions of a job that are left, elsewhere."""
SEGMENTS = ("image", "graph", "instances")
"""What the network of a model takes that segments images; the graph is made of the image, see `OnSupervoxels`."""
_THIN = 16
"""Planes of a chunk of probabilities: a whole number of them is a chunk of labels."""


def iter_segment(
    volume: Volume,
    model: AnyModel | ModelSet | Sequence[AnyModel],
    *,
    out: str | Path | None = None,
    probabilities: str | Path | None = None,
    uncertainty: str | Path | None = None,
    regions: str | Path | None = None,
    refine: Model | str | Path | None = None,
    resume: bool = False,
    origin: Mapping[str, object] | None = None,
    config: SegmentConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Segment a volume window by window.

    volume: (C, Z, Y, X), numpy, dask or zarr; read box by box, never as a whole. model: a model or its path; several of
    the same labels, whose logits are averaged; several of other labels; or the path of a set of models (.json). out: a
    ".zarr" path for the labels; without it they are an array in memory. probabilities: a ".zarr" path for an image with
    a channel per class, background first. uncertainty: a ".zarr" path for an image with the channels "entropy" (of the
    probabilities, 0 to 1) and "margin" (of the likeliest class over the next, 0 to 1), and "tta" (the variance of the
    probabilities over mirror images, summed over the classes) where every window is mirrored: with tta and the preset
    exact. All lie on the volume's grid.
    regions: a folder for the regions of a model whose regions overlap, each as labels NAME.zarr; see `segment_regions`.
    refine: a refiner or its path, which makes the labels better once all are there; see `iter_refine`.

    Yields `Started` (with the plan, and the Segmentation being filled), a `Notice` for each sign that the model was not
    made for such an image, a `Progress` per row of chunks where the model's normalisation asks for the image's
    statistics, a `Progress` per batch of windows, a `Filled` for each box of labels that is in its array from then on,
    and `Finished` with the Segmentation on the volume's grid.

    `close()` cancels before the next of these steps. What is done then stays in the store, which remains marked as
    incomplete. A complete store that was there before is kept until the new one is complete.

    resume: continue what an earlier run left at `out` after any end, a killed process too; the labels are those of a
    run that was not interrupted. Without anything there it is a run like others.

    origin: what the labels' provenance says besides the model, the versions and the parameters, such as the input's
    SHA-256. config, or knobs: the fields of SegmentConfig (device, preset, tta, precision ...).

    With the preset exact the windows, weights and sums are those of MONAI's sliding_window_inference with gaussian
    blending.
    Raises InputError where volume and model do not fit or another run left what is at `out`, ModelFileError, or
    FileError for a store that cannot be read or written.
    """
    config = configured(SegmentConfig, config, knobs)
    wanted = Wanted.of(out, probabilities, uncertainty, resume=resume)
    if regions is not None:
        model = as_models(model)
        wanted = replace(wanted, regions=region_paths(model, f"{regions}/{{region}}.zarr"))
    refiner = None if refine is None else as_model(refine)
    yield from finishing(segmenting(volume, model, config, wanted=wanted, origin=origin, refiner=refiner))


def segmenting(
    volume: Volume,
    model: AnyModel | ModelSet | Sequence[AnyModel],
    config: SegmentConfig,
    *,
    wanted: Wanted | None = None,
    origin: Mapping[str, object] | None = None,
    spread: Spread | None = None,
    refiner: Model | None = None,
) -> Work[Segmentation]:
    """The work of `iter_segment`: yields its events but for the last, and returns the Segmentation.

    spread: who works on the regions; by default this process.
    """
    model, wanted = as_models(model), wanted or Wanted()
    way = "none" if isinstance(model, ModelSet) else way_of(config, model.spec)
    if wanted.regions is not None:
        region_names(model)
        if refiner is not None or way != "none":
            raise NotSupportedError("regions are neither refined nor numbered: leave refine, instances or regions out")
    if refiner is not None:
        require_refiner_of(refiner, model, volume, config.missing)
        if way == "detect":
            raise NotSupportedError("a model that finds objects gives no labels to refine: leave refine out")
    if refiner is not None and way == "none":

        def segment_into(goal: Wanted) -> Work[Segmentation]:
            return segmenting(volume, model, config, wanted=goal, origin=origin, spread=spread)

        return (yield from segmenting_and_refining(volume, segment_into, refiner, config.device, wanted))
    if isinstance(model, ModelSet):
        return (yield from _segmenting_set(volume, model, config, wanted, origin or {}))
    require_fit(volume, model.spec, str(model.path), config.missing)
    if config.missing and (spread is not None or way != "none"):
        raise NotSupportedError("workers, and numbers of objects, need all channels: leave them, or missing, out")
    if way != "none":
        return (yield from _segmenting_objects(volume, model, config, way, wanted, origin or {}, spread, refiner))
    volume, spec = completed(volume, model.spec, config.missing)
    plan = resolve(ImageFacts.of(volume), spec, replace(config, missing=()), machine_for(config.device))
    plan = plan if wanted.uncertainty is None else plan.telling_mirrors()
    predictor = load_predictor(model, plan)
    made_by = {**provenance(model, config), **(origin or {})}
    run = _Run(volume, model, plan, predictor, config, wanted, made_by)
    return (yield from (_segmenting_prepared if plan.spec.has_pipeline else _segmenting_streamed)(run, spread))


@dataclass(frozen=True, eq=False)
class _Run:
    """One model on one volume: how it runs, and what comes of it."""

    volume: Volume
    model: Model
    plan: InferencePlan
    predictor: Predictor
    config: SegmentConfig
    wanted: Wanted
    made_by: Mapping[str, object]

    @property
    def doubts(self) -> list[str]:
        """What the user should know before."""
        return _doubts(self.volume, self.plan, self.config)


def _segmenting_streamed(run: _Run, spread: Spread | None) -> Work[Segmentation]:
    """Segment window by window; only what windows need is in memory."""
    volume, model, plan, wanted, made_by = run.volume, run.model, run.plan, run.wanted, run.made_by
    doubts = (*DOUBTS, *([TTA] if plan.mirrors_told else []))
    with _new_segmentation(volume, model.spec.labels, wanted, made_by, doubts) as (result, outputs):
        journal = (
            None
            if wanted.out is None
            else store_journal(outputs, lambda: identity_of(volume, model, plan, wanted, made_by))
        )
        if journal is not None:
            journal.begin_anew_where_cleaned()
        _require_outputs(wanted, outputs)
        if model.spec.trust.dice is not None and spread is None and not wanted.resume:
            outputs = replace(outputs, softness=Softness(len(plan.spec.label_ids)))
        events = segment_windows(
            volume,
            plan,
            run.predictor,
            result,
            outputs=outputs,
            journal=journal,
            spread=spread,
            planned=lambda: _laid_out(run, journal),
        )
        yield next(events)
        for doubt in run.doubts:
            yield Notice(doubt)
        if wanted.uncertainty and run.config.tta and plan.mirror_axes and not plan.mirrors_told:
            yield Notice(
                f"uncertainty has no channel {TTA}: preset {plan.preset} mirrors some windows only; choose exact"
            )
        yield from events
        if outputs.softness is not None and model.spec.trust.dice is not None:
            signs = outputs.softness.signs(volume.grid.voxel_volume_mm3)
            yield Notice(model.spec.trust.dice.sentence(signs))
        if journal is not None and model.spec.cleaning:
            journal.note_cleaning()
        yield from cleaning_labels(result, model.spec.cleaning)
    return result


def _laid_out(run: _Run, journal: Journal | None) -> Work[InferencePlan]:
    """Lay the weights out as in the run that is continued, or as the network is faster; returns the plan of that."""
    layout = None if journal is None else journal.notes.get("layout")
    if layout not in LAYOUTS:
        layout = yield from finding_layout(run.predictor, run.model, run.plan)
        if journal is not None:
            journal.note("layout", layout)
    lay(run.predictor.network, layout)
    if journal is not None and run.plan.device == "cpu":
        yield from _threads_told(journal)
    return replace(run.plan, layout=layout)


def _threads_told(journal: Journal) -> Iterator[Notice]:
    """Note the threads of a run; a Notice where it is continued on others, on which some networks' sums differ."""
    threads, before = torch.get_num_threads(), journal.notes.get("threads")
    if before is None:
        journal.note("threads", threads)
    elif before != threads:
        yield Notice(
            f"torch threads were {before} when the run began and are {threads} now: where two labels are about "
            f"equally likely, voxels may differ from those of one run; OMP_NUM_THREADS={before} keeps them"
        )


def _segmenting_objects(
    volume: Volume,
    model: Model,
    config: SegmentConfig,
    way: Way,
    wanted: Wanted,
    origin: Mapping[str, object],
    spread: Spread | None,
    refiner: Model | None,
) -> Work[Segmentation]:
    """Number objects, of labels that are refined before. Nothing is kept of a run that was interrupted."""
    made_by = {**provenance(model, config), **origin, **({} if refiner is None else described_by(refiner))}
    if way == "detect":
        if config.backend != "torch":
            raise NotSupportedError("a model that finds objects runs with torch: leave backend out")
        if wanted.probabilities or wanted.uncertainty:
            raise NotSupportedError("a model that finds objects gives no probabilities: leave both outputs out")
        plain = replace(config, tta=False)
        plan = resolve(ImageFacts.of(volume), model.spec, plain, machine_for(config.device))
        job = yield from Job.prepare(volume, plan, load_predictor(model, plan))
        once = "a model that finds objects sees each window once: tta changes nothing" if config.tta else None
        alone = None if spread is None else "one process finds the objects: the workers have nothing to do"
        notices = [*filter(None, (alone, once, *_doubts(volume, plan, plain)))]
        return (yield from on_detections(volume, job, wanted.out, made_by, notices))
    assert way != "none", "the caller looked"
    with store_beside(wanted.out) as store:
        plain = replace(config, instances="none")
        inner = replace(wanted, out=store, resume=False)
        work = segmenting(volume, model, plain, wanted=inner, origin=origin, spread=spread, refiner=refiner)
        return (yield from on_labels(volume, work, way, wanted.out, made_by))


def _segmenting_prepared(run: _Run, spread: Spread | None) -> Work[Segmentation]:
    """Segment with a model whose makers prepare the whole image: in one go, in this process."""
    volume, plan, wanted, made_by = run.volume, run.plan, run.wanted, run.made_by
    alone = None if spread is None else "the model needs the whole image: one process segments it"
    if wanted.probabilities or wanted.uncertainty:
        raise NotSupportedError(
            "a model with steps of another program gives labels only: leave probabilities and uncertainty out"
        )
    # Nothing is kept of a run that was interrupted: one that continues it begins anew.
    with ExitStack() as stack:
        begun = _new_segmentation(volume, plan.spec.labels, replace(wanted, resume=False), made_by)
        result, _ = stack.enter_context(begun)
        regions = stack.enter_context(new_regions(volume, run.model, wanted.regions, made_by))
        events = segment_prepared(volume, plan, run.predictor, result, regions)
        yield next(events)
        for doubt in filter(None, (alone, *run.doubts)):
            yield Notice(doubt)
        yield from events
        yield from cleaning_labels(result, plan.spec.cleaning)
    return result


def _require_outputs(wanted: Wanted, outputs: Outputs) -> None:
    """Raise InputError where an output of the run that is continued is neither unfinished nor complete, but gone."""
    for path, array in ((wanted.probabilities, outputs.probabilities), (wanted.uncertainty, outputs.uncertainty)):
        if path is not None and array is None and not path.exists():
            raise InputError(f"{path}: what an earlier run wrote there is gone: run without resume")


def _segmenting_set(
    volume: Volume, models: ModelSet, config: SegmentConfig, wanted: Wanted, origin: Mapping[str, object]
) -> Work[Segmentation]:
    """Segment with the models of a set, one after the other, in the box that its crop finds where it has one."""
    for model in models_of(models):
        require_fit(volume, model.spec, str(model.path), config.missing)
    if wanted.probabilities or wanted.uncertainty or wanted.resume:
        raise NotSupportedError(
            "a set of models gives labels only, in one go: for probabilities, uncertainty or resume give one model"
        )
    if config.instances not in ("auto", "none"):
        raise NotSupportedError("a set of models gives labels: number the objects in these (napari-medseg instances)")
    made_by = {**provenance(models, config), **origin}

    def segment_member(part: Volume, model: Model, store: Path | None) -> Work[Segmentation]:
        return segmenting(part, model, replace(config, instances="none"), wanted=Wanted(store))

    with _new_segmentation(volume, models.labels, wanted, made_by) as (result, _):
        yield from merging(models, volume, result, segment_member, wanted.out)
    return result


def _doubts(volume: Volume, plan: InferencePlan, config: SegmentConfig) -> list[str]:
    """What the user should know before the run: that it is slow, or that the model was made for other images."""
    doubts = [
        bf16_doubt(config.precision, torch.device(plan.device)),
        doubt_about_preset(config.preset, plan.spec),
        "the model's training mirrored along no axis: tta changes nothing"
        if config.tta and not plan.mirror_axes
        else None,
        doubt_about_missing(plan.spec, config.missing),
    ]
    return [*filter(None, doubts), *doubts_about(ImageSample.of(volume, plan.spec), plan.spec)]


def segment(volume: Volume, model: AnyModel | ModelSet | Sequence[AnyModel], **options: Any) -> Segmentation:
    """Segment a volume and return its labels; the options are those of `iter_segment`."""
    result: Segmentation = result_of(iter_segment(volume, model, **options))
    return result


def require_fit(volume: Volume | Outline, spec: ModelSpec, model_name: str, missing: Sequence[str] = ()) -> None:
    """Raise InputError unless the model segments images, and the volume has the channels that it was trained on.

    missing: names of those that it lacks.
    """
    for stage in (spec, spec.first.model) if spec.first else (spec,):
        if registry.network(stage.network).takes not in SEGMENTS:
            raise InputError(f"model {model_name} cannot segment: {stage.network} is no network from image to labels")
    if spec.refines is not None:
        raise InputError(f"model {model_name} cannot segment: it is a refiner, which makes given labels better: refine")
    require_channels(volume, spec, model_name, missing)


def segment_windows(
    volume: Volume,
    plan: InferencePlan,
    predictor: Predictor,
    result: Segmentation,
    *,
    outputs: Outputs | None = None,
    journal: Journal | None = None,
    spread: Spread | None = None,
    planned: Callable[[], Work[InferencePlan]] | None = None,
) -> Generator[Event, None, None]:
    """Fill `result.data` with the labels of `volume`.

    outputs: what is filled besides. journal: what is done already, and where what gets done is noted. spread: who works
    on the regions; by default this process. planned: makes the predictor ready, and gives the plan of what it is then.
    Yields Started, a Progress per row of chunks while statistics are measured, then a Progress per batch of windows, a
    Filled per row of chunks of the labels, and Notices.
    """
    yield Started(plan.describe(), result, plan)
    if planned is not None:
        plan = yield from planned()
    outputs = outputs or Outputs(result.data)
    journal = journal or Journal(None, volume.grid.shape, volume.grid.shape)
    job = yield from Job.prepare(volume, plan, predictor, known_statistics(journal))
    note_statistics(journal, job.statistics)
    if spread is None:
        events = segment_regions(job, regions_left(job, outputs, journal), outputs, journal)
    else:
        events = spread(job, outputs, journal)
    yield from told_once(events)


def segment_regions(job: Job, boxes: list[Box], outputs: Outputs, journal: Journal) -> Generator[Event, None, None]:
    """Segment boxes of the output, in the model's axis order, one after the other."""
    network = careful(job.predictor, job.plan)
    network.again(journal.notes.get("steps", []))
    counts = [job.count(box) for box in boxes]
    total, done = max(1, sum(counts)), 0  # a first stage may find nothing
    for box, count in zip(boxes, counts, strict=True):
        for event in working(job, box, outputs, network):
            if isinstance(event, Notice):
                journal.note("steps", network.taken)
                yield event
            elif isinstance(event, Written):
                journal.record(event.box)
                yield Filled(event.box)
            elif done + event.count < total:
                yield Progress(done + event.count, total, "windows")
        done += count
    yield Progress(total, total, "windows")


@contextmanager
def _new_segmentation(
    volume: Volume,
    names: Mapping[int, str],
    wanted: Wanted,
    made_by: Mapping[str, object],
    doubts: Sequence[str] = DOUBTS,
) -> Iterator[tuple[Segmentation, Outputs]]:
    """The labels to be filled inside, in memory or in a store, which is marked complete at the end; and all outputs."""
    dtype = label_dtype(max(names))
    name = f"{volume.name} labels" if volume.name else "labels"
    with ExitStack() as stores:
        labels: Any
        if wanted.out is None:
            labels = np.zeros(volume.grid.shape, dtype)
        else:
            labels = stores.enter_context(
                filling_labels(wanted.out, volume.grid, names, dtype=dtype, provenance=made_by, resume=wanted.resume)
            )
        classes = ["background", *names.values()]
        begun = wanted.resume and wanted.out is not None and has_begun(wanted.out)
        arrays = [
            None
            if path is None
            else stores.enter_context(_image_filling(volume, made_by, path, channels, resume=begun))
            for path, channels in ((wanted.probabilities, classes), (wanted.uncertainty, doubts))
        ]
        outputs = Outputs(labels, *arrays)
        yield Segmentation(labels, volume.grid, names, name=name, provenance=made_by), outputs


def _image_filling(
    volume: Volume, made_by: Mapping[str, object], path: Path, channels: Sequence[str], *, resume: bool
) -> AbstractContextManager[Any]:
    """The store of an image with these channels, on the grid of the volume, to be filled inside; None where it is full.

    resume: the labels were begun by an earlier run, and are continued.
    """
    if resume and not has_begun(path):  # it was begun before the labels, so the earlier run had finished it
        return nullcontext()
    empty = np.broadcast_to(np.zeros((), np.float32), (len(channels), *volume.grid.shape))
    stored = Stored(empty, volume.grid, tuple(channels), {}, made_by, is_labels=False)
    # All channels of a row of chunks are in memory until it is whole: it is thin, and fits into a row of the labels'.
    return filling(path, stored, chunks=(_THIN, *CHUNKS[1:]), resume=resume)


def provenance(models: Model | ModelSet, config: SegmentConfig) -> dict[str, object]:
    """What a label file records of how it was made: the model, the versions and the parameters."""
    model = models_of(models)[0]
    preset, overlap = preset_of(config, model.spec)
    way = "none" if isinstance(models, ModelSet) else way_of(config, model.spec)
    return {
        "model_sha256": models.sha256,
        "network": model.spec.network,
        "napari_medseg": __version__,
        "torch": torch.__version__,
        "preset": preset,
        "overlap": overlap,
        "tta": config.tta,
        "precision": precision_for(config.precision, model.spec, machine_for(config.device)),
        **({} if config.backend == "torch" else {"backend": config.backend, "openvino": openvino_version()}),
        **({} if way == "none" else {PROVENANCE_KEY: way}),
    }


def estimate(volume: Volume, model: Model, config: SegmentConfig) -> str:
    """The line of a run's `Started`, without a run: no voxel is read and no weight is loaded.

    Raises InputError where volume and model do not fit, or this machine lacks the device.
    """
    require_fit(volume, model.spec, str(model.path))
    return resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device)).describe()
