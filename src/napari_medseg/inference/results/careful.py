"""A network that goes on where memory runs out: with fewer windows at once, then elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from napari_medseg.errors import MedsegError

_CPU_SIGNS = ("not enough memory", "can't allocate memory", "out of memory")
"""How torch says that memory is short, in errors of no class of their own."""


class MemoryShortError(MedsegError, MemoryError):
    """There is not enough memory for one window."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _CPU_SIGNS)


@dataclass(frozen=True)
class Step:
    """What is tried where memory runs out."""

    name: str
    told: str
    """What the user is told."""
    take: Callable[[], None]


@dataclass(eq=False)
class CarefulNetwork:
    """Runs a network on a batch of windows, and takes one step after the other where memory runs out.

    A step that was taken stays. The result is the same as without: a window's logits do not depend on the others.
    """

    network: Callable[[torch.Tensor], torch.Tensor]
    """Windows (B, C, z, y, x) in, logits (B, K, z, y, x) out."""
    most: int
    """Windows at once."""
    steps: list[Step] = field(default_factory=list)
    """What is left to try once one window at a time is too much."""
    news: list[str] = field(default_factory=list)
    """What the user was not told yet."""
    taken: list[str] = field(default_factory=list)
    """The names of the steps taken, "batch N" among them, for the journal."""

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K, z, y, x)."""
        found: list[torch.Tensor] = []
        done = 0
        while done < len(windows):
            try:
                part = self.network(windows[done : done + self.most])
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                self._less(error)
                continue
            found.append(part)
            done += len(part)
        return found[0] if len(found) == 1 else torch.cat(found)

    def again(self, taken: list[str]) -> None:
        """Take the steps of an earlier run at once."""
        for name in taken:
            if name.startswith("batch "):
                self.most = min(self.most, int(name.removeprefix("batch ")))
            while name in [step.name for step in self.steps]:
                self.steps.pop(0).take()
        self.taken = list(taken)

    def _less(self, error: BaseException) -> None:
        torch.cuda.empty_cache()  # nothing where there is no GPU
        if self.most > 1:
            self.most //= 2
            self.taken.append(f"batch {self.most}")
            self.news.append(f"memory is short: {self.most} window{'s' * (self.most > 1)} at once from now on")
            return
        if not self.steps:
            raise MemoryShortError(
                f"the memory does not hold one window ({error!s:.100}): close other programs, or choose a model with "
                f"smaller windows"
            ) from error
        step = self.steps.pop(0)
        step.take()
        self.taken.append(step.name)
        self.news.append(f"memory is short: {step.told}")
