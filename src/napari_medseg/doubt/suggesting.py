"""`suggest`: what to annotate next, so that a model learns most of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg import registry
from napari_medseg.arrays.views import onto
from napari_medseg.cases import Case
from napari_medseg.config import SuggestConfig, configured
from napari_medseg.doubt.candidates import Candidate, Suggestion, axis_of, case_of, regions_of, slices_of
from napari_medseg.doubt.diversity import covering, joined, k_center
from napari_medseg.doubt.look import Look, looking
from napari_medseg.doubt.streaming import WINDOWS
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.events import Event, Notice, Progress, Started, Work, finishing, result_of
from napari_medseg.models.file import Model
from napari_medseg.models.several import AnyModel, ModelSet, as_models
from napari_medseg.registry import shown
from napari_medseg.transforms.annotated import held_slices
from napari_medseg.volume import Segmentation, Volume, require_same_grid


def iter_suggest(
    volumes: Iterable[Volume | Case],
    model: AnyModel | ModelSet | Sequence[AnyModel],
    *,
    annotated: Mapping[str, Collection[int]] | None = None,
    labels: Mapping[str, Segmentation] | None = None,
    config: SuggestConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Look at images through a model, and say what to annotate next.

    volumes: images (C, Z, Y, X), or cases, whose files are opened one after the other. model: one, or several of the
    same labels; or a volumetric memory network, which needs labels of some slices of every image, and suggests slices
    by its quality head. annotated: {name of an image: slices that are annotated already, along the axis}: they are not
    suggested, nor is what is like them. labels: {name of an image: labels of some slices}: those that hold a label are
    annotated.

    Yields a Progress, a Notice with the expected Dice of each image where the model knows it, and `Finished` with a
    list of Suggestion, the best first; the same for the same images, model and knobs. config, or knobs: the fields of
    SuggestConfig. Memory does not grow with the number of slices.
    Raises InputError where images and model do not fit, or an image has no name of its own; NotSupportedError for a
    model that has no probabilities; ModelFileError; FileError.
    """
    config = configured(SuggestConfig, config, knobs)
    yield from finishing(suggesting(_cases(volumes), model, annotated or {}, labels or {}, config))


def suggest(
    volumes: Iterable[Volume | Case], model: AnyModel | ModelSet | Sequence[AnyModel], **options: Any
) -> list[Suggestion]:
    """What to annotate next, the best first; the options are those of `iter_suggest`."""
    result: list[Suggestion] = result_of(iter_suggest(volumes, model, **options))
    return result


def suggesting(
    cases: Sequence[Case],
    model: AnyModel | ModelSet | Sequence[AnyModel],
    annotated: Mapping[str, Collection[int]],
    labels: Mapping[str, Segmentation],
    config: SuggestConfig,
) -> Work[list[Suggestion]]:
    """The work of `iter_suggest`."""
    chosen = as_models(model)
    if isinstance(chosen, ModelSet):
        raise NotSupportedError("a set of models has no doubts of its own: give one of its models")
    unknown = sorted({*annotated, *labels} - {case.name for case in cases})
    if unknown:
        raise InputError(f"{unknown[0]!r} is annotated, but no image has that name: the images are {_named(cases)}")
    yield Started(f"looking at {len(cases)} image{'s' * (len(cases) > 1)} for what to annotate next")
    candidates: list[Candidate] = []
    for done, case in enumerate(cases):
        volume, given = case.volume(), labels.get(case.name)
        if given is not None:
            given = onto(given, volume.grid)
            require_same_grid(given, volume, f"labels of {case.name}", case.name)
        if registry.network(chosen.spec.network).takes == "memory":
            candidates += _by_memory(case.name, volume, given, chosen)
        else:
            look = yield from _watching(volume, chosen, case.name, config, done, len(cases))
            line = chosen.spec.trust.dice
            if line is not None:
                yield Notice(f"{case.name}: {line.sentence(look.signs)}")
            candidates += _candidates(look, chosen, config, annotated.get(case.name, ()), given)
        yield _progress(done + 1, len(cases))
    return _best(candidates, config)


def _watching(volume: Volume, model: Model, case: str, config: SuggestConfig, done: int, total: int) -> Work[Look]:
    """A look, whose windows are a part of the progress over the images."""
    work = looking(volume, model, case, config.device, config.overlap)
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            look: Look = end.value
            return look
        if isinstance(event, Progress) and event.message == WINDOWS and event.done < event.total:
            yield _progress(done + event.done / event.total, total)


def _progress(done: float, images: int) -> Progress:
    """How much is looked at. done: images, and a part of the next."""
    return Progress(int(100 * done / images), 100, f"percent of {images} image{'s' * (images > 1)}")


def _candidates(
    look: Look, model: Model, config: SuggestConfig, annotated: Collection[int], labels: Segmentation | None
) -> Iterable[Candidate]:
    if config.kind == "slice":
        axis = axis_of(look.grid, config.axis)
        held = [] if labels is None else held_slices(np.asarray(labels.data[...]) != 0, axis).tolist()
        return slices_of(look, axis, {*annotated, *held})
    if config.kind == "region":
        return regions_of(look, config.count, config.region_mm)
    return [case_of(look, model.spec.trust.dice)]


def _best(candidates: Sequence[Candidate], config: SuggestConfig) -> list[Suggestion]:
    """The best candidates. Of equal ones the first in order."""
    free = [c.suggestion for c in candidates if not c.taken]
    if not free:
        return []
    if config.by == "doubt" or not candidates[0].features:  # regions of a case lie apart already
        return sorted(free, key=lambda s: -s.score)[: config.count]
    features = joined(*([c.features[g] for c in candidates] for g in range(len(candidates[0].features))))
    taken = [k for k, c in enumerate(candidates) if c.taken]
    if config.by == "diversity":
        chosen = k_center(features, np.ones(len(candidates)), config.count, taken)
    else:
        cases = np.unique([c.suggestion.case for c in candidates], return_inverse=True)[1]
        chosen = covering(features, [c.weight for c in candidates], cases, config.count, taken)
    return [candidates[k].suggestion for k in chosen]


def _by_memory(case: str, volume: Volume, labels: Segmentation | None, model: Model) -> list[Candidate]:
    from napari_medseg.doubt.memory import slices_by_memory

    if labels is None:
        raise InputError(
            f"{case}: a memory network fills an image from labels of some slices: give these labels, or a model that "
            f"segments"
        )
    return list(slices_by_memory(case, volume, labels, model))


def _cases(volumes: Iterable[Volume | Case]) -> list[Case]:
    """Each image as a case with a name of its own."""
    if isinstance(volumes, Volume | Case | str | Path):
        raise InputError("suggest takes several images: give a list, of one Volume where there is one")
    cases = [_case(image, n) for n, image in enumerate(volumes)]
    if not cases:
        raise InputError("no image is given: give one, or several")
    names = [case.name for case in cases]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError(f"two images have the name {twice!r}: give each a name of its own")
    return cases


def _case(image: Volume | Case, number: int) -> Case:
    if not isinstance(image, Volume | Case):
        raise InputError(f"an image must be a Volume or a Case; got {shown(image)}: read it first")
    return image if isinstance(image, Case) else Case(name=image.name or f"image {number}", images=(image,))


def _named(cases: Sequence[Case]) -> str:
    return ", ".join(repr(case.name) for case in cases[:5]) + (" ..." if len(cases) > 5 else "")
