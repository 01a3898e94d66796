"""What long work yields: small frozen values that can be pickled between our own processes.

There is one protocol. Inside the core, long work is a generator (`Work`) that yields events and returns its result.
At the public border, `finishing` adds a last event, `Finished`, which holds the result: a `for` loop cannot see what a
generator returns. `close()` on the generator cancels the work.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """Anything that long work yields."""


@dataclass(frozen=True)
class Started(Event):
    """The plan is made and nothing has run yet. message: device, sizes and memory estimate, in one line."""

    message: str
    result: Any = None
    """The value that the work fills, if there is one: the partial Segmentation, for a live view."""
    plan: Any = None
    """What was worked out for the run: an InferencePlan where an image is segmented."""


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` steps are complete."""

    done: int
    total: int
    message: str = ""


@dataclass(frozen=True)
class Filled(Event):
    """A box of the result is final and in its array: the chunks in it, and no others, have changed."""

    box: tuple[slice, slice, slice]
    """Voxels (z, y, x) of the result's array."""


@dataclass(frozen=True)
class Regions(Event):
    """What a run fills beside its labels: each region of a model whose regions overlap, by its name."""

    regions: Mapping[str, Any]
    """{region: its Segmentation, 1 inside}."""


@dataclass(frozen=True)
class TrainProgress(Progress):
    """A training step: its loss, and the time left of the budget. losses: the parts of the loss, by name."""

    epoch: int = 0
    step: int = 0
    loss: float = float("nan")
    learning_rate: float = 0.0
    seconds_left: float = float("nan")
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Validated(Event):
    """A validation on whole volumes: mean Dice per label id over the cases."""

    epoch: int
    step: int
    dice: Mapping[int, float] = field(default_factory=dict)
    mean_dice: float = float("nan")
    is_best: bool = False


@dataclass(frozen=True, eq=False)
class MadeUp:
    """A slice that a training made up: an image and its labels."""

    caption: str
    image: npt.NDArray[np.float32]
    """(rows, columns)."""
    labels: npt.NDArray[np.int64]
    """The class of each pixel; 0 is background."""


@dataclass(frozen=True)
class Pictured(Event):
    """What a training learns from beside the cases."""

    pictures: tuple[MadeUp, ...]


@dataclass(frozen=True)
class Notice(Event):
    """News for the user while the work goes on: a smaller window, a skipped case."""

    message: str


@dataclass(frozen=True)
class Finished(Event, Generic[T]):
    """The last event of a public generator; `result` is what the work made."""

    result: T


Work: TypeAlias = Generator[Event, None, T]
"""Long work: it yields events, and returns its result."""


def finishing(work: Work[T]) -> Iterator[Event]:
    """The work as a public generator: its events, then `Finished` with its result."""
    made = yield from work
    yield Finished(made)


def told_once(work: Work[T]) -> Work[T]:
    """The work, without notices that say what was told before."""
    told = set[str]()
    with closing(work):
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                made: T = end.value
                return made
            if isinstance(event, Notice):
                if event.message in told:
                    continue
                told.add(event.message)
            yield event


def run_to_end(work: Work[T]) -> T:
    """Do the work to its end and return its result."""
    made: T = result_of(finishing(work))
    return made


def result_of(events: Iterable[Event]) -> Any:
    """Run a public generator to its end and return the result that its last event, `Finished`, holds."""
    last: Event | None = None
    for last in events:  # noqa: B007
        pass
    assert isinstance(last, Finished), "public generators end with Finished"
    return last.result
