"""The loop of a training: steps, phases and validations until the budget is used."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NoReturn

import numpy as np

from napari_medseg.cases import Case
from napari_medseg.config import CleanConfig, Precision, SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Pictured, TrainProgress, Validated
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.adapters import without_adapters
from napari_medseg.models.file import Model
from napari_medseg.models.refining import GIVEN, no_better
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.trust import PLAIN_TRUST, Trust
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.planning.facts import CaseFacts
from napari_medseg.training.refiners.deciding import deciding
from napari_medseg.training.saving.checkpoint import Checkpoints
from napari_medseg.training.saving.record import recorded
from napari_medseg.training.schedule import SavingSchedule, ValidationSchedule, learning_rate
from napari_medseg.training.schemes.descent import is_finite
from napari_medseg.training.schemes.scheme import LabelsImages, MakesUp, Prepares, ScoresItself
from napari_medseg.training.state import Setup, TrainState, weights_of
from napari_medseg.training.validate import believing, mean_of, predict_with, validate, validate_presets

_NON_FINITE_IN_A_ROW = 10
"""Steps without a finite loss, or finite gradients, after which a training gives up."""
_STEPS_TO_TIME = 4
"""Steps by whose pace the cost of a validation is estimated."""
_BF16_TOLERANCE = 0.001
"""Dice by which bf16 may be worse than fp32 and still count as good."""

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class ValidationCase:
    """A case to validate on, and the number of windows that segmenting it takes."""

    case: Case
    windows: int


def run(
    setup: Setup,
    state: TrainState,
    keeper: Checkpoints,
    cases: Sequence[ValidationCase],
    should_stop: ShouldStop,
) -> Generator[Event, None, Model]:
    """Steps and validations from `state` on until the budget is used, then the last validation and the model file.

    The state is saved along the way and when the training is asked to stop; it is removed when the budget is used.
    """
    budget, start, skipped = setup.budget, state.step, 0
    schedule = ValidationSchedule(budget, setup.config.validation.validations)
    saving = SavingSchedule(setup.config.budget.checkpoint_minutes * 60, budget.now, budget.now())
    begun, batches, batch = budget.now(), batches_of(setup, state), None
    timed = not cases or budget.total_steps is not None  # else it is not known yet which of them fit into the minutes
    if timed:
        yield from _judge_on_all(setup, state, keeper, cases)
    cases = cases[: state.validated_cases or None]  # those of a training that is resumed: their means are compared
    while not state.step or budget.fraction(state.step) < 1:
        since = budget.now()
        if (yield from labelling(state, should_stop)):
            break
        begun += budget.now() - since  # that is no part of the pace of the steps
        batch = next(batches)
        phase = due_phase(setup, state)
        if phase != state.phase:
            yield from _enter(phase, setup, state, keeper, cases if timed else ())
        first = preparing(state)
        losses = take_step(setup, state, batch)
        loss = sum(losses.values())
        yield _progress(setup, state, losses)
        skipped = 0 if math.isfinite(loss) else skipped + 1
        if skipped:
            on = ", ".join(batch.cases)
            yield Notice(f"step {state.step}: the loss or its gradients are not finite on {on}; the step is skipped")
        if skipped >= _NON_FINITE_IN_A_ROW:
            _give_up(setup, state, keeper, batch, losses)
        if first:  # neither the pace nor the first validation is that of the network
            start, begun, state.validated_fraction = state.step, budget.now(), budget.fraction(state.step)
        if first and not preparing(state):
            yield Notice(f"step {state.step}: {first} is trained; now the network")
        if not timed and state.step - start >= _STEPS_TO_TIME:
            cases, timed = (yield from _affordable(setup, state, keeper, cases, schedule, start, begun)), True
        if should_stop():
            break
        if cases and timed and not first and schedule.is_due(state.step, state.validated_fraction):
            since = budget.now()
            yield from _validate(setup, state, keeper, cases)
            state.validated_fraction = budget.fraction(state.step)
            schedule.expect(budget.now() - since)
        if saving.is_due() and not skipped:
            since = budget.now()
            _save(setup, state, keeper, saving)
            begun += budget.now() - since
    if batch is not None:  # a training that is resumed may have no step left
        yield from _made_up(state, batch)
    yield from map(Notice, _untrained(state))
    if should_stop():
        return (yield from _stop(setup, state, keeper))
    if not timed and state.step > start:
        cases = yield from _affordable(setup, state, keeper, cases, schedule, start, begun)
    if budget.total_steps is None and state.step < _STEPS_TO_TIME:
        made = "1 step" if state.step == 1 else f"{state.step} steps"
        yield Notice(f"only {made} fitted into the minutes given: give more, or epochs in their place")
    model = yield from _end(setup, state, keeper, cases)
    keeper.finish(model, state.history)
    return model


def _untrained(state: TrainState) -> Iterator[str]:
    """A line on each part of the network that has not been reached."""
    if preparing(state):
        yield f"ended while {preparing(state)} was trained: the network has learned nothing; train it longer"
    if state.phase != state.last_phase:
        yield f"ended in phase {state.phase}: the rest of the network has learned nothing; train it longer"


def preparing(state: TrainState) -> str:
    """What the next step trains before the network, in words; empty where it trains the network."""
    return state.scheme.preparing(state) if isinstance(state.scheme, Prepares) else ""


def labelling(state: TrainState, should_stop: ShouldStop) -> Generator[Event, None, bool]:
    """Let a scheme label images before a step, where it does. Returns whether the training should stop instead."""
    if isinstance(state.scheme, LabelsImages):
        for event in state.scheme.labelling(state):
            yield event
            if should_stop():
                return True
    return False


def _made_up(state: TrainState, batch: PatchBatch) -> Iterator[Event]:
    if isinstance(state.scheme, MakesUp):
        yield Pictured(state.scheme.made_up(batch, state))


def take_step(setup: Setup, state: TrainState, batch: PatchBatch) -> dict[str, float]:
    """One step of the scheme; {name: loss}. Where these are not finite, running statistics stay as the weights do."""
    kept = [(own, own.clone()) for network in state.scheme.networks().values() for own in network.buffers()]
    state.steps_before += bool(preparing(state))
    losses = state.scheme.step(batch, state)
    if not is_finite(losses):
        for own, before in kept:
            own.copy_(before)
    state.step += 1
    state.history.losses.append((state.step, sum(losses.values())))
    return losses


def batches_of(setup: Setup, state: TrainState) -> Iterator[PatchBatch]:
    """The batches of all steps after those of the state, with patches of further images where the scheme takes them.

    A batch is drawn when it is asked for: it may follow from where the network was wrong before.
    """
    step = state.step
    batches = setup.sampler.batches(step, state.mistakes)
    if setup.unlabelled is not None:
        others = setup.unlabelled.batches(step)
        pairs = zip(batches, others, strict=False)
        batches = (
            replace(a, unlabelled=b.images, unlabelled_plain=b.plain, unlabelled_classes=b.classes) for a, b in pairs
        )
    if setup.target is not None:
        targets = setup.target.batches(step)
        batches = (replace(a, target=b.images) for a, b in zip(batches, targets, strict=False))
    return batches


def _save(setup: Setup, state: TrainState, keeper: Checkpoints, saving: SavingSchedule) -> None:
    """Save the state, and the weights as a model that can be used."""
    since = setup.budget.now()
    if state.validated_step != state.step:  # a validation has just written them
        keeper.write_last(recorded(setup, state), weights_of(setup, state))
    keeper.save(state, setup.budget)
    saving.done(since)


def _stop(setup: Setup, state: TrainState, keeper: Checkpoints) -> Generator[Event, None, Model]:
    """End as asked: the model, which may hold weights of before, and the state to go on from."""
    model = end_early(setup, state, keeper)
    assert model is not None, "a step has run"
    of, now = model.spec.training.epochs, recorded(setup, state).training.epochs
    if of < now:
        yield Notice(
            f"stopped: the model holds the weights of epoch {of:.1f}, which validated best (mean Dice "
            f"{mean_of(state.best_dice):.4f}); those of epoch {now:.1f} are {keeper.last_path}"
        )
    return model


def end_early(setup: Setup, state: TrainState, keeper: Checkpoints) -> Model | None:
    """Write the model without another validation: the best checkpoint where there is one, else the weights as they are.

    The state is saved as well, so that the training can be resumed. None where no step has run: then nothing is
    written.
    """
    if not state.step:
        return None
    # The scores of an earlier phase say nothing of the whole network, which is what is kept.
    judged = state if state.phase == state.last_phase else replace(state, dice={})
    spec, weights = recorded(setup, judged), weights_of(setup, state)
    keeper.write_last(spec, weights)
    has_best = bool(state.best_dice) and setup.target is None  # else the last weights are kept, see `_validate`
    if setup.base is not None:
        keeper.write_adapter(setup.base, spec, state.network, best=has_best)
    if has_best:
        best = keeper.load_best()
        spec, weights = best.spec, {**weights, **best.load_network().state_dict()}
    keeper.write_history(spec, state.history)
    model = keeper.write_model(spec, weights, state.written)
    state.written = model.sha256
    keeper.save(state, setup.budget)
    return model


def due_phase(setup: Setup, state: TrainState) -> str:
    """The phase to train now: each has the same share of the budget, or of what other networks leave of it."""
    phases = list(state.phases)
    share = state.scheme.first_share if isinstance(state.scheme, Prepares) else 0.0
    passed = int((setup.budget.fraction(state.step) - share) / (1 - share) * len(phases))
    return phases[max(0, min(passed, len(phases) - 1))]


def windows_of(facts: CaseFacts, spec: ModelSpec) -> int:
    """The windows that segmenting a case takes."""
    return len(resolve(ImageFacts.of(facts), spec, SegmentConfig(), Machine()).windows)


def _enter(
    phase: str, setup: Setup, state: TrainState, keeper: Checkpoints, cases: Sequence[ValidationCase]
) -> Generator[Event, None, None]:
    """Validate the phase that is over, for comparison, and go on with the next."""
    if cases:
        if state.validated_step != state.step:
            yield from _validate(setup, state, keeper, cases)
        state.phase_dice[state.phase] = mean_of(state.dice)
    over = f"mean Dice {mean_of(state.dice):.4f}" if cases else "not validated"
    yield Notice(f"step {state.step}: phase {state.phase} is trained ({over}); now phase {phase}")
    state.enter(phase)


def _give_up(
    setup: Setup, state: TrainState, keeper: Checkpoints, batch: PatchBatch, losses: Mapping[str, float]
) -> NoReturn:
    """Write the weights, which are finite because those steps changed nothing, and raise InputError."""
    keeper.write_last(recorded(setup, state), weights_of(setup, state))
    which = " and ".join(name for name, value in losses.items() if not math.isfinite(value) and name != "loss")
    raise InputError(
        f"the loss {f'of {which} ' if which else ''}or its gradients were not finite for {_NON_FINITE_IN_A_ROW} "
        f"steps, last on {', '.join(batch.cases)}: look at those images, lower learning_rate, or train in fp32; the "
        f"last checkpoint is {keeper.last_path}"
    )


def _affordable(
    setup: Setup,
    state: TrainState,
    keeper: Checkpoints,
    cases: Sequence[ValidationCase],
    schedule: ValidationSchedule,
    start: int,
    begun: float,
) -> Generator[Event, None, Sequence[ValidationCase]]:
    """The validation cases that a budget in minutes has time for, judged by the pace of the steps since `start`.

    begun: when these began.
    """
    pace = (setup.budget.now() - begun) / ((state.step - start) * setup.sampler.batch_size)
    # A window through the network alone takes less than a patch through a training step.
    costs = np.cumsum([case.windows * pace / 2 for case in cases])
    count = state.validated_cases or schedule.affordable(costs.tolist())
    if not count:
        yield Notice(
            "the model is not validated: the minutes given are too few for even one validation case; give more, or "
            "epochs in their place"
        )
        state.dice, state.best_dice = {}, {}  # of earlier weights, where a training in epochs is resumed
    elif count < len(cases):
        yield Notice(f"validation on {count} of {len(cases)} cases: more do not fit into the minutes given")
    schedule.expect(float(costs[count - 1]) if count else 0.0)
    if count < len(cases) and not state.validated_cases:  # a training in epochs, whose cases were all, is resumed
        yield from _judge_best_again(setup, state, keeper, cases[:count])
    state.validated_cases = count
    return cases[:count]


def _judge_on_all(
    setup: Setup, state: TrainState, keeper: Checkpoints, cases: Sequence[ValidationCase]
) -> Generator[Event, None, None]:
    """Validate on all cases from now on, also where a training is resumed whose minutes had time for some of them."""
    if state.validated_cases not in (0, len(cases)):
        yield Notice(f"validation on all {len(cases)} cases: the minutes before had time for {state.validated_cases}")
        yield from _judge_best_again(setup, state, keeper, cases)
    state.validated_cases = 0


def _judge_best_again(
    setup: Setup, state: TrainState, keeper: Checkpoints, cases: Sequence[ValidationCase]
) -> Generator[Event, None, None]:
    """Score the best weights on other cases than before, on which later weights are compared with them."""
    if not state.best_dice or setup.target is not None:
        return
    network = state.network
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        network.load_state_dict({**own, **keeper.best_weights(adapted=setup.base is not None)})
        whole = replace(state, phase=state.last_phase)
        whole.dice = yield from _scores(setup, whole, cases, setup.precision)
        state.best_dice = dict(whole.dice)
        _write_best(setup, whole, keeper, keeper.load_best().spec)
    finally:
        network.load_state_dict(own)
    yield Notice(f"the best weights so far have a mean Dice of {mean_of(state.best_dice):.4f} on these cases")


def _write_best(setup: Setup, state: TrainState, keeper: Checkpoints, of: ModelSpec | None = None) -> None:
    """Write the weights as the best ones, with their Dice. of: their record, where they are of an earlier step."""
    spec = recorded(setup, state)
    if of is not None:
        spec = replace(of, training=replace(of.training, validation=spec.training.validation))
    keeper.write_best(spec, weights_of(setup, state))
    if setup.base is not None:
        keeper.write_best_adapter(setup.base, spec, state.network)


def _progress(setup: Setup, state: TrainState, losses: Mapping[str, float]) -> TrainProgress:
    # A budget in minutes has no total number of steps; its progress is counted in thousandths.
    budget = setup.budget
    total, fraction, epoch = budget.total_steps, budget.fraction(state.step), budget.epoch(state.step)
    return TrainProgress(
        state.step if total is not None else int(1000 * fraction),
        total or 1000,
        f"epoch {epoch + 1}",
        epoch=epoch,
        step=state.step,
        loss=sum(losses.values()),
        learning_rate=learning_rate(setup.config.optimiser, fraction),
        seconds_left=budget.seconds_left(state.step),
        losses=losses,
    )


def _scores(
    setup: Setup, state: TrainState, cases: Sequence[ValidationCase], precision: Precision, what: str = "validation"
) -> Generator[Event, None, dict[int, float]]:
    """The mean Dice per label id of the phase's network. what: is done, for the Progress."""
    if isinstance(state.scheme, ScoresItself):
        return (yield from state.scheme.scores([case.case for case in cases]))
    predict = predict_with(Predictor(state.volumes, setup.device, precision, setup.first), setup.spec)
    images, loss = [case.case for case in cases], setup.config.loss
    return (yield from validate(images, setup.spec, predict, loss, setup.held, what=what))


