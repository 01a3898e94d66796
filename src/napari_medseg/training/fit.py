"""`iter_train`: the one generator that the panel, the command line and scripts train with."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseg.cases import Case, groups_of
from napari_medseg.config import AugmentationConfig, BudgetConfig, LossConfig, TrainConfig, configured, knobs_of
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.events import Event, Finished, Notice, Started, result_of
from napari_medseg.inference.device import bf16_doubt, choose_device
from napari_medseg.inference.predictor import Predictor
from napari_medseg.io.disk.keeping import name_to_keep, step_aside
from napari_medseg.io.disk.locks import locked
from napari_medseg.models.file import Model
from napari_medseg.models.spec import PATIENTS, ModelSpec, Stage
from napari_medseg.models.transfer import origins_of
from napari_medseg.registry import network as network_named
from napari_medseg.training.budget import Budget
from napari_medseg.training.cases import (
    Numbered,
    PreparedCase,
    objects_of,
    require_regions,
)
from napari_medseg.training.generative.labels_only import is_made
from napari_medseg.training.job import DEFAULT_NETWORK, Job, asked, split, told_of_groups
from napari_medseg.training.loop import ShouldStop, ValidationCase, end_early, run, windows_of
from napari_medseg.training.losses.supervised import DEFAULT, WEAK, loss_named
from napari_medseg.training.patches import PatchSampler
from napari_medseg.training.planning.document import Plan
from napari_medseg.training.planning.doubts import label_doubts
from napari_medseg.training.planning.facts import (
    CaseFacts,
    labels_of,
    require_modalities,
    require_same_channels,
)
from napari_medseg.training.planning.fine_tuning import plan_from
from napari_medseg.training.planning.following import of_plan
from napari_medseg.training.planning.rules import patches_at_once, plan
from napari_medseg.training.preparing import (
    facts_of_target,
    first_predictor,
    prepare_all,
    prepare_target,
    prepare_unlabelled,
    read_facts,
    require_apart,
)
from napari_medseg.training.refiners.errors import (
    finding_errors,
    refiner_of,
)
from napari_medseg.training.refiners.plan import boxes_at_once, refiner_plan
from napari_medseg.training.reporting.reported import reported
from napari_medseg.training.saving.checkpoint import Checkpoints, write_result
from napari_medseg.training.saving.earlier import first_stage, folder_of, states_in
from napari_medseg.training.saving.record import described
from napari_medseg.training.saving.saved import Saved, load
from napari_medseg.training.schemes.domain.target import adapted_spec, by_itself, renormalised
from napari_medseg.training.schemes.requirements import crop_doubt
from napari_medseg.training.schemes.scheme import given_knobs
from napari_medseg.training.schemes.start import new_state
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.search.candidates import Candidate, candidates
from napari_medseg.training.search.searching import Search, searching
from napari_medseg.training.search.topology import finding_topology
from napari_medseg.training.sparse import held_out
from napari_medseg.training.state import Setup, TrainState, training_precision
from napari_medseg.transforms.regions import Merge
from napari_medseg.volume import Segmentation, Volume

_LATER = frozenset({"hard_patches"})
"""Knobs that earlier versions lack: left alone, they are no difference to a training that one of these began."""
_NOT_OF_WEIGHTS = ("schemes", "searching")
"""Groups of knobs of which a scheme uses some only, or whose outcome is in the plan."""
_IN_THE_PLAN = "mirror"
"""A knob whose outcome is there, too."""
_FIRST_STAGE = 0.4
"""Fraction of a budget in minutes that the first stage of a cascade gets."""


def iter_train(
    cases: Iterable[Case | tuple[Volume, Segmentation] | Segmentation],
    *,
    network: str | None = None,
    out: str | Path,
    init: Model | str | Path | None = None,
    merge: Merge = (),
    plan: Plan | str | Path | None = None,
    unlabelled: Iterable[Case | Volume] = (),
    target: Iterable[Case | Volume] = (),
    resume: bool = False,
    should_stop: ShouldStop = lambda: False,
    config: TrainConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Train a network on annotated volumes.

    cases: pairs of Volume and Segmentation on the same grid, up to flips and permutations of axes, in name order (the
    last fraction `val` validates); for a scheme that needs no image, Segmentations alone. network: its name; by default
    that of `init`, or unet3d. out: the model file to write. init: a model to start from; its network and preprocessing
    are kept, and in a cascade its first stage; for a scheme that makes a refiner the model, or set of folds, whose
    errors it learns. Labels are matched with the cases' by name and id, and a Notice says which ones are kept. merge:
    {name: label ids} of regions that are one label each, such as the liver with its tumours, {"liver": (1, 2)}. plan: a
    plan or its file, see `plan`, which decides network, patch, spacing and normalisation. unlabelled: images without
    labels, for a scheme that takes them. target: images of another domain (a scanner, a contrast) without labels, for a
    scheme that adapts the network to them. resume: go on from the state that a run with the same cases and settings
    left in the folder "NAME.training" when it was stopped or killed; on a CPU, with as many threads, the weights are
    those of a run that was not; a Notice says where the threads are others. Without a state the training begins at its
    start. should_stop: asked at every step; true ends the training early. config, or knobs: those of TrainConfig
    without their groups (epochs, minutes, val, seed, device ...).

    Yields Started (the plan), TrainProgress per step, Validated, and Finished with the Model. Closing the generator
    stops it too, and leaves a usable model file if a step has run. Beside `out`, a folder "NAME.training" holds the
    best and the last checkpoint (model files themselves), the history, log.csv, report.html, and the first stage of a
    cascade. What an earlier training left under these names is kept as "NAME.previous". A cascade that is stopped
    before its second stage ends with its first one as the model; closed before then, it leaves that in the folder only.

    Raises InputError for cases that do not fit together, UnknownNameError for a network or a knob that does not exist,
    ModelFileError for init.
    """
    config = configured(TrainConfig, config, knobs)
    more = {"unlabelled": unlabelled, "target": target}
    job, initial = asked(cases, network, out, init, merge, plan, config, resume=resume, should_stop=should_stop, **more)
    events = iter_job(job, initial)
    if job.config.reporting.report:
        events = reported(events, split(job.cases, job.config.validation.val)[1], job.out, job.config, should_stop)
    yield from events


