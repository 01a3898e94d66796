"""A search over plans by successive halving: short trainings, then longer ones of the better half.

Jamieson and Talwalkar, AISTATS 2016. The plan that the cases give is in every round: what wins is better than it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_medseg.config import BudgetConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, Progress, Work
from napari_medseg.inference.predictor import Predictor
from napari_medseg.training.budget import Clock
from napari_medseg.training.loop import ShouldStop, ValidationCase, batches_of, due_phase, take_step
from napari_medseg.training.schemes.start import new_state
from napari_medseg.training.search.candidates import AS_PLANNED, Candidate
from napari_medseg.training.state import Setup
from napari_medseg.training.validate import mean_of, predict_with, validate

_FEWEST_SECONDS = 5.0
"""Of a training: a short search tries fewer plans."""
_FIRST_CASES, _MOST_CASES = 4, 8
"""Cases that judge a plan: before it is known how long one takes, and at most."""
_JUDGING = 0.25
"""Share of the time of a training that judging it may take."""

Begin = Callable[[Candidate, BudgetConfig], Setup]
"""What the training of a plan works with."""


@dataclass(frozen=True)
class Tried:
    """A plan and how it did in the last training of it; NaN where it could not be trained."""

    candidate: Candidate
    dice: float

    def describe(self) -> str:
        return f"{self.candidate.name} {self.dice:.4f}"


@dataclass
class Search:
    """How much of a search is done."""

    until: float
    """When it ends, on `now`."""
    now: Clock
    begin: Begin
    cases: Sequence[ValidationCase]
    should_stop: ShouldStop
    case_seconds: float = 0.0
    """What judging one case took last."""

    def left(self) -> float:
        return max(0.0, self.until - self.now())


def rounds_of(count: int) -> list[int]:
    """How many plans each round trains: half of those before, down to two."""
    found = [count]
    while found[-1] > 2:
        found.append(math.ceil(found[-1] / 2))
    return found


def affordable(count: int, seconds: float) -> int:
    """How many of the plans a search has time for: two at least."""
    while count > 2 and seconds / len(rounds_of(count)) / count < _FEWEST_SECONDS:
        count -= 1
    return count


def best_of(tried: Sequence[Tried], count: int) -> list[Candidate]:
    """The plans of the next round, the best first. The plan of the cases is among them, and goes first among equals."""
    order = sorted(tried, key=lambda t: (math.isnan(t.dice), -t.dice, t.candidate.name != AS_PLANNED))
    names = [t.candidate for t in order if t.candidate.name != AS_PLANNED][: count - 1]
    return [t.candidate for t in order if t.candidate.name == AS_PLANNED or t.candidate in names]


def searching(search: Search, candidates: Sequence[Candidate]) -> Work[Candidate]:
    """Train the plans in rounds, and return the best of the last one. candidates: the plan of the cases first.

    Yields Progress per step and case, and a Notice per round. Raises InputError where there is no case to judge by.
    """
    if not search.cases:
        raise InputError("a search judges plans by validation cases, and there are none: give more cases, or raise val")
    alive = list(candidates[: affordable(len(candidates), search.left())])
    rounds = rounds_of(len(alive))
    tried: list[Tried] = []
    for number, count in enumerate(rounds):
        alive = best_of(tried, count) if tried else alive
        tried = yield from _round(search, alive, search.left() / (len(rounds) - number))
        yield Notice(f"search, round {number + 1} of {len(rounds)}: {', '.join(t.describe() for t in tried)}")
        if search.should_stop():
            break
    winner = best_of(tried, len(tried))[0]
    yield Notice(_verdict(winner, tried, stopped=search.should_stop()))
    return winner


def _round(search: Search, alive: Sequence[Candidate], seconds: float) -> Work[list[Tried]]:
    """Train each plan for its part of the seconds. All are judged by the same cases."""
    end, share = search.now() + seconds, seconds / len(alive)
    count = _FIRST_CASES if not search.case_seconds else int(_JUDGING * share / search.case_seconds)
    places = np.linspace(0, len(search.cases) - 1, max(1, min(count, _MOST_CASES, len(search.cases)))).round()
    cases = [search.cases[int(place)] for place in places]
    tried = []
    for number, candidate in enumerate(alive):
        slot = max(0.0, end - search.now()) / (len(alive) - number)
        dice = yield from _trial(search, candidate, cases, slot)
        tried.append(Tried(candidate, dice))
        if search.should_stop():
            break
    return tried


def _trial(search: Search, candidate: Candidate, cases: Sequence[ValidationCase], seconds: float) -> Work[float]:
    """Train a plan for so long, judging included; the mean Dice of its last weights."""
    training = max(seconds - search.case_seconds * len(cases), (1 - _JUDGING) * seconds, 1e-3)
    try:
        setup = search.begin(candidate, BudgetConfig(minutes=training / 60))
        state = new_state(setup)
        setup.budget.begin()
        batches = batches_of(setup, state)
        while not state.step or (setup.budget.fraction(state.step) < 1 and not search.should_stop()):
            batch = next(batches)
            phase = due_phase(setup, state)
            if phase != state.phase:
                state.enter(phase)
            take_step(setup, state, batch)
            yield Progress(int(1000 * setup.budget.fraction(state.step)), 1000, f"search: {candidate.name}")
        if state.phase != state.last_phase:
            state.enter(state.last_phase)
        since = search.now()
        predict = predict_with(Predictor(state.volumes, setup.device, setup.precision), setup.spec)
        dice = yield from validate([case.case for case in cases], setup.spec, predict, setup.config.loss)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        yield Notice(f"search: {candidate.name} does not fit the memory")
        return math.nan
    search.case_seconds = (search.now() - since) / len(cases)
    return mean_of(dice)


def _verdict(winner: Candidate, tried: Sequence[Tried], *, stopped: bool) -> str:
    """What the search found, in a line."""
    scores = {t.candidate.name: t.dice for t in tried}
    others = [t for t in tried if t.candidate.name != AS_PLANNED]
    if stopped:
        return f"search: stopped; the plan to train by is {winner.name}"
    if winner.name != AS_PLANNED:
        return (
            f"search: {winner.name} is better than the plan of the cases, mean Dice {scores[winner.name]:.4f} against "
            f"{scores[AS_PLANNED]:.4f}; it is trained now"
        )
    beside = f", mean Dice {scores[AS_PLANNED]:.4f} against {others[0].describe()}" if others else ""
    return f"search: no plan beats that of the cases{beside}; it is trained as it is"
