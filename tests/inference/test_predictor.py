from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from napari_medseg.inference.predictor import Predictor, is_uncertain, mirrors_along

CPU = torch.device("cpu")


def test_mirrors_are_every_choice_of_axes() -> None:
    assert mirrors_along((0, 2)) == ((0,), (2,), (0, 2))
    assert len(mirrors_along((0, 1, 2))) == 7
    assert mirrors_along(()) == ()


def test_the_logits_are_the_mean_over_mirrored_windows() -> None:
    torch.manual_seed(0)
    network, windows = nn.Conv3d(1, 2, 3, padding=1), torch.randn(2, 1, 4, 5, 6)
    found = Predictor(network, CPU, "fp32", mirrors=mirrors_along((0, 1, 2)))(windows)
    expected = torch.zeros_like(found)
    with torch.no_grad():
        for n in range(4):
            for axes in itertools.combinations((2, 3, 4), n):
                expected += network(windows.flip(axes)).flip(axes) / 8
    torch.testing.assert_close(found, expected)
    # A network that sees a mirrored image mirrored: so does the mean.
    flipped = Predictor(network, CPU, "fp32", mirrors=mirrors_along((0, 1, 2)))(windows.flip((3,)))
    torch.testing.assert_close(flipped.flip((3,)), found)


class Lead(nn.Module):
    """Two classes, whose logits are apart by 20 times the voxel; it counts its windows."""

    windows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.windows += len(x)
        return torch.cat([-10 * x, 10 * x], dim=1)


def test_only_uncertain_windows_are_mirrored_whatever_runs_with_them() -> None:
    network = Lead()
    predictor = Predictor(network, CPU, "fp32", mirrors=mirrors_along((0, 1)), mirror_all=False)
    windows = torch.stack([torch.full((1, 4, 4, 4), value) for value in (1.0, 0.01, -1.0)])
    together = predictor(windows)
    assert network.windows == 3 + 3  # the one in the middle, three times mirrored
    assert torch.equal(together, torch.cat([predictor(window[None]) for window in windows]))


def test_certainty_is_the_lead_of_the_likeliest_class() -> None:
    logits = torch.zeros(3, 8, 8, 8)
    logits[1] = 20
    assert not is_uncertain(logits)
    logits[2, 0, 0, 0] = 20  # one voxel of 512 is below the share that counts
    assert not is_uncertain(logits)
    logits[2, 0] = 20
    assert is_uncertain(logits)