def iter_job(job: Job, initial: Model | None = None) -> Generator[Event, None, None]:
    """The events of a training, see `iter_train`. initial: the model to start from."""
    with locked(job.out):
        over = finished_before(job)
        if over is not None:
            yield Notice(
                f"{job.out.name} is trained to its end, {over.spec.training.epochs:.3g} epochs: nothing to resume; "
                f"start from it to train it further"
            )
            yield Finished(over)
            return
        if job.out.exists() and not (job.resume and any(map(Path.exists, states_in(folder_of(job.out))))):
            yield Notice(f"a model of this name is there: it will be kept as {name_to_keep(job.out).name}")
        yield from _train_one(job, initial) if job.config.cascade == "none" else _train_cascade(job)


def finished_before(job: Job) -> Model | None:
    """The model of a training that should be resumed and that is over."""
    return Checkpoints(job.out).finished() if job.resume else None


def _train_cascade(job: Job) -> Iterator[Event]:
    """The first stage, then the second, which the first guides."""
    config = job.config
    detect = config.cascade == "detect"
    minutes = config.budget.minutes
    cases = [objects_of(case, config.loss) for case in job.cases] if detect else job.cases
    of_first = {
        "minutes": None if minutes is None else minutes * _FIRST_STAGE,
        "spacing_zyx_mm": None,
        "patch_zyx": None,
        "arguments": {} if config.first_network else config.arguments,
    }
    first_job = replace(
        job,
        cases=cases,
        network=config.first_network or job.network,
        out=first_stage(job.out),
        config=configured(TrainConfig, config, of_first),
    )
    found = finished_before(first_job)
    if found is None:
        yield Notice(f"first stage: {first_job.network}, at low resolution")
        found = yield from _until_finished(_train_one(first_job, None, guided=job))
    left = None if minutes is None else minutes * (1 - _FIRST_STAGE)
    second = replace(job, config=configured(TrainConfig, config, {"minutes": left}))
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
    """Pass on all events but the last; return the model of the last."""
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, Finished):
                model: Model = event.result
                return model
            yield event
    raise AssertionError("a training ends with Finished")


