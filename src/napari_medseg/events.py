"""What long work yields: small frozen values that can be pickled between our own processes.

A generator of ours yields `Started` once, then any number of `Progress` (and richer ones), and `Finished` last.
`close()` on the generator cancels it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """Anything that a generator of ours yields."""


@dataclass(frozen=True)
class Started(Event):
    """The plan is made and nothing has run yet. message: device, sizes and the memory estimate, one line."""

    message: str
    result: Any = None
    """What is being filled, where there is such a thing: the partial Segmentation, for a live view."""
    plan: Any = None
    """What was worked out for the run: an InferencePlan where an image is segmented."""


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` steps are complete."""

    done: int
    total: int
    message: str = ""


@dataclass(frozen=True)
class TrainProgress(Progress):
    """A training step: its loss, and the time left of the budget."""

    epoch: int = 0
    step: int = 0
    loss: float = float("nan")
    learning_rate: float = 0.0
    seconds_left: float = float("nan")


@dataclass(frozen=True)
class Validated(Event):
    """A validation on whole volumes: mean Dice per label id over the cases."""

    epoch: int
    step: int
    dice: Mapping[int, float] = field(default_factory=dict)
    mean_dice: float = float("nan")
    is_best: bool = False


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should be told while the work goes on (a smaller window, a skipped case)."""

    message: str


@dataclass(frozen=True)
class Finished(Event, Generic[T]):
    """The last event; `result` is a Segmentation or a Model."""

    result: T


Work: TypeAlias = Generator[Event, None, T]
"""Long work: it yields events, and returns its result."""


def finishing(work: Work[T]) -> Iterator[Event]:
    """The work as a generator of ours: its progress, and `Finished` with what it returned."""
    made = yield from work
    yield Finished(made)


def made_by(work: Work[T]) -> T:
    """Do the work to its end and return what it made."""
    made: T = result_of(finishing(work))
    return made


def result_of(events: Iterable[Event]) -> Any:
    """Run a generator to its end and return what it finished with."""
    last: Event | None = None
    for last in events:  # noqa: B007
        pass
    assert isinstance(last, Finished), "our generators end with Finished"
    return last.result
