from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg.config import AugmentationConfig
from napari_medseg.training.cases import IGNORE, PreparedCase
from napari_medseg.training.patches import PatchSampler, cut

CPU = torch.device("cpu")


def case(shape: tuple[int, int, int] = (20, 24, 28), name: str = "case") -> PreparedCase:
    """An image whose voxels are all different, and two classes: one large, one of a few voxels."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    classes = np.zeros(shape, np.int16)
    classes[2:12, 3:15, 4:20] = 1
    classes[15:17, 20:22, 5:7] = 2
    spots = {k: np.argwhere(classes == k) for k in (1, 2)}
    return PreparedCase(name, image, classes, spots)


corner = st.tuples(*[st.integers(-12, 30)] * 3)


@given(low=corner, size=st.tuples(*[st.integers(1, 9)] * 3))
def test_an_unturned_patch_is_a_copy_and_outside_is_not_annotated(
    low: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    whole = case()
    pad = 45
    image = np.pad(whole.image[0], pad)
    classes = np.pad(whole.classes, pad, constant_values=IGNORE)
    window = tuple(slice(pad + a, pad + a + n) for a, n in zip(low, size, strict=True))
    centre = np.array(low) + (np.array(size) - 1) / 2
    patch, patch_classes = cut(whole, centre, np.eye(3), size, CPU)
    np.testing.assert_array_equal(patch[0].numpy(), image[window])
    np.testing.assert_array_equal(patch_classes.numpy(), classes[window])


def test_a_quarter_turn_is_rot90() -> None:
    whole = case((9, 9, 9))
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # offset (y, x) of the patch -> (-x, y) of the image
    patch, classes = cut(whole, np.array([4.0, 4, 4]), turn, (9, 9, 9), CPU)
    np.testing.assert_allclose(patch[0].numpy(), np.rot90(whole.image[0], 1, axes=(2, 1)), atol=1e-2)
    np.testing.assert_array_equal(classes.numpy(), np.rot90(whole.classes, 1, axes=(2, 1)))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_image_and_classes_turn_together(seed: int) -> None:
    whole = case()
    same = PreparedCase("same", (whole.classes[None] == 1).astype(np.float32), whole.classes, whole.spots)
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] / 0.8
    patch, classes = cut(same, np.array([9.5, 11.5, 13.5]), matrix, (12, 12, 12), CPU)
    known = classes != IGNORE
    # Linear interpolation of the mask passes 0.5 where the nearest voxel changes, but for corners of the box.
    agree = ((patch[0] > 0.5) == (classes == 1))[known]
    assert agree.float().mean() > 0.97


def test_image_and_classes_are_bent_together() -> None:
    whole = case()
    same = PreparedCase("same", (whole.classes[None] == 1).astype(np.float32), whole.classes, whole.spots)
    shifts = np.random.default_rng(0).uniform(-3, 3, (3, 4, 4, 4))
    patch, classes = cut(same, np.array([9.5, 11.5, 13.5]), np.eye(3), (12, 12, 12), CPU, shifts)
    straight, _ = cut(same, np.array([9.5, 11.5, 13.5]), np.eye(3), (12, 12, 12), CPU)
    known = classes != IGNORE
    assert ((patch[0] > 0.5) == (classes == 1))[known].float().mean() > 0.95
    assert not torch.equal(patch, straight)


def sampler(
    cases: list[PreparedCase], *, batch_size: int = 2, foreground: float = 0.67, augment: bool = False, seed: int = 0
) -> PatchSampler:
    return PatchSampler(
        cases,
        (8, 8, 8),
        (1.0, 1.0, 1.0),
        batch_size=batch_size,
        foreground=foreground,
        augmentation=AugmentationConfig(augment=augment),
        seed=seed,
        device=CPU,
    )


def test_an_epoch_sees_every_case_equally_often() -> None:
    cases = [case(name=str(i)) for i in range(5)]
    drawn = sampler(cases, batch_size=3)
    batches = list(drawn.epoch(0))
    names = [name for batch in batches for name in batch.cases]
    assert drawn.patches_per_case == round(20 * 24 * 28 / 8**3)
    assert {names.count(str(i)) for i in range(5)} == {drawn.patches_per_case}
    assert len(batches) == drawn.steps_per_epoch
    assert batches[0].images.shape == (3, 1, 8, 8, 8)


def test_batches_can_be_drawn_from_any_step_on() -> None:
    drawn = sampler([case(), case()], batch_size=4)
    assert drawn.steps_per_epoch > 1
    steps = list(islice(drawn.batches(), 2 * drawn.steps_per_epoch))
    for step in (1, drawn.steps_per_epoch, drawn.steps_per_epoch + 1):
        assert torch.equal(next(drawn.batches(step)).images, steps[step].images)


def test_foreground_patches_are_balanced_over_the_labels() -> None:
    batches = [b for e in range(8) for b in sampler([case()], foreground=1.0).epoch(e)]
    holds_small = [bool((c == 2).any()) for b in batches for c in b.classes]
    # The small class fills 0.06 % of the case; half of the patches are centred on it.
    assert 0.4 < np.mean(holds_small) < 0.7


def test_patches_anywhere_lie_as_those_of_images_without_labels() -> None:
    whole = case()
    partly = replace(whole, spots={**whole.spots, 0: np.argwhere(whole.classes == 0)[:9]})
    without = replace(whole, classes=np.full_like(whole.classes, IGNORE), spots={})
    for labelled in (whole, partly):
        found = [next(drawn.batches()).images for drawn in (sampler([labelled]).anywhere(), sampler([without]))]
        assert torch.equal(*found)


def test_the_same_seed_and_epoch_give_the_same_patches() -> None:
    first, again, other_epoch, other_seed = (
        torch.cat([b.images for b in sampler([case()], augment=True, seed=s).epoch(e)])
        for s, e in [(1, 2), (1, 2), (1, 3), (2, 2)]
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other_epoch)
    assert not torch.equal(first, other_seed)


@pytest.mark.parametrize("shape", [(5, 24, 28), (1, 24, 28), (5, 5, 5)], ids=str)
def test_cases_smaller_than_the_patch_lie_in_its_middle(shape: tuple[int, int, int]) -> None:
    small = PreparedCase("small", np.ones((1, *shape), np.float32), np.zeros(shape, np.int16), {})
    batch = next(iter(sampler([small]).epoch(0)))
    annotated = (batch.classes[0] == 0).any(dim=2).any(dim=1)
    planes = torch.nonzero(annotated).flatten()
    assert len(planes) == min(8, shape[0])
    if shape[0] < 8:
        assert abs((int(planes[0]) + int(planes[-1])) / 2 - 3.5) <= 0.5


def test_channels_are_missing_in_some_patches_but_never_all() -> None:
    one = case()
    two = replace(one, image=np.concatenate([one.image + 1, one.image + 2]))
    augmentation = AugmentationConfig(augment=False, modality_dropout=0.8)

    def missing() -> list[list[bool]]:
        made = PatchSampler(
            [two],
            (4, 8, 8),
            (2.0, 1.0, 1.0),
            batch_size=4,
            foreground=0.5,
            augmentation=augmentation,
            seed=1,
            device=CPU,
        )
        batches = islice(made.batches(), 6)
        return [[bool((channel == 0).all()) for channel in patch] for batch in batches for patch in batch.images]

    found = missing()
    assert missing() == found
    assert {tuple(channels) for channels in found} >= {(True, False), (False, True)}
    assert (True, True) not in map(tuple, found)


def test_a_partly_painted_case_keeps_its_objects() -> None:
    known = case()
    shapes, objects = np.zeros((3, *known.classes.shape), np.float32), (known.classes > 0).astype(np.int32)
    cases = [replace(known, shapes=shapes, objects=objects), replace(known, name="whole", objects=objects)]
    batch = next(sampler(cases, foreground=1.0).batches())
    assert batch.shapes is not None
    assert batch.objects is not None
    assert torch.equal(batch.objects > 0, batch.classes > 0)
