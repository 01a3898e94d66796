"""`iter_train`: the one generator that the panel, the command line and scripts train with."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, Progress, Started, result_of
from napari_medseg.inference.device import choose_device
from napari_medseg.inference.predictor import Predictor
from napari_medseg.io.disk.files import require_room
from napari_medseg.io.disk.locks import claimed
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.spec import ModelSpec, Stage
from napari_medseg.registry import network as network_named
from napari_medseg.training.cases import Case, PreparedCase, as_cases, objects_of, prepare
from napari_medseg.training.checkpoint import Checkpoints, folder_of, require_writable, write_result
from napari_medseg.training.loop import Fit, ShouldStop, windows_of
from napari_medseg.training.plan import CaseFacts, facts_of, plan, plan_from, require_same_channels
from napari_medseg.training.previous import kept_name, step_aside
from napari_medseg.volume import Segmentation, Volume

_MEMORY_FOR_CASES = 4 * 2**30
"""Bytes of prepared cases kept in memory; beyond, they go to scratch files and patches are read from there."""
_FIRST_STAGE = 0.4
"""Fraction of a budget in minutes that the first stage of a cascade gets."""


def iter_train(
    cases: Iterable[Case | tuple[Volume, Segmentation]],
    *,
    network: str = "unet3d",
    out: str | Path,
    init: Model | str | Path | None = None,
    should_stop: ShouldStop = lambda: False,
    config: TrainConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Train a network on annotated volumes.

    cases: pairs of Volume and Segmentation on the same grid, in name order (the last fraction `val` validates).
    out: the model file to write. init: a model to start from; its network and preprocessing are kept, and in a cascade
    its first stage as it is. should_stop: asked at every step; true ends the training as if the budget were used up.
    config, or knobs: the fields of TrainConfig (epochs, minutes, val, seed, device ...).

    Yields Started (the plan), TrainProgress per step, Validated, and Finished with the Model. Closing the generator
    stops it too, and leaves a usable model file if a step has run. Beside `out`, a folder "NAME.training" holds the
    best and the last checkpoint (model files themselves), the history, and the first stage of a cascade, which is
    trained before. What an earlier training left under these names is kept as "NAME.previous". A cascade that should
    stop before its second stage has begun ends with its first one as the model, which a Notice says; one that is closed
    then leaves the first stage in that folder only.

    Raises InputError for cases that do not fit together, UnknownNameError for the network, ModelFileError for init.
    """
    asked = time.monotonic()
    config = replace(config or TrainConfig(), **knobs)
    for name in (network, config.first_network or network):
        require_trainable(name)
    job = _Job(as_cases(cases), network, require_writable(out), should_stop, config, asked)
    initial = None if init is None else as_model(init)
    if config.cascade != "none" and initial is not None:
        raise InputError("a cascade is trained from its first stage on: give no model to start from, or no cascade")
    with claimed(job.out):
        if job.out.exists():
            yield Notice(f"a model of this name is there: it will be kept as {kept_name(job.out).name}")
        yield from _train_one(job, initial) if config.cascade == "none" else _train_cascade(job)


@dataclass(frozen=True)
class _Job:
    """One network to train."""

    cases: list[Case]
    network: str
    out: Path
    should_stop: ShouldStop
    config: TrainConfig
    asked: float
    """When, on the monotonic clock: budgets in minutes count from there."""


def require_trainable(name: str) -> None:
    """Raise UnknownNameError for no network, InputError for one that does not map images to logits."""
    if not network_named(name).image_to_logits:
        raise InputError(f"network {name} is no network from image to labels: it is trained by a scheme of its own")


def _train_cascade(job: _Job) -> Iterator[Event]:
    """The first stage, then the second, which the first guides."""
    config = job.config
    detect = config.cascade == "detect"
    folder = folder_of(job.out)
    minutes = None if config.minutes is None else config.minutes * _FIRST_STAGE
    cases = [objects_of(case, config) for case in job.cases] if detect else job.cases
    arguments = {} if config.first_network else config.arguments
    first_job = replace(
        job,
        cases=cases,
        network=config.first_network or job.network,
        out=folder / "first.safetensors",
        config=replace(config, minutes=minutes, spacing_zyx_mm=None, patch_zyx=None, arguments=arguments),
    )
    yield Notice(f"first stage: {first_job.network}, at low resolution")
    found = yield from _until_finished(_train_one(first_job, None, guided=job))
    now = time.monotonic()
    left = None if config.minutes is None else max(0.01, config.minutes - (now - job.asked) / 60)
    second = replace(job, config=replace(config, minutes=left), asked=now)
    yield Notice(f"second stage: {job.network}")
    with contextlib.closing(_train_one(second, None, stage=_stage(found.spec, config), first=found)) as events:
        begun = False
        for event in events:
            if not begun and job.should_stop():
                yield from _end_with(found, job.out)
                return
            begun = begun or isinstance(event, Started)
            yield event