def _train_one(
    job: Job,
    initial: Model | None,
    *,
    stage: Stage | None = None,
    first: Model | None = None,
    guided: Job | None = None,
) -> Generator[Event, None, None]:
    """Train one network.

    stage, first: the stage before it in a cascade, and that stage's model. guided: the training of the stage after it.
    """
    target, scheme = choose_device(job.config.device), scheme_named(job.config.scheme)
    with contextlib.ExitStack() as stack:
        draw = np.random.default_rng(job.config.seed)
        read = yield from _read(job, draw)
        config, facts = read.config, read.to_train
        spec = _planned(job, config, initial, facts, read.labels, stage, target.type, coarse=guided is not None)
        if guided is not None and guided.plan is None:  # refused now, not after the first stage is trained
            plan(facts, guided.network, guided.config, target.type, first=_stage(spec, guided.config))
        boxes = spec.first is not None and spec.first.guide == "boxes"
        if scheme.takes == "memory" or spec.refines or boxes:  # in use, it sees objects only
            config = configured(TrainConfig, config, {"foreground": 1.0})
        saved = load(folder_of(job.out)) if job.resume else None
        spec = _mirrored_as_before(job, saved, (yield from _searched(job, saved, config, spec, read, target)))
        before = first_predictor(spec, first, initial, target)
        of_target = yield from facts_of_target(job, read.facts, draw)
        planned, spec = spec, adapted_spec(spec, facts, of_target)
        if is_made(job.cases):
            spec = by_itself(spec, [True] * len(spec.channels))
        if initial is not None or job.plan is not None:
            yield from map(Notice, renormalised(planned, spec))
        errors = None
        if job.errors_of is not None:
            errors = yield from finding_errors(job.errors_of, read.cases, job.cases, config)
        prepared = yield from prepare_all(read.training, facts, spec, config.loss, draw, stack, before, errors)
        others_seen = yield from prepare_unlabelled(job, read.facts, spec, draw, stack, before)
        base = initial if config.optimiser.adapt == "low-rank" else None
        trained = scheme.described(spec, config, None if initial is None else initial.spec, job.network)
        trained = _of_patients(trained, read.training)
        setup = _setup(job, config, spec, target, prepared, before)
        setup = replace(setup, base=base, spec=trained, errors=errors, held=frozenset(read.labels))
        setup = _at_its_rate(setup, starts=initial is not None or errors is not None)
        if others_seen:
            setup = replace(setup, unlabelled=_sampler(config, spec, target, others_seen))
        if of_target:
            target_seen = yield from prepare_target(job, of_target, spec, draw, stack)
            setup = replace(setup, target=_sampler(config, spec, target, target_seen))
        state = new_state(setup, job.errors_of or initial)
        keeper = Checkpoints(job.out, _settings(job, spec, job.errors_of or initial, setup.config.optimiser.peak))
        if saved is not None:
            keeper.require_same(saved)
        elif stage is None:  # the second stage of a cascade adds to the folder of its first
            step_aside(folder_of(job.out if guided is None else guided.out))
        yield Started(described(setup, state, [case.name for case in read.validation]))
        doubts = label_doubts(facts, read.to_validate, spec.labels) if stage is None else []
        crops = crop_doubt(scheme, spec, prepared)
        yield from _news(setup, config, initial, [*doubts, crops] if crops else doubts)
        if job.resume:
            yield from _resumed(saved, state, target.type)
        _begin(setup.budget, saved)
        yield Finished((yield from _run(setup, state, keeper, read.validating(spec), job.should_stop)))