def _validate(
    setup: Setup, state: TrainState, keeper: Checkpoints, cases: Sequence[ValidationCase]
) -> Generator[Event, None, None]:
    """Validate the weights, and write them as the last and, where they are, the best checkpoint."""
    state.dice = yield from _scores(setup, state, cases, setup.precision)
    state.validated_step = state.step
    is_best = False
    if state.phase == state.last_phase:  # an earlier phase says nothing of the whole network, which is what is kept
        scores = {str(label): dice for label, dice in state.dice.items()}
        state.history.validations.append({"step": state.step, "time": time.time(), "dice": scores})
        spec = recorded(setup, state)
        keeper.write_last(spec, weights_of(setup, state))
        # Labelled cases do not judge what was learned for images of another domain: there the last weights are kept.
        before = {k: state.best_dice[k] for k in state.dice if k in state.best_dice}  # earlier versions keep more
        is_best = setup.target is not None or not before or mean_of(state.dice) > mean_of(before)
        if is_best:
            state.best_dice = dict(state.dice)
            _write_best(setup, state, keeper)
        keeper.write_history(spec, state.history)
    yield _validated(setup, state, is_best)


def _validated(setup: Setup, state: TrainState, is_best: bool) -> Validated:
    return Validated(setup.budget.epoch(state.step), state.step, state.dice, mean_of(state.dice), is_best)


