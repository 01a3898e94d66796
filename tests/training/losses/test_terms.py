"""Every loss by hand, on a few voxels, of which the last is not annotated."""

from __future__ import annotations

import math
from math import log

import numpy as np
import pytest
import torch

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.distance import distances
from napari_medseg.training.losses.heads import edges, presence, sdf
from napari_medseg.training.losses.masked import Masked
from napari_medseg.training.losses.supervised import TERMS, deeply_supervised, loss_named, parsed

LOGITS = torch.tensor([[[0.0] * 4, [log(3)] * 4]])
"""Two classes of probability 1/4 and 3/4 in each of four voxels."""
CLASSES = torch.tensor([[1, 0, 0, IGNORE]])
THREE = torch.tensor([[[0.0] * 4, [0.0] * 4, [log(2)] * 4]])
"""Three classes of probability 1/4, 1/4 and 1/2."""
DICE = 1 - 1.5 / (2.25 + 1)
MM = Context(spacing=(2.0,))


def value(name: str, logits: torch.Tensor, classes: torch.Tensor, context: Context | None = None) -> float:
    context = context or Context()
    return float(TERMS[name](Masked.of(logits, classes), context))


@pytest.mark.parametrize(
    ("name", "expected", "context"),
    [
        ("dice", DICE, MM),
        ("ce", -(log(0.75) + 2 * log(0.25)) / 3, MM),
        ("weighted_ce", -(3 * log(0.75) + 2 * log(0.25)) / 5, Context(class_weights=(1.0, 3.0))),
        ("balanced_ce", -(log(0.75) + log(0.25)) / 2, MM),
        ("focal", -(0.25 * 0.25**2 * log(0.75) + 2 * 0.75 * 0.75**2 * log(0.25)) / 3, MM),
        ("tversky", 1 - 0.75 / (0.75 + 0.3 * 1.5 + 0.7 * 0.25), MM),
        ("iou", 1 - 0.75 / 2.5, MM),
        # Errors 3/4, 3/4 and 1/4; the Jaccard loss after each of them is 1/2, 2/3 and 1.
        ("lovasz", 0.75 * 1 / 2 + 0.75 * 1 / 6 + 0.25 * 1 / 3, MM),
        (
            "exp_log",
            0.8 * (-log(1 - DICE)) ** 0.3
            + 0.2 * (math.sqrt(3) * (-log(0.75)) ** 0.3 + 2 * math.sqrt(1.5) * (-log(0.25)) ** 0.3) / 3,
            MM,
        ),
        # phi is 0 and 2 mm; the third voxel lies nearer to the unknown one than to the surface.
        ("boundary", DICE + 0.01 * 0.75 * 2 / 2, MM),
        ("boundary", 0.1 * DICE + 1.01 * 0.75 * 2 / 2, Context(spacing=(2.0,), done=100 / 199)),
        ("boundary", 0.1 * DICE + 2.0 * 0.75 * 2 / 2, Context(spacing=(2.0,), done=1.0)),
        # Distances -1 and 2/4; the log odds are log 3, whose tanh is 0.8.
        ("sdf", (0.2**2 + (0.8 + 1 / 2) ** 2) / 2, MM),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_four_voxels(name: str, expected: float, context: Context) -> None:
    assert value(name, LOGITS, CLASSES, context) == pytest.approx(expected, abs=2e-5)


def test_three_classes() -> None:
    # Volumes 1 and 2: the weights are 1 and 1/4.
    generalised = 1 - 2 * (0.25 + 0.25 * 1.0) / ((0.75 + 1) + 0.25 * (1.5 + 2))
    assert value("generalised_dice", THREE, torch.tensor([[1, 2, 2, IGNORE]])) == pytest.approx(generalised, abs=1e-5)
    weighted = -(0.78 * log(0.25) + 0.65 * log(0.25) + 8.57 * log(0.5)) / 10
    assert value("hdenseunet", THREE, torch.tensor([[0, 1, 2, IGNORE]])) == pytest.approx(weighted, abs=1e-5)


def test_a_line_of_half_the_probability_has_the_right_skeleton() -> None:
    # Each skeleton is the line itself; its 5 voxels and the smoothing of 1 count.
    logits, classes = torch.full((1, 2, 5, 5), 0.0), torch.zeros((1, 5, 5), dtype=torch.long)
    logits[:, 1] = -50
    logits[:, 1, 2], classes[:, 2] = 0, 1
    precision, sensitivity = 1.0, (2.5 + 1) / (5 + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    assert value("cldice", logits, classes) == pytest.approx(expected, abs=1e-5)
    assert value("cldice", logits[:, :, None], classes[:, None]) == pytest.approx(expected, abs=1e-5)


def test_even_images_differ_in_their_luminance() -> None:
    logits, classes = LOGITS[:, :, :1, None].expand(1, 2, 5, 5), torch.ones((1, 5, 5), dtype=torch.long)
    expected = 1 - (2 * 0.75 + 1e-4) / (0.75**2 + 1 + 1e-4)
    assert value("ms_ssim", logits, classes) == pytest.approx(expected, abs=1e-3)
    right = 50 * torch.nn.functional.one_hot(torch.randint(0, 2, (1, 24, 24, 1)).squeeze(-1), 2).movedim(-1, 1).float()
    assert value("ms_ssim", right, right.argmax(1)) == pytest.approx(0, abs=1e-5)


@pytest.fixture
def volume() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 6, 7, 8, generator=draw), torch.randint(0, 3, (2, 6, 7, 8), generator=draw)


CONTEXT = Context(spacing=(2.0, 1.0, 1.0), class_weights=(1.0, 2.0, 3.0), done=0.02)


@pytest.mark.parametrize("name", [name for name in TERMS if name != "smooth"])
def test_unknown_voxels_count_nowhere_and_the_rest_has_a_slope(
    name: str, volume: tuple[torch.Tensor, torch.Tensor]
) -> None:
    logits, classes = volume
    classes[:, 4:] = IGNORE
    logits.requires_grad_()
    loss = TERMS[name](Masked.of(logits, classes), CONTEXT)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert not logits.grad[:, :, 4:].any()
    assert logits.grad[:, :, :4].any()
    changed = logits.detach().clone()
    changed[:, :, 4:] = 100
    assert float(TERMS[name](Masked.of(changed, classes), CONTEXT)) == pytest.approx(float(loss.detach()), abs=1e-5)
    nothing = TERMS[name](Masked.of(changed, torch.full_like(classes, IGNORE)), CONTEXT)
    assert bool(torch.isfinite(nothing))


@pytest.mark.parametrize("name", [name for name in TERMS if name not in ("boundary", "hdenseunet", "smooth")])
def test_what_is_right_costs_less_than_what_is_wrong(name: str, volume: tuple[torch.Tensor, torch.Tensor]) -> None:
    classes = volume[1]
    right = 8 * torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    costs = [value(name, logits, classes, CONTEXT) for logits in (right, 0 * right, -right)]
    assert costs == sorted(costs)
    assert costs[0] < 0.1 or name in ("sdf", "exp_log")


def test_sums_have_weights_and_names() -> None:
    assert parsed("0.5*dice + focal") == {"dice": 0.5, "focal": 1.0}
    assert parsed("unet3plus") == {"focal": 1.0, "ms_ssim": 1.0, "iou": 1.0}
    expected = 0.5 * value("dice", LOGITS, CLASSES) + value("focal", LOGITS, CLASSES)
    assert float(loss_named("0.5*dice+focal")(LOGITS, CLASSES, Context())) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("dize", "unknown loss 'dize': did you mean dice"),
        ("dice+", "not a sum such as dice"),
        ("0*dice", "not a sum"),
        ("1.2.3*dice", "not a sum"),
        ("dice-ce", "not a sum"),
    ],
)
def test_what_is_no_loss_is_refused(expression: str, says: str) -> None:
    with pytest.raises(MedsegError, match=says):
        parsed(expression)


