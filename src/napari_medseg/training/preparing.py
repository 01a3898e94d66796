"""The cases of a training as the network sees them: read, brought to its spacing, normalised."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch

from napari_medseg.cases import Case
from napari_medseg.config import LossConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Progress
from napari_medseg.inference.predictor import Predictor
from napari_medseg.io.disk.files import require_room
from napari_medseg.models.file import Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.cases import (
    PreparedCase,
    prepare,
)
from napari_medseg.training.job import Job
from napari_medseg.training.planning.facts import CaseFacts, facts_of
from napari_medseg.training.refiners.errors import (
    Errors,
)
from napari_medseg.training.refiners.prepared import prepare_errors
from napari_medseg.training.schemes.domain.target import require_other_images
from napari_medseg.training.unlabelled import (
    doubts,
    ignoring,
    require_alike,
    twin_of,
    without_labelled,
    without_labels,
)

_MEMORY_FOR_CASES = 4 * 2**30
"""Bytes of prepared cases kept in memory; more go to scratch files, from which patches are read."""


def read_facts(
    cases: list[Case], loss: LossConfig, draw: np.random.Generator
) -> Generator[Event, None, list[CaseFacts]]:
    facts = []
    for done, case in enumerate(cases, start=1):
        facts.append(facts_of(case, loss, draw))
        yield Progress(done, len(cases), "reading cases")
    return facts


def require_apart(training: Sequence[Case], validation: Sequence[Case], facts: Sequence[CaseFacts]) -> None:
    """Raise InputError for a case to validate on that is the image of one to train on: its score would mean nothing.

    facts: of the cases to train on, then of those to validate on.
    """
    taught = list(zip(training, facts, strict=False))
    for case, its in zip(validation, facts[len(training) :], strict=True):
        twin = twin_of(case, its, taught)
        if twin:
            raise InputError(
                f"case {case.name} is the same image as case {twin}; one would be trained on and the other validated "
                f"on: leave one out"
            )


def facts_of_target(
    job: Job, labelled: Sequence[CaseFacts], draw: np.random.Generator
) -> Generator[Event, None, list[CaseFacts]]:
    """What the images of another domain are like; refused where they cannot be what they should."""
    if not job.target:
        return []
    facts = yield from read_facts([without_labels(c) for c in job.target], ignoring(job.config.loss), draw)
    require_other_images(job.cases, labelled, job.target, facts)
    return facts


def prepare_all(
    cases: list[Case],
    facts: list[CaseFacts],
    spec: ModelSpec,
    loss: LossConfig,
    draw: np.random.Generator,
    stack: contextlib.ExitStack,
    first: Predictor | None,
    errors: Errors | None = None,
) -> Generator[Event, None, list[PreparedCase]]:
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    shrink = float(np.prod(spec.spacing_zyx_mm))
    voxels = sum(float(np.prod(f.grid.shape)) * f.grid.voxel_volume_mm3 / shrink for f in facts)
    guides = len(spec.labels) if errors is not None else spec.first.channels if spec.first else 0
    size = voxels * (4 * (len(spec.channels) + guides) + 2)
    scratch = None
    if size > _MEMORY_FOR_CASES:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="napari-medseg-")))
        require_room(scratch, int(size))
    prepared = []
    for done, case in enumerate(cases, start=1):
        if errors is None:
            prepared.append((yield from prepare(case, spec, loss, draw, scratch, first)))
        else:
            prepared.append((yield from prepare_errors(case, errors.found[case.name], spec, loss, draw, scratch)))
        yield Progress(done, len(cases), "preparing cases")
    return prepared


def prepare_target(
    job: Job, facts: list[CaseFacts], spec: ModelSpec, draw: np.random.Generator, stack: contextlib.ExitStack
) -> Generator[Event, None, list[PreparedCase]]:
    """The images of another domain as the network sees them."""
    cases = [without_labels(case) for case in job.target]
    return (yield from prepare_all(cases, facts, spec, ignoring(job.config.loss), draw, stack, None))


def prepare_unlabelled(
    job: Job,
    labelled: list[CaseFacts],
    spec: ModelSpec,
    draw: np.random.Generator,
    stack: contextlib.ExitStack,
    first: Predictor | None,
) -> Generator[Event, None, list[PreparedCase]]:
    """The images without labels as the network sees them; nobody annotated a voxel of them.

    labelled: the facts of the labelled cases.
    """
    if not job.unlabelled:
        return []
    cases = [without_labels(case) for case in job.unlabelled]
    loss = ignoring(job.config.loss)
    facts = yield from read_facts(cases, loss, draw)
    require_alike(facts, labelled)
    kept, told = without_labelled(cases, facts, job.cases, labelled)
    yield from [Notice(told)] if told else []
    cases, facts = [cases[i] for i in kept], [facts[i] for i in kept]
    yield from map(Notice, doubts(facts, labelled))
    return (yield from prepare_all(cases, facts, spec, loss, draw, stack, first))


def first_predictor(
    spec: ModelSpec, first: Model | None, initial: Model | None, device: torch.device
) -> Predictor | None:
    """The network of the stage before, in fp32: of the model just trained, or of the cascade that is trained on."""
    if spec.first is None:
        return None
    if first is not None:
        network = first.load_network(device)
    else:
        assert initial is not None, "a stage before comes from somewhere"
        network = initial.load_first(device)
    return Predictor.of(network, spec.first.model, device, "fp32")