def _end(
    setup: Setup, state: TrainState, keeper: Checkpoints, cases: Sequence[ValidationCase]
) -> Generator[Event, None, Model]:
    """The last validation, and the model file with the best weights."""
    if state.phase != state.last_phase:
        state.enter(state.last_phase)  # the model holds the whole network, so that is validated
    yield from _why_no_cleaning(setup, state, cases)
    if not cases:
        spec = recorded(setup, state)
        keeper.write_last(spec, weights_of(setup, state))
        keeper.write_history(spec, state.history)
        if setup.base is not None:
            keeper.write_adapter(setup.base, spec, state.network, best=False)
        return keeper.write_model(spec, weights_of(setup, state), state.written)
    if not state.dice or state.validated_step != state.step:
        yield from _validate(setup, state, keeper, cases)
    if setup.base is not None:
        keeper.write_adapter(setup.base, recorded(setup, state), state.network, best=True)
    without_adapters(state.network)
    state.network.load_state_dict(keeper.load_best().load_network().state_dict())
    state.dice = state.best_dice
    bf16_ok = False
    if isinstance(state.scheme, ScoresItself):  # in fp32, and without presets
        model = _finished(setup, state, keeper, given=(yield from _as_given(setup, cases)))
        yield from map(Notice, no_better(model.spec))
        return model
    if setup.precision == "bf16":
        state.dice = yield from _scores(setup, state, cases, "fp32", "validation in fp32")
        bf16_ok = all(state.best_dice[k] >= state.dice[k] - _BF16_TOLERANCE for k in state.dice)
        yield _validated(setup, state, is_best=True)
    best = Predictor(state.volumes, setup.device, setup.precision, setup.first)
    presets = yield from validate_presets(
        [case.case for case in cases], setup.spec, best, setup.config.loss, mean_of(state.best_dice), setup.held
    )
    trust = yield from believing([case.case for case in cases], setup.spec, best, setup.config.loss)
    cleaning: tuple[CleanConfig, ...] = ()
    if setup.config.validation.decide_cleaning:
        cleaning = yield from deciding(
            [case.case for case in cases], setup.spec, predict_with(best, setup.spec), setup.config.loss
        )
    return _finished(setup, state, keeper, bf16_ok=bf16_ok, presets=presets, cleaning=cleaning, trust=trust)