@dataclass(frozen=True)
class _Read:
    """The cases of a training, and what was read of them."""

    config: TrainConfig
    training: list[Case]
    validation: list[Case]
    facts: list[CaseFacts]
    """Of both, in this order."""

    @property
    def cases(self) -> list[Case]:
        return [*self.training, *self.validation]

    @property
    def to_train(self) -> list[CaseFacts]:
        return self.facts[: len(self.training)]

    @property
    def to_validate(self) -> list[CaseFacts]:
        return self.facts[len(self.training) :]

    @property
    def labels(self) -> dict[int, str]:
        return labels_of(self.facts)

    def validating(self, spec: ModelSpec) -> list[ValidationCase]:
        """The validation cases, and what each takes."""
        pairs = zip(self.validation, self.to_validate, strict=True)
        return [ValidationCase(case, windows_of(facts, spec)) for case, facts in pairs]


def _read(job: Job, draw: np.random.Generator) -> Generator[Event, None, _Read]:
    """Share the cases of a job out, and look at each. Raises InputError for cases that do not fit together."""
    config, scheme = job.config, scheme_named(job.config.scheme)
    training, validation = split(job.cases, config.validation.val)
    is_one = len(job.cases) == 1 and scheme.takes == "image" and not isinstance(job.cases[0], Numbered)
    if is_one and config.validation.val and scheme.makes_images:
        yield Notice(f"scheme {scheme.name} needs the labels of the one case whole: no slice is kept to validate on")
    elif is_one and config.validation.val:
        training, validation, config = held_out(job.cases[0], config)
    told = told_of_groups(job.cases, config.validation.val) if config.validation.val else ""
    yield from [Notice(told)] if told else []
    facts = yield from read_facts([*training, *validation], config.loss, draw)
    require_same_channels(facts)
    require_modalities(facts, config)
    if not is_one:  # the slices of a single case are shared out
        require_apart(training, validation, facts)
    require_regions(job.cases, labels_of(facts))
    known = [f.annotated for f in facts[len(training) :]]
    for part, of_part, does in ((training, facts, "teaches"), (validation, facts[len(training) :], "validates")):
        idle = [case.name for case, f in zip(part, of_part, strict=False) if not f.annotated]
        if idle:
            yield Notice(f"{', '.join(idle)}: nobody annotated a voxel of it: {does} nothing")
    validation = list(itertools.compress(validation, known))
    return _Read(
        config, training, validation, [*facts[: len(training)], *itertools.compress(facts[len(training) :], known)]
    )


def _planned(
    job: Job,
    config: TrainConfig,
    initial: Model | None,
    facts: list[CaseFacts],
    labels: dict[int, str],
    stage: Stage | None,
    device: str,
    *,
    coarse: bool,
) -> ModelSpec:
    """The model that is to be trained. stage: the one before it in a cascade. coarse: whether another follows."""
    scheme = scheme_named(config.scheme)
    if scheme.describe:  # planned as for the default network; what is trained is described below
        return plan(facts, DEFAULT_NETWORK, _without_arguments(config), device, labels=labels)
    if job.errors_of is not None:
        return refiner_plan(refiner_of(config.scheme), job.errors_of, facts, job.network or None, config)
    if job.plan is not None:
        return of_plan(job.plan, facts, config, labels, first=stage, coarse=coarse)
    if initial is None:
        return plan(facts, job.network, config, device, labels=labels, first=stage, coarse=coarse)
    return plan_from(initial.spec, facts, config, labels=labels)


def _searched(
    job: Job, earlier: Saved | None, config: TrainConfig, spec: ModelSpec, read: _Read, device: torch.device
) -> Generator[Event, None, ModelSpec]:
    """The plan to train by: what a search finds where one is asked for; a training that is resumed has its own."""
    seconds, facts = config.searching.search * 60, read.to_train
    if not seconds:
        return spec
    if earlier is not None:
        return ModelSpec.from_json(json.dumps(earlier.settings["plan"]))
    tried = candidates(spec, facts, config, device.type, read.labels)
    with contextlib.ExitStack() as stack:
        draw = np.random.default_rng(config.seed)  # the training draws as if nothing had been tried
        prepared = yield from prepare_all(read.training, facts, spec, config.loss, draw, stack, None)

        def begin(candidate: Candidate, budget: BudgetConfig) -> Setup:
            own = replace(config, budget=budget)
            return _at_its_rate(_setup(job, own, candidate.spec, device, prepared, None), starts=False)

        until = job.now() + seconds
        if config.searching.search_network == "dints":
            half = BudgetConfig(minutes=seconds / 2 / 60)
            arguments = yield from finding_topology(begin(tried[0], half), job.should_stop)
            own = configured(TrainConfig, config, {"arguments": arguments})
            found = plan(facts, "dints", own, device.type, labels=read.labels)
            tried.insert(1, Candidate("the network found", found))
        search = Search(until, job.now, begin, read.validating(spec), job.should_stop)
        return (yield from searching(search, tried)).spec


