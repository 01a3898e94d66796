"""A network that runs out of memory: the same result with less, and the user is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from napari_medseg.inference.results.careful import CarefulNetwork, MemoryShortError, Step, is_shortage


class Short:
    """Adds one to its windows; runs out of memory where `fails` says so of a call and its batch."""

    def __init__(self, fails: Callable[[int, int], bool], error: Exception | None = None) -> None:
        self.fails = fails
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.calls = 0
        self.batches: list[int] = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.fails(self.calls, len(windows)):
            raise self.error
        self.batches.append(len(windows))
        return windows + 1


def nothing() -> None:
    """A step that frees no memory."""


WINDOWS = torch.arange(7.0).reshape(7, 1, 1, 1, 1)


@pytest.mark.parametrize("at", range(1, 5))
def test_out_of_memory_at_any_call_the_batch_is_halved(at: int) -> None:
    network = Short(lambda call, _: call == at)
    careful = CarefulNetwork(network, 2)
    assert torch.equal(careful(WINDOWS), WINDOWS + 1)
    assert careful.taken == ["batch 1"]
    assert careful.news == ["memory is short: 1 window at once from now on"]
    assert sum(network.batches) == 7
    assert careful.most == 1


def test_what_is_left_is_tried_in_its_order_and_stays() -> None:
    network, taken = Short(lambda _, batch: "cpu" not in taken), list[str]()
    steps = [Step(name, f"{name} from now on", lambda name=name: taken.append(name)) for name in ("sums", "cpu")]  # type: ignore[misc]
    careful = CarefulNetwork(network, 4, steps)
    assert torch.equal(careful(WINDOWS[:4]), WINDOWS[:4] + 1)
    assert careful.taken == ["batch 2", "batch 1", "sums", "cpu"]
    assert careful.news[2:] == ["memory is short: sums from now on", "memory is short: cpu from now on"]
    later = CarefulNetwork(network, 4, [Step("sums", "", nothing), Step("cpu", "", nothing)])
    later.again(careful.taken)
    assert (later.most, later.steps, later.taken) == (1, [], careful.taken)


def test_where_nothing_is_left_to_try_one_line_says_so() -> None:
    careful = CarefulNetwork(Short(lambda *_: True, MemoryError()), 1)
    with pytest.raises(MemoryShortError, match="the memory does not hold one window"):
        careful(WINDOWS)


def test_other_faults_are_no_shortage() -> None:
    careful = CarefulNetwork(Short(lambda *_: True, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), 2)
    with pytest.raises(RuntimeError, match="mat1"):
        careful(WINDOWS)
    assert careful.taken == []


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("no kernel"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_how_a_shortage_is_known(error: Exception, short: bool) -> None:
    assert is_shortage(error) is short