def test_a_weight_for_each_class_is_needed() -> None:
    with pytest.raises(InputError, match="each of the 1 labels; got 3"):
        value("hdenseunet", LOGITS, CLASSES)


def test_heads_have_losses_of_their_own() -> None:
    given = Masked.of(LOGITS, CLASSES)
    scores = torch.tensor([[0.0, log(3)]])
    assert float(presence(scores, given, MM)) == pytest.approx(-log(0.75))
    assert float(presence(scores, Masked.of(LOGITS, torch.zeros_like(CLASSES)), MM)) == pytest.approx(-log(0.25))
    assert float(presence(scores, Masked.of(LOGITS, torch.full_like(CLASSES, IGNORE)), MM)) == 0
    # Voxels 0 and 1 are edges, 2 is none: probabilities 3/4 of an edge.
    found = torch.full((1, 1, 4), log(3))
    assert float(edges(found, given, MM)) == pytest.approx(-0.5 * (log(0.75) + log(0.25)))
    distances = torch.full((1, 1, 4), -0.8)
    assert float(sdf(distances, given, MM)) == pytest.approx(0.3 * value("sdf", LOGITS, CLASSES, MM))
    both = Outputs(LOGITS, heads={"presence": scores, "features": LOGITS})
    expected = deeply_supervised(LOGITS, CLASSES) + presence(scores, given, MM)
    assert float(deeply_supervised(both, CLASSES)) == pytest.approx(float(expected))


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_each_channel_of_a_head_for_distances_learns_those_of_its_label(labels: int) -> None:
    classes = ((torch.arange(8) + 1) // 2)[None]
    classes[classes > labels] = 0
    given = Masked.of(torch.zeros(1, labels + 1, 8), classes)
    found = torch.zeros(1, labels, 8, requires_grad=True)
    lost = sdf(found, given, Context(spacing=(1.0,)))
    lost.backward()  # type: ignore[no-untyped-call]
    # -1 in the two voxels of a label, and outside the steps to it over the most.
    steps = {1: [1, 0, 0, 1, 2, 3, 4, 5], 2: [3, 2, 1, 0, 0, 1, 2, 3], 3: [5, 4, 3, 2, 1, 0, 0, 1]}
    of_label = [np.array([n / max(steps[k]) or -1 for n in steps[k]]) for k in range(1, labels + 1)]
    assert float(lost.detach()) == pytest.approx(0.3 * np.square(of_label).mean(), rel=1e-5)
    assert found.grad is not None
    assert np.allclose(found.grad[0], -0.6 * np.array(of_label) / np.size(of_label))


def test_distances_are_to_what_is_known() -> None:
    """A square of 5 x 5 voxels with a row of 3 unknown ones through its middle, 2 x 1 mm."""
    known = np.ones((9, 9), np.bool_)
    known[4, 3:6] = False
    mask = np.zeros_like(known)
    mask[2:7, 2:7] = True
    mask &= known
    outside, inside, sure = distances(mask, known, (2.0, 1.0))
    assert outside[:, 4].tolist() == [4, 2, 0, 0, 0, 0, 0, 2, 4]
    assert inside[3].tolist() == [0, 0, 1, 2, 3, 2, 1, 0, 0]
    assert inside[4].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0]
    assert sure[3].tolist() == [True, True, True, True, False, True, True, True, True]
    assert sure[4].tolist() == [True, True, True, False, False, False, True, True, True]
    assert sure[2].all()
    nothing = distances(known, known, (2.0, 1.0))
    assert not any(found.any() for found in nothing), "a surface may run through what is unknown"
    assert distances(known | True, known | True, (2.0, 1.0))[2].all()


def test_coarse_outputs_have_large_voxels() -> None:
    # At half the size, phi is 0 and 4 mm; the classes are the second and the fourth voxel's.
    classes = torch.tensor([[1, 1, 0, 0]])
    coarse = LOGITS[:, :, ::2]
    both = Outputs(LOGITS, (coarse,))
    fine_value = float(loss_named("boundary")(LOGITS, classes, MM))
    coarse_value = 1 - 1.5 / (1.5 + 1) + 0.01 * 0.75 * 4 / 2
    assert float(loss_named("boundary")(both, classes, MM)) == pytest.approx(
        (fine_value + 0.5 * coarse_value) / 1.5, abs=1e-5
    )
