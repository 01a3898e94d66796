from __future__ import annotations

import math

import pytest
import torch

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.supervised import deeply_supervised


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 4, 6, 7, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def classes() -> torch.Tensor:
    return torch.randint(0, 4, (2, 6, 7, 8), generator=torch.Generator().manual_seed(1))


def test_two_voxels_by_hand() -> None:
    # Two classes with probabilities 1/4 and 3/4 in either voxel, of which one is class 1 and the other background.
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), math.log(3)]]])
    entropy = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    dice = 2 * (3 / 4) / ((3 / 4 + 3 / 4) + 1)
    assert float(deeply_supervised(logits, torch.tensor([[1, 0]]))) == pytest.approx(entropy + 1 - dice, abs=1e-5)
    # With the background voxel ignored, the other one is alone.
    dice = 2 * (3 / 4) / (3 / 4 + 1)
    expected = -math.log(3 / 4) + 1 - dice
    assert float(deeply_supervised(logits, torch.tensor([[1, IGNORE]]))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("annotated", [6, 3, 0], ids=["all", "half", "nothing"])
def test_equals_the_definition_written_out(logits: torch.Tensor, classes: torch.Tensor, annotated: int) -> None:
    logits, classes = logits.detach(), classes.clone()
    classes[:, annotated:] = IGNORE
    known = classes != IGNORE
    truth = torch.stack([classes == k for k in range(4)], dim=1).double()
    probability = logits.double().softmax(1) * known[:, None]
    entropy = -(truth * logits.double().log_softmax(1)).sum() / max(1, int(known.sum()))
    over = (0, 2, 3, 4)
    dice = (2 * (probability * truth).sum(over) + 1e-5) / (probability.sum(over) + truth.sum(over) + 1e-5)
    expected = float(entropy + 1 - dice[1:].mean())
    assert float(deeply_supervised(logits, classes)) == pytest.approx(expected, abs=1e-5)


def test_right_and_certain_costs_nothing(classes: torch.Tensor) -> None:
    certain = 50 * torch.nn.functional.one_hot(classes, 4).movedim(-1, 1).float()
    assert float(deeply_supervised(certain, classes)) == pytest.approx(0, abs=1e-4)


def test_voxels_that_nobody_annotated_count_nowhere(logits: torch.Tensor, classes: torch.Tensor) -> None:
    partial = classes.clone()
    partial[:, 3:] = IGNORE
    loss = deeply_supervised(logits, partial)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[:, :, 3:].any()
    assert logits.grad[:, :, :3].all()
    expected = deeply_supervised(logits.detach()[:, :, :3], classes[:, :3])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-5)


def test_nothing_annotated_is_finite(logits: torch.Tensor, classes: torch.Tensor) -> None:
    loss = deeply_supervised(logits, torch.full_like(classes, IGNORE))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


def test_scales_are_weighted_by_halves(logits: torch.Tensor, classes: torch.Tensor) -> None:
    logits = logits.detach()
    half = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    coarse = classes[:, 1::2, :, 1::2][:, :, [0, 2, 4, 6]]
    expected = (deeply_supervised(logits, classes) + 0.5 * deeply_supervised(half, coarse)) / 1.5
    assert float(deeply_supervised(Outputs(logits, (half,)), classes)) == pytest.approx(float(expected), abs=1e-5)
