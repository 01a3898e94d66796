"""Made-up images: they follow from the seed and the labels, and look as a normalised patch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from balls import balls
from napari_medseg.cases import Case
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.generative.appearance import Looks, deformed, synthesised
from napari_medseg.training.generative.labels_only import MadeImage


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def classes() -> torch.Tensor:
    found = torch.from_numpy(balls().astype(np.int64))
    found[:, :, -3:] = IGNORE
    return found


@pytest.mark.parametrize("with_image", [False, True], ids=["labels alone", "background of an image"])
def test_a_made_up_image_is_normalised_and_empty_outside(classes: torch.Tensor, with_image: bool) -> None:
    backdrop = torch.randn(classes.shape, generator=torch.Generator().manual_seed(0)) if with_image else None
    inside = classes >= 0
    for seed in range(4):
        image = synthesised(classes, 2, draw(seed), backdrop)
        assert image.shape == (2, *classes.shape)
        assert torch.equal(image, synthesised(classes, 2, draw(seed), backdrop))
        assert not image[:, ~inside].any()
        assert torch.allclose(image[:, inside].mean(1), torch.zeros(2), atol=1e-4)
        assert torch.allclose(image[:, inside].std(1), torch.ones(2), atol=1e-2)
        assert not torch.equal(image[0], image[1])


def test_labels_take_all_contrasts_to_what_is_around_them(classes: torch.Tensor) -> None:
    images = [synthesised(classes, 1, draw(seed))[0] for seed in range(30)]
    bright = [bool(image[classes == 1].mean() > image[classes == 0].mean()) for image in images]
    assert 5 < sum(bright) < 25
    alike = [float((image[classes == 1].mean() - image[classes == 2].mean()).abs()) < 0.3 for image in images]
    assert 5 < sum(alike) < 30


def test_what_is_around_a_label_is_of_its_tissue_in_some_images(classes: torch.Tensor) -> None:
    plain = Looks(deviation=0, blur=(0.01, 0.01), bias=0, coarsest=1, noise=0, gamma=0)
    inside, shares = classes >= 0, list[float]()
    for seed in range(12):
        image = synthesised(classes, 1, draw(seed), looks=plain)[0]
        own = image[classes == 1]
        assert own.std() < 1e-3
        shares.append(float(((image - own.mean()).abs() < 1e-3)[inside & (classes == 0)].float().mean()))
    assert 2 < sum(share > 0 for share in shares) < 12
    assert max(shares) < 1


def test_labels_and_image_are_deformed_alike(classes: torch.Tensor) -> None:
    moved, image = deformed(classes, classes[None].float(), (2.0, 1.0, 1.0), draw(1))
    changed = moved != classes
    assert 0.001 < changed.float().mean() < 0.3
    inside = moved >= 0
    assert ((image[0].round() == moved)[inside]).float().mean() > 0.9
    assert set(np.unique(moved.numpy()).tolist()) == {IGNORE, 0, 1, 2}
    flat, _ = deformed(classes[:1], classes[None, :1].float(), (2.0, 1.0, 1.0), draw(1))
    assert flat.shape == classes[:1].shape


def test_the_image_of_a_case_without_one_is_always_the_same() -> None:
    from balls import segmentation

    case = Case(name="a", images=(MadeImage("a", segmentation()),), labels=segmentation())
    first, again = case.volume(), case.volume()
    assert np.array_equal(np.asarray(first.data), np.asarray(again.data))
    assert np.asarray(first.data).min() >= 0  # below zero it could be taken for CT
    assert case.peek().grid.same_as(segmentation().grid)
    assert not np.array_equal(np.asarray(first.data), np.asarray(MadeImage("b", segmentation()).read().data))
