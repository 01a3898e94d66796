"""Patches are centred where the network was wrong, and never where nobody annotated."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import segmentation, volume
from napari_medseg import train
from napari_medseg.config import AugmentationConfig
from napari_medseg.errors import InputError
from napari_medseg.training.cases import IGNORE, PreparedCase
from napari_medseg.training.mistakes import Mistakes, View
from napari_medseg.training.patches import PatchSampler

PATCH = (8, 8, 8)
SHAPE = (24, 24, 24)
HARD = (slice(14, 17), slice(14, 17), slice(14, 17))
"""What the networks of these tests do not find."""


def case(name: str, *, hard: bool, unknown: bool = False) -> PreparedCase:
    """A large part that is found, and a small one; behind it nothing is known where `unknown`."""
    classes = np.zeros(SHAPE, np.int16)
    classes[3:8, 3:8, 3:8] = 1
    if hard:
        classes[HARD] = 2
    if unknown:
        classes[:, :, 16:] = IGNORE
    spots = {k: np.argwhere(classes == k) for k in range(3) if (classes == k).any() and (k or unknown)}
    return PreparedCase(name, classes[None].astype(np.float32), classes, spots)


def sampler(cases: list[PreparedCase], *, augment: bool = False) -> PatchSampler:
    return PatchSampler(
        cases,
        PATCH,
        (1.0, 1.0, 1.0),
        batch_size=4,
        foreground=0.67,
        augmentation=AugmentationConfig(augment=augment),
        seed=0,
        device=torch.device("cpu"),
    )


def blind(classes: torch.Tensor) -> torch.Tensor:
    """Logits (B, 3, z, y, x) of a network that takes class 2 for background; what is unknown it takes for class 1."""
    seen = torch.where(classes == 2, 0, torch.where(classes == IGNORE, 1, classes))
    return torch.nn.functional.one_hot(seen, 3).movedim(-1, 1).float()


def learned(cases: list[PreparedCase], share: float, steps: int = 40, *, augment: bool = False) -> Mistakes:
    mistakes = Mistakes(cases, share, seed=0)
    for step, batch in enumerate(islice(sampler(cases, augment=augment).batches(0, mistakes), steps)):
        mistakes.learn(blind(batch.classes), batch.classes, batch.views, step)
    return mistakes


def test_patches_come_from_where_the_network_is_wrong() -> None:
    cases = [case("easy", hard=False), case("hard", hard=True)]
    mistakes = learned(cases, 0.5)
    assert mistakes.errors[0] == 0 < mistakes.errors[1]
    assert len(mistakes.voxels[0]) == 0
    assert (cases[1].classes[tuple(mistakes.voxels[1].T)] == 2).all()
    for share, least, most in ((0.0, 0.0, 0.35), (0.5, 0.45, 0.8), (1.0, 1.0, 1.0)):
        frozen = Mistakes(cases, share, seed=0)
        frozen.load_state_dict(mistakes.state_dict())
        batches = list(islice(sampler(cases).batches(0, frozen), 30))
        on_it = np.mean([bool((classes == 2).any()) for batch in batches for classes in batch.classes])
        assert least <= on_it <= most
    assert {name for batch in batches for name in batch.cases} == {"hard"}


def test_the_error_is_the_share_of_the_labelled_voxels_that_were_wrong() -> None:
    one = case("hard", hard=True)
    mistakes = Mistakes([one], 0.5, seed=0)
    classes = torch.from_numpy(one.classes[HARD]).long()[None]
    classes[0, :, :, 0] = IGNORE
    logits = torch.zeros(1, 3, 3, 3, 3)
    logits[:, 2, :2] = 1  # two planes of three are found
    mistakes.learn(logits, classes, [View(0, np.array([15.0, 15, 15]), np.eye(3))], 0)
    assert mistakes.errors[0] == pytest.approx(0.5 * 6 / 18)
    assert len(mistakes.voxels[0]) == 6
    assert set(mistakes.voxels[0][:, 0]) == {16}
    assert set(mistakes.voxels[0][:, 2]) == {15, 16}


@pytest.mark.parametrize("augment", [False, True], ids=["copied", "turned"])
def test_nothing_is_remembered_where_nobody_annotated(augment: bool) -> None:
    one = case("hard", hard=True, unknown=True)
    remembered = learned([one], 0.5, augment=augment).voxels[0]
    assert 0 < len(remembered) <= 64
    assert (one.classes[tuple(remembered.T)] != IGNORE).all()


def test_what_the_network_has_learned_is_forgotten() -> None:
    cases = [case("hard", hard=True)]
    mistakes = learned(cases, 0.5)
    view = View(0, np.array([15.0, 15, 15]), np.eye(3))
    classes = torch.full((1, *PATCH), 2)
    mistakes.learn(torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float(), classes, [view], 99)
    assert len(mistakes.voxels[0]) == 0
    assert mistakes.place(np.random.default_rng(0)) is None


@pytest.mark.parametrize("mode", ["3d", "2.5d", "2d", "triplanar"])
def test_every_mode_looks_at_what_it_segments(mode: str, tmp_path: Path) -> None:
    found: dict[str, torch.Tensor] = {}
    for share in (0.0, 1.0):
        knobs: dict[str, Any] = {"mode": mode, "hard_patches": share, "arguments": {"channels": (4, 8)}}
        out = tmp_path / f"{share}.safetensors"
        model = train([(volume(), segmentation())], out=out, epochs=2, val=0, device="cpu", report=False, **knobs)
        found = {**found, str(share): next(iter(model.load_network().state_dict().values()))}
    assert not torch.equal(found["0.0"], found["1.0"])


def test_a_scheme_that_does_not_look_for_mistakes_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheme acnn has no use for hard_patches"):
        train([(volume(), segmentation())], out=tmp_path / "m.safetensors", scheme="acnn", hard_patches=0.2)
