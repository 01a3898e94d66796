"""`explain`: a map of the image that says why a model labels something, window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseg._version import __version__
from napari_medseg.arrays.views import onto
from napari_medseg.config import ExplainConfig, SegmentConfig, configured
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.events import Event, Notice, Started, Work, finishing, result_of
from napari_medseg.explanation.asking import Answers, Asked
from napari_medseg.explanation.methods import Method, method_of
from napari_medseg.explanation.scene import Scene
from napari_medseg.explanation.streaming import fill
from napari_medseg.explanation.targets import Place, Target, label_of
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.engine import require_fit, segmenting
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import load_predictor
from napari_medseg.io.stored import Stored
from napari_medseg.io.zarr.format import filling
from napari_medseg.models.file import Model
from napari_medseg.models.several import AnyModel, ModelSet, as_models
from napari_medseg.registry import network as network_named
from napari_medseg.volume import Segmentation, Volume, require_same_grid

CHECK_KEY = "check_correlation"
"""Where the provenance of a map holds the mean size of its correlations with those of networks of random weights."""
CHECKS_KEY = "check_correlations"
"""And each of them."""
_PROBED = ("cam", "attention", "shape")
"""Methods that some networks have no part for: that is found out before an output is begun."""


def iter_explain(
    volume: Volume,
    model: AnyModel | ModelSet | Sequence[AnyModel],
    *,
    label: int | str = 1,
    method: str = "grad-cam",
    component: int | Place | None = None,
    voxel: Place | None = None,
    labels: Segmentation | None = None,
    out: str | Path | None = None,
    config: ExplainConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Explain a label that a model gives a volume, window by window.

    volume: (C, Z, Y, X), read box by box. model: as for `segment`; of models with different labels, the first one that
    gives the label. label: its id or name. method: a name of METHODS, which says what each map means, and what not.
    component: explain one connected part of the label only: its number by size, 1 the largest, or one of its voxels
    (z, y, x). voxel: explain one voxel (z, y, x), whatever it is labelled. labels: on the volume's grid, in which the
    component is looked for; by default the model segments the volume first. For memory-read: labels of some slices.
    out: a ".zarr" path for the map; without it it is an array in memory.

    The score that is explained is the log-odds of the label, summed over its voxels. For a whole label these are the
    voxels that the network labels so.

    Yields `Started` (with the plan, and the Volume being filled), a `Progress` per window, a `Filled` for each box that
    is final, a `Notice` where the map is empty or a window was left out, and `Finished` with the Volume: float32 of one
    channel on the volume's grid. With the knob `check` its provenance holds the correlations with the maps of three
    networks of random weights. `close()` cancels before the next window.

    config, or knobs: the fields of ExplainConfig. Memory does not grow with the number of slices, but for the mask of a
    component and for models that prepare the whole image.
    Raises InputError where volume, model and question do not fit, UnknownNameError for an unknown method or label,
    NotSupportedError where the model cannot be explained in this way, ModelFileError or FileError.
    """
    config = configured(ExplainConfig, config, knobs)
    what = Wanted(label, method_of(method), component, voxel, labels, None if out is None else Path(out))
    yield from finishing(explaining(volume, model, what, config))


def explain(volume: Volume, model: AnyModel | ModelSet | Sequence[AnyModel], **options: Any) -> Volume:
    """A map of a volume that says why a model labels something; the options are those of `iter_explain`."""
    result: Volume = result_of(iter_explain(volume, model, **options))
    return result


@dataclass(frozen=True, eq=False)
class Wanted:
    """The question as it was asked, before the model is opened. Raises InputError for an output that is no zarr."""

    label: int | str
    method: Method
    component: int | Place | None
    voxel: Place | None
    labels: Segmentation | None
    out: Path | None

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix.lower() != ".zarr":
            raise InputError(f"{self.out}: a map is streamed into a .zarr folder: end it in .zarr, or write the result")

    def of(self, model: Model) -> Asked:
        """The question to a model."""
        names, owner = model.spec.labels, str(model.path)
        if self.method.takes == "memory" and self.labels is not None:
            # A memory network knows one object: the annotated slices name it.
            names, owner = self.labels.labels, self.labels.name or "the labels"
        label = label_of(self.label, names, owner)
        return Asked(self.method, label, self.component, self.voxel)


def explaining(
    volume: Volume, model: AnyModel | ModelSet | Sequence[AnyModel], wanted: Wanted, config: ExplainConfig
) -> Work[Volume]:
    """The work of `iter_explain`."""
    chosen, wanted = _member(as_models(model), wanted)
    if wanted.labels is not None:
        wanted = replace(wanted, labels=onto(wanted.labels, volume.grid))
    asked = wanted.of(chosen)
    _require_explicable(volume, chosen, asked, wanted.labels)
    if asked.method.takes == "memory":
        return (yield from _reading(volume, chosen, asked, wanted, config))
    plan = resolve(
        ImageFacts.of(volume),
        chosen.spec,
        SegmentConfig(overlap=config.overlap, precision="fp32"),
        machine_for(config.device),
    )
    predictor = replace(load_predictor(chosen, plan), mirrors=())
    answers = Answers(asked, plan.spec, predictor, config, len(volume.channels), plan.halo)
    with _naming(chosen):
        if asked.method.name in _PROBED:
            answers.probe(plan)
        scene = yield from Scene.of(volume, plan, predictor)
    target = yield from _target(volume, chosen, asked, wanted.labels, config, plan.order)
    with _new_map(volume, chosen, asked, wanted.out) as result:
        about = f"{asked.method.title} of {asked.in_words(chosen.spec.labels)}, {plan.describe()}"
        yield Started(about, result, plan)
        likeness = yield from fill(scene, answers, target, result.data)
    for notice in _notices(answers, chosen):
        yield Notice(notice)
    return _checked(result, [each.correlation for each in likeness])


