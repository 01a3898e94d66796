"""The rounds of the memory network: which slices are filled from which masks, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.interactive.mem3d import Mem3D, Memory
from napari_medseg.interactive.guided.rounds import Round, Span, propagate_round, spans
from napari_medseg.registry import network

DEPTH = 9


class Halving:
    """The object is wherever the memory's last slice has it, half as sure as there; every reading is written down."""

    def __init__(self) -> None:
        self.read: list[tuple[float, tuple[float, ...]]] = []

    def memorise(self, images: Tensor, masks: Tensor) -> Memory:
        return Memory(images.flatten(3).mean(3), masks.flatten(3).mean(3), masks[:, :, -1])

    def segment(self, x: Tensor, memory: Memory) -> Outputs:
        self.read.append((x.mean().item(), tuple(memory.keys[0, 0].tolist())))
        sure = memory.values[0, 0, -1] / 2
        logits = torch.stack((torch.zeros(()), (sure / (1 - sure)).log()))[None, :, None, None].expand(1, 2, 2, 2)
        return Outputs(logits, heads={"quality": sure[None]})


@pytest.fixture
def image() -> Tensor:
    """Slice k holds the number k."""
    return torch.arange(DEPTH, dtype=torch.float32)[:, None, None, None].expand(DEPTH, 1, 2, 2)


def full() -> Tensor:
    return torch.ones(2, 2)


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([4], [Span(None, 4, range(4)), Span(4, None, range(5, 9))]),
        ([6, 2], [Span(None, 2, range(2)), Span(2, 6, range(3, 6)), Span(6, None, range(7, 9))]),
        ([0, 1, 8], [Span(1, 8, range(2, 8))]),
        ([], []),
    ],
)
def test_spans_lie_between_neighbouring_references(references: list[int], expected: list[Span]) -> None:
    assert spans(DEPTH, references) == tuple(expected)


def test_one_mask_goes_both_ways(image: Tensor) -> None:
    walked = Halving()
    found = propagate_round(walked, image, {6: full()})
    expected = [2.0**-6, 2.0**-5, 2.0**-4, 2.0**-3, 2.0**-2, 2.0**-1, 1, 2.0**-1, 2.0**-2]
    torch.testing.assert_close(found.probability[:, 0, 0], torch.tensor(expected))
    # Errors add up on the way: each rating is multiplied by those before it.
    ratings = [2.0**-21, 2.0**-15, 2.0**-10, 2.0**-6, 2.0**-3, 2.0**-1, 1, 2.0**-1, 2.0**-3]
    torch.testing.assert_close(found.quality, torch.tensor(ratings))
    assert found.weakest == 5
    # Each slice reads the reference, and the slice before it on the way from there.
    assert walked.read[-2:] == [(7.0, (6.0,)), (8.0, (6.0, 7.0))]
    assert walked.read[:3] == [(5.0, (6.0,)), (4.0, (6.0, 5.0)), (3.0, (6.0, 4.0))]


def test_between_two_references_both_ways_count_by_their_nearness(image: Tensor) -> None:
    walked = Halving()
    found = propagate_round(walked, image, {0: full(), 4: full() / 2, 8: full()})
    # Upwards from 0 the last slice in memory is reference 0, and then the slice before: 1/2, 1/4, 1/8.
    # Downwards from 4 it is reference 4: slice 3 has 1/4, slice 2 1/8, slice 1 1/16.
    by_hand = [3 / 4 * 1 / 2 + 1 / 4 * 1 / 16, 1 / 2 * 1 / 4 + 1 / 2 * 1 / 8, 1 / 4 * 1 / 8 + 3 / 4 * 1 / 4]
    torch.testing.assert_close(found.probability[1:4, 0, 0], torch.tensor(by_hand))
    assert walked.read[0] == (1.0, (4.0, 0.0))
    assert walked.read[1] == (2.0, (4.0, 0.0, 1.0))


def test_a_later_round_propagates_between_the_new_references_neighbours_alone(image: Tensor) -> None:
    first = propagate_round(Halving(), image, {1: full(), 5: full()})
    walked = Halving()
    second = propagate_round(walked, image, {1: full(), 5: full(), 3: full()}, first)
    assert second.computed == (Span(1, 3, range(2, 3)), Span(3, 5, range(4, 5)))
    assert {index for index, _ in walked.read} == {2.0, 4.0}
    others = [0, 6, 7, 8]
    assert torch.equal(second.probability[others], first.probability[others])
    assert second.quality[3] == 1


def test_a_corrected_reference_is_propagated_again(image: Tensor) -> None:
    first = propagate_round(Halving(), image, {1: full(), 5: full()})
    second = propagate_round(Halving(), image, {1: full(), 5: full() / 2}, first)
    assert second.computed == (Span(1, 5, range(2, 5)), Span(5, None, range(6, 9)))


def test_the_slice_from_which_most_is_gained_is_proposed() -> None:
    """Each step on the way keeps a half, or all; the sizes are 1."""
    probability = torch.full((5, 1, 1), 1.0)
    quality, ratings = torch.tensor([1.0, 0.5, 0.25, 0.25, 0.25]), torch.tensor([1.0, 0.5, 0.5, 1.0, 1.0])
    found = Round({0: torch.ones(1, 1)}, probability, quality, ratings, ())
    # From 1: 0.5 + (0.5 - 0.25) * 3 = 1.25. From 2: (0.5 - 0.5) + 3 * 0.75 = 2.25, and so from 3 and 4.
    assert found.weakest == 2
    probability[2:] = 0.1  # little of the object is there
    assert Round({0: torch.ones(1, 1)}, probability, quality, ratings, ()).weakest == 1


def test_nothing_is_proposed_where_every_slice_has_a_mask(image: Tensor) -> None:
    assert propagate_round(Halving(), image, {k: full() for k in range(DEPTH)}).weakest is None


@pytest.fixture(scope="module")
def untrained() -> Mem3D:
    torch.manual_seed(0)
    small: dict[str, Any] = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8}
    built = network("mem3d").build(**small).eval()
    assert isinstance(built, Mem3D)
    return built


@pytest.mark.parametrize("order", [(2, 12, 7), (7, 2, 12), (12, 7, 2)])
def test_rounds_one_after_the_other_give_what_one_round_gives(untrained: Mem3D, order: tuple[int, ...]) -> None:
    volume = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    truth = (volume[:, 0] > 0.5).float()
    found: Round | None = None
    for count in range(1, len(order) + 1):
        found = propagate_round(untrained, volume, {k: truth[k] for k in order[:count]}, found)
    at_once = propagate_round(untrained, volume, {k: truth[k] for k in sorted(order)})
    assert found is not None
    assert torch.equal(found.probability, at_once.probability)
    assert torch.equal(found.quality, at_once.quality)
    assert torch.equal(found.probability[7], truth[7])