def _of_patients(spec: ModelSpec, cases: Sequence[Case]) -> ModelSpec:
    """The spec, whose record says how many patients the cases show, where those are fewer."""
    patients = len(groups_of(cases))
    if patients == len(cases):
        return spec
    fingerprint = {**spec.training.fingerprint, PATIENTS: patients}
    return replace(spec, training=replace(spec.training, fingerprint=fingerprint))


def _mirrored_as_before(job: Job, earlier: Saved | None, spec: ModelSpec) -> ModelSpec:
    """The spec of a training that is resumed mirrors as it did, also where an earlier version planned it.

    Raises InputError where something else than the default is asked for.
    """
    if earlier is None or "plan" not in earlier.settings:
        return spec
    recipe, asked = ModelSpec.from_json(json.dumps(earlier.settings["plan"])).recipe, job.config.augmentation.mirror
    if asked != AugmentationConfig().mirror and recipe.mirror_axes != spec.recipe.mirror_axes:
        raise InputError(f"mirror {asked} does not go with the training to resume, which has other axes: leave it out")
    return replace(spec, recipe=recipe)


def _run(
    setup: Setup,
    state: TrainState,
    keeper: Checkpoints,
    validating: Sequence[ValidationCase],
    should_stop: ShouldStop,
) -> Generator[Event, None, Model]:
    """`run`, which leaves a model where it is closed, and says what stands where it fails."""
    try:
        return (yield from run(setup, state, keeper, validating, should_stop))
    except (GeneratorExit, KeyboardInterrupt):
        end_early(setup, state, keeper)
        raise
    except (MedsegError, MemoryError, RuntimeError) as error:
        raise explained(error, state.step, keeper) from error


def _news(setup: Setup, config: TrainConfig, initial: Model | None, doubts: Sequence[str]) -> Iterator[Event]:
    """What the user should know before the first step."""
    if initial is not None:
        origins = origins_of(setup.spec.labels, initial.spec.labels)
        yield Notice(f"from {initial.path.name}: {origins.describe()}")
    slow = bf16_doubt(config.precision, setup.device)
    if slow is not None:
        yield Notice(slow)
    yield from map(Notice, doubts)


def _resumed(saved: Saved | None, state: TrainState, device: str) -> Iterator[Event]:
    """Bring the state to where the earlier run was; a Notice where the weights cannot be those of a single run."""
    if saved is None:
        yield Notice("there is no state to resume: the training begins at its start")
        return
    state.load_state_dict(saved.state)
    state.written = saved.written
    yield Notice(f"resumed after step {state.step}")
    threads = torch.get_num_threads()
    if device == "cpu" and saved.threads not in (None, threads):
        yield Notice(
            f"torch threads were {saved.threads} before and are {threads} now, which add up in another order: the "
            f"weights will not be, bit for bit, those of a single run; OMP_NUM_THREADS={saved.threads} keeps them"
        )


def _begin(budget: Budget, saved: Saved | None) -> None:
    """The first step is due: the budget goes on from where the earlier run left it, unless its length is new."""
    if saved is None:
        budget.begin()
    elif saved.settings.get("minutes") == budget.config.minutes:
        budget.begin(saved.seconds, saved.done, saved.reserved)
    else:
        budget.begin(saved.seconds)