def _reading(volume: Volume, model: Model, asked: Asked, wanted: Wanted, config: ExplainConfig) -> Work[Volume]:
    """What a memory network reads, instead of windows."""
    from napari_medseg.explanation.reads import MemoryReads

    reads = MemoryReads.of(volume, model, asked, wanted.labels)
    with _new_map(volume, model, asked, wanted.out) as result:
        yield Started(f"{asked.method.title} of {len(reads.asked)} slices", result, None)
        correlations = yield from reads.fill(result.data, config)
    return _checked(result, correlations)


def _checked(heat: Volume, correlations: list[float]) -> Volume:
    """A map with what its check found, where there was one."""
    if not correlations:
        return heat
    found = {CHECK_KEY: float(np.abs(correlations).mean()), CHECKS_KEY: correlations}
    return replace(heat, provenance={**heat.provenance, **found})


def _member(model: Model | ModelSet, wanted: Wanted) -> tuple[Model, Wanted]:
    """The model that gives the label; of a set, the first one that does, with its own id of it."""
    if isinstance(model, Model):
        return model, wanted
    label = label_of(wanted.label, model.labels, "the set of models")
    for member in model.members:
        for own, of_set in member.ids.items():
            if of_set == label:
                return member.model, replace(wanted, label=own)
    raise AssertionError("a set has the labels of its members")


def _require_explicable(volume: Volume, model: Model, asked: Asked, labels: Segmentation | None) -> None:
    """Raise NotSupportedError for a network of another kind, InputError where volume, model and labels do not fit."""
    takes = network_named(model.spec.network).takes
    if takes != asked.method.takes:
        if asked.method.takes == "memory":
            raise NotSupportedError(
                f"{model.path}: {asked.method.name} explains memory networks, and this is {model.spec.network}: use "
                f"grad-cam"
            )
        way_out = ": use memory-read" if takes == "memory" else ""
        raise NotSupportedError(
            f"{model.path}: {model.spec.network} is no network from image to labels, and cannot be explained by "
            f"{asked.method.name}{way_out}"
        )
    if takes == "image":
        require_fit(volume, model.spec, str(model.path))
    if labels is not None:
        require_same_grid(labels, volume, "labels", "volume")


@contextmanager
def _naming(model: Model) -> Generator[None, None, None]:
    """What a model cannot be asked is told with its name."""
    try:
        yield
    except NotSupportedError as error:
        raise NotSupportedError(f"{model.path}: {error}") from error


def _target(
    volume: Volume, model: Model, asked: Asked, labels: Segmentation | None, config: ExplainConfig, order: AxisOrder
) -> Work[Target | None]:
    """The voxels that are explained; None for all that the network labels so."""
    if asked.voxel is not None:
        return Target.voxel(asked.voxel, volume.grid.shape, order)
    if asked.component is None:
        return None
    if labels is None:
        labels = yield from segmenting(volume, model, SegmentConfig(device=config.device, instances="none"))
    return Target.component(labels, asked.label, asked.component, order)


@contextmanager
def _new_map(volume: Volume, model: Model, asked: Asked, out: Path | None) -> Generator[Volume, None, None]:
    """The map to be filled inside, in memory or in a store, which is marked complete at the end."""
    made_by = {
        "method": asked.method.name,
        "label": asked.label,
        "component": asked.component,
        "voxel": asked.voxel,
        "model_sha256": model.sha256,
        "network": model.spec.network,
        "napari_medseg": __version__,
        "torch": torch.__version__,
    }
    made_by = {name: list(v) if isinstance(v, tuple) else v for name, v in made_by.items() if v is not None}
    name = f"{volume.name} {asked.method.name} {asked.in_words(model.spec.labels)}".strip()
    channels = (asked.method.name,)
    if out is None:
        data = np.zeros((1, *volume.grid.shape), np.float32)
        yield Volume(data, volume.grid, channels, name=name, provenance=made_by)
        return
    empty = np.broadcast_to(np.zeros((), np.float32), (1, *volume.grid.shape))
    with filling(out, Stored(empty, volume.grid, channels, {}, made_by, is_labels=False)) as array:
        yield Volume(array, volume.grid, channels, name=name, provenance=made_by)


def _notices(answers: Answers, model: Model) -> list[str]:
    """What the user should know of a map."""
    told = []
    if answers.not_finite:
        told.append(
            f"{answers.not_finite} windows were left out of the map: the model gives numbers there that are not finite"
        )
    if not answers.seen:
        name = answers.asked.in_words(model.spec.labels)
        told.append(f"the map is empty: the model labels no voxel of this image as {name}")
    return told