def _why_no_cleaning(setup: Setup, state: TrainState, cases: Sequence[ValidationCase]) -> Iterator[Event]:
    """Say why no cleaning steps are decided, where that was asked for."""
    reasons = (
        (not cases, "no case is kept to validate on"),
        (setup.errors is not None, "a refiner has none"),
        (isinstance(state.scheme, ScoresItself), "the network does not segment by itself"),
    )
    reason = next((text for holds, text in reasons if holds), "")
    if setup.config.validation.decide_cleaning and reason:
        yield Notice(f"decide_cleaning decides nothing: {reason}")


def _as_given(setup: Setup, cases: Sequence[ValidationCase]) -> Generator[Event, None, dict[str, float]]:
    """The mean Dice of the labels that a refiner is given, for its record; nothing where no refiner is trained."""
    if setup.errors is None:
        return {}
    given = setup.errors.of
    scores = yield from validate([case.case for case in cases], setup.spec, given, setup.config.loss, setup.held)
    return {GIVEN: mean_of(scores)}


def _finished(
    setup: Setup,
    state: TrainState,
    keeper: Checkpoints,
    *,
    bf16_ok: bool = False,
    presets: Mapping[str, float] = MappingProxyType({}),
    cleaning: tuple[CleanConfig, ...] = (),
    trust: Trust = PLAIN_TRUST,
    given: Mapping[str, float] = MappingProxyType({}),
) -> Model:
    """Write the history, and the model with the best weights. given: scores of the labels that a refiner is given."""
    spec = replace(recorded(setup, state, bf16_ok=bf16_ok, presets=presets), cleaning=cleaning, trust=trust)
    if given:
        spec = replace(spec, training=replace(spec.training, validation={**spec.training.validation, **given}))
    keeper.write_history(spec, state.history)
    return keeper.write_model(spec, weights_of(setup, state), state.written)