def _stage(spec: ModelSpec, config: TrainConfig) -> Stage:
    """A first stage that guides as the cascade wants it."""
    return Stage(model=spec, guide="boxes" if config.cascade == "detect" else "channel")


def _end_with(found: Model, out: Path) -> Iterator[Event]:
    """The first stage as the model: a second one that has learned nothing would spoil what the first has found."""
    yield Notice(f"stopped before the second stage was trained: {out.name} is the first stage alone")
    yield Finished(write_result(out, found.spec, found.load_network().state_dict()))


def _until_finished(events: Generator[Event, None, None]) -> Generator[Event, None, Model]:
    """Pass the events on but for the last; return its model."""
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, Finished):
                model: Model = event.result
                return model
            yield event
    raise AssertionError("a training ends with Finished")


def _train_one(
    job: _Job,
    initial: Model | None,
    *,
    stage: Stage | None = None,
    first: Model | None = None,
    guided: _Job | None = None,
) -> Generator[Event, None, None]:
    """Train one network. stage, first: what guides it, and that stage's model. guided: the one it will guide."""
    config, target = job.config, choose_device(job.config.device)
    training, validation = split(job.cases, config.val)
    with contextlib.ExitStack() as stack:
        draw = np.random.default_rng(config.seed)
        all_facts = yield from _read_facts([*training, *validation], config, draw)
        require_same_channels(all_facts)
        facts = all_facts[: len(training)]
        if initial is None:
            spec = plan(facts, job.network, config, target.type, first=stage, coarse=guided is not None)
        else:
            spec = plan_from(initial.spec, facts, config)
        if guided is not None:  # refused now, not after the first stage is trained
            plan(facts, guided.network, guided.config, target.type, first=_stage(spec, guided.config))
        if spec.first is not None and spec.first.guide == "boxes":  # in use, it is shown nothing else
            config = replace(config, foreground=1.0)
        before = _first_predictor(spec, first, initial, target)
        prepared = yield from _prepare(training, facts, spec, config, draw, stack, before)
        fit = Fit(spec, config, target, prepared, initial=initial, asked=job.asked, first=before)
        if stage is None:  # the second stage of a cascade adds to the folder of its first
            step_aside(folder_of(job.out if guided is None else guided.out))
        keeper = Checkpoints(job.out, fit.state)
        fit.validation_windows = [windows_of(f, spec) for f in all_facts[len(training) :]]
        yield Started(fit.describe(len(validation)))
        try:
            yield from fit.run(validation, keeper, job.should_stop)
        except (GeneratorExit, KeyboardInterrupt):
            keeper.finish_early(fit.spec_now())
            raise
        yield Finished(keeper.model)


def _first_predictor(
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


def train(cases: Iterable[Case | tuple[Volume, Segmentation]], **options: Any) -> Model:
    """Train and return the model; the options are those of `iter_train`."""
    result: Model = result_of(iter_train(cases, **options))
    return result


def split(cases: list[Case], fraction: float) -> tuple[list[Case], list[Case]]:
    """The cases to train on and the last `fraction` of them, rounded, to validate on; one at least trains."""
    count = min(round(len(cases) * fraction), len(cases) - 1)
    return cases[: len(cases) - count], cases[len(cases) - count :]


def _read_facts(
    cases: list[Case], config: TrainConfig, draw: np.random.Generator
) -> Generator[Event, None, list[CaseFacts]]:
    facts = []
    for done, case in enumerate(cases, start=1):
        facts.append(facts_of(case, config, draw))
        yield Progress(done, len(cases), "reading cases")
    return facts


def _prepare(
    cases: list[Case],
    facts: list[CaseFacts],
    spec: ModelSpec,
    config: TrainConfig,
    draw: np.random.Generator,
    stack: contextlib.ExitStack,
    first: Predictor | None,
) -> Generator[Event, None, list[PreparedCase]]:
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    shrink = float(np.prod(spec.spacing_zyx_mm))
    voxels = sum(float(np.prod(f.grid.shape)) * f.grid.voxel_volume_mm3 / shrink for f in facts)
    size = voxels * (4 * (len(spec.channels) + (spec.first.channels if spec.first else 0)) + 2)
    scratch = None
    if size > _MEMORY_FOR_CASES:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="napari-medseg-")))
        require_room(scratch, int(size))
    prepared = []
    for done, case in enumerate(cases, start=1):
        prepared.append((yield from prepare(case, spec, config, draw, scratch, first)))
        yield Progress(done, len(cases), "preparing cases")
    return prepared