def _settings(job: Job, spec: ModelSpec, initial: Model | None, rate: float) -> dict[str, Any]:
    """All that the weights follow from."""
    knobs = {name: knob for name, knob in knobs_of(TrainConfig).items() if knob.group not in _NOT_OF_WEIGHTS}
    groups = {name: getattr(job.config, knob.group) if knob.group else job.config for name, knob in knobs.items()}
    values = {name: getattr(group, name) for name, group in groups.items()}
    return {
        **{name: v for name, v in values.items() if name != _IN_THE_PLAN and (v or name not in _LATER)},
        "learning_rate": rate,
        **given_knobs(job.config),  # what a scheme is left alone with may come with a later version
        "arguments": dict(job.config.arguments),
        "cases": [case.name for case in job.cases],
        "unlabelled": [case.name for case in job.unlabelled],
        **({"target": [case.name for case in job.target]} if job.target else {}),
        "model to start from": None if initial is None else initial.sha256,
        "plan": json.loads(spec.to_json()),
    }


def explained(error: Exception, step: int, keeper: Checkpoints) -> Exception:
    """The error with what is left of the training; what a full memory raises as an InputError.

    Anything else that is no error of ours stays as it is: a defect.
    """
    lack = isinstance(error, MemoryError) or "memory" in str(error).lower()
    if not isinstance(error, MedsegError) and not lack:
        return error
    reason = (
        str(error)
        if isinstance(error, MedsegError)
        else ("the memory is full: take a smaller patch_zyx or batch_size, or close other programs")
    )
    there = [path for path in states_in(keeper.folder) if path.exists()]
    left = f"the state saved in {keeper.folder} stands: resume from it" if there else "no state had been saved yet"
    kind = type(error) if isinstance(error, MedsegError) else InputError
    return kind(f"step {step}: {reason}; {left}")


def _setup(
    job: Job,
    config: TrainConfig,
    spec: ModelSpec,
    device: torch.device,
    prepared: list[PreparedCase],
    first: Predictor | None,
) -> Setup:
    sampler = _sampler(config, spec, device, prepared)
    budget = Budget(config.budget, sampler.steps_per_epoch, job.now, began=job.now())
    takes_more = scheme_named(config.scheme).describe != ""  # than an image: such networks learn in fp32 alone
    precision = "fp32" if takes_more else training_precision(config.precision, device, spec.network)
    loss = job.loss or loss_named(_loss_of(config.loss))
    return Setup(spec, config, device, precision, sampler, budget, loss, first, pictured=not is_made(job.cases))


def _at_its_rate(setup: Setup, *, starts: bool) -> Setup:
    """With the learning rate that suits the network, where none was given. starts: whether it starts from a model."""
    if starts or setup.config.optimiser.learning_rate is not None:
        return setup
    rate = network_named(setup.spec.network).learning_rate
    return replace(setup, config=configured(TrainConfig, setup.config, {"learning_rate": rate}))


def _without_arguments(config: TrainConfig) -> TrainConfig:
    """The settings without the arguments of a network, for the plan of another one."""
    return configured(TrainConfig, config, {"arguments": {}})


def _sampler(config: TrainConfig, spec: ModelSpec, device: torch.device, prepared: list[PreparedCase]) -> PatchSampler:
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    return PatchSampler(
        prepared,
        spec.patch_zyx,
        spec.spacing_zyx_mm,
        batch_size=config.sampling.batch_size * (boxes_at_once if spec.refines else patches_at_once)(spec),
        foreground=config.sampling.foreground,
        augmentation=config.augmentation,
        mirror_axes=spec.recipe.mirror_axes,
        seed=config.seed,
        device=device,
        intensities=not scheme_named(config.scheme).takes_target,
    )


def _loss_of(config: LossConfig) -> str:
    """The loss that was chosen; with weak labels the default learns from the image too."""
    return WEAK if config.weak != "none" and config.loss == DEFAULT else config.loss


def train(cases: Iterable[Case | tuple[Volume, Segmentation] | Segmentation], **options: Any) -> Model:
    """Train and return the model; the options are those of `iter_train`."""
    result: Model = result_of(iter_train(cases, **options))
    return result
