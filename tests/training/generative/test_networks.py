"""Coders and decoders: any size of patch."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.training.generative.networks import (
    Autoencoder,
    Coder,
    Decoder,
    Flat,
    Standardised,
    drawn_hard,
    one_hot,
    sizes_of,
)


@pytest.mark.parametrize("size", [(12, 20, 15), (5, 33, 8), (20, 16)], ids=str)
def test_a_code_has_64_numbers_and_becomes_maps_of_the_same_size(size: tuple[int, ...]) -> None:
    coder = Autoencoder(classes=3, size=size)
    maps = torch.zeros(2, 3, *size)
    assert coder.code(maps).shape == (2, 64)
    assert coder(maps).shape == maps.shape
    assert Coder(in_channels=3, size=size, length=1)(maps).shape == (2, 1)
    assert Decoder(out_channels=3, size=size, length=5)(torch.zeros(2, 5)).shape == maps.shape


def test_sides_are_halved_while_they_stay_long_enough() -> None:
    assert sizes_of((12, 33, 7)) == [(12, 33, 7), (6, 17, 7), (6, 9, 7), (6, 5, 7)]


def test_codes_are_measured_in_deviations_of_those_seen() -> None:
    layer = Standardised(2)
    layer.count(torch.tensor([[0.0, 10.0], [2.0, 14.0]]))
    assert layer.mean.tolist() == [1.0, 12.0]
    assert layer.variance.tolist() == [2.0, 8.0]
    layer.count(torch.tensor([[5.0, 12.0], [5.0, 12.0]]))
    assert layer.mean.tolist() == [3.0, 12.0]
    assert layer.variance.tolist() == [1.0, 4.0]
    assert torch.allclose(layer(torch.tensor([[4.0, 10.0]])), torch.tensor([[1.0, -1.0]]))


def test_an_autoencoder_learns_where_a_shape_lies_and_its_code_says_so() -> None:
    torch.manual_seed(0)
    places = torch.arange(4, 12)
    rows = torch.arange(16)
    classes = ((rows - places[:, None]).abs() < 3).long()[:, :, None].expand(-1, -1, 16)
    coder, maps = Autoencoder(classes=2, size=(16, 16)), one_hot(classes, 2)
    optimiser = torch.optim.Adam(coder.parameters(), 1e-3)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(coder(maps), classes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    coder.eval()
    assert (coder(maps).argmax(1) == classes).float().mean() > 0.95
    code = coder.code(maps)
    assert code.std(0).mean().item() == pytest.approx(1, abs=0.1)
    assert (code[0] - code[1]).square().sum() < (code[0] - code[7]).square().sum()


def test_hard_maps_have_the_gradient_of_probabilities() -> None:
    logits = torch.tensor([[[0.0], [1.0], [-1.0]]], requires_grad=True)
    hard = drawn_hard(logits)
    assert hard.detach().flatten().tolist() == pytest.approx([0, 1, 0])
    hard[:, 1].sum().backward()  # type: ignore[no-untyped-call]
    p = logits.detach().softmax(1).flatten()
    assert logits.grad is not None
    assert torch.allclose(logits.grad.flatten(), torch.stack([-p[0] * p[1], p[1] * (1 - p[1]), -p[2] * p[1]]))


def test_unknown_voxels_are_of_no_class() -> None:
    assert one_hot(torch.tensor([[0, 2, -1]]), 3).tolist() == [[[1, 0, 0], [0, 0, 0], [0, 1, 0]]]


def test_slices_are_the_batch_of_a_2d_network() -> None:
    volumes = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    flat = Flat((4, 5, 6), "2.5d")
    slices = flat.of(volumes)
    assert (flat.size, slices.shape) == ((5, 6), (8, 3, 5, 6))
    assert torch.equal(slices[5], volumes[1, :, 1])
    assert torch.equal(flat.back(slices, 2), volumes)
