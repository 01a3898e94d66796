"""Training for images of another scanner by their statistics alone: the baseline of every other adaptation.

B: batch. C: channels. *size: (Z, Y, X).
    images   (B, C, *size), normalised, of labelled cases
    target   (B, C, *size), normalised, of the other domain
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from napari_medseg.inference.device import autocast
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.domain.adapting import learn_from, varied
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.state import Setup, TrainState, phases_of
from napari_medseg.transforms.intensity import Float32Array

_QUANTILES = np.linspace(0, 1, 65)
_STREAM = 0x57A7
"""Keeps the draws of this scheme apart from others of the same seed."""

Quantiles = npt.NDArray[np.float64]
"""(C, 65) of an image."""


class AdaptStatistics:
    """Supervised, on images whose histograms are moved towards those of the target.

    How far is drawn for each patch (Nyul and Udupa, MRM 1999, map all the way). A network with batch norms is kept with
    the statistics of the target in them (AdaBN, Li et al., Pattern Recognition 2018); an instance norm has none to
    adapt.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._setup = setup
        self._supervised = Supervised(setup, network)
        assert setup.target is not None, "the scheme takes a target"
        self._sources = {case.name: quantiles(case.image) for case in setup.sampler.cases}
        self._targets = [quantiles(case.image) for case in setup.target.cases]
        kept = self._supervised.network_to_keep()
        has_batch_norms = any(isinstance(module, _BatchNorm) for module in kept.modules())
        self._adapted = copy.deepcopy(kept) if has_batch_norms else None
        self._seeing = {} if self._adapted is None else phases_of(self._adapted, setup.spec)

    def networks(self) -> Mapping[str, nn.Module]:
        return {**self._supervised.networks(), **({} if self._adapted is None else {"adapted": self._adapted})}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._supervised.optimisers()

    def network_to_keep(self) -> nn.Module:
        return self._supervised.network_to_keep() if self._adapted is None else self._adapted

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        draw = np.random.default_rng((self._setup.config.seed, _STREAM, state.step))
        moved = torch.stack(
            [
                towards(image, self._sources[name], self._targets[draw.integers(len(self._targets))], draw.random())
                for image, name in zip(batch.images, batch.cases, strict=True)
            ]
        )
        losses = learn_from(self._supervised.step, batch, varied(moved, self._setup, draw), state)
        if self._adapted is not None:
            assert batch.target is not None, "comes with the target"
            self._adapt(self._adapted, batch.target, state)
        return losses

    @torch.no_grad()
    def _adapt(self, adapted: nn.Module, target: torch.Tensor, state: TrainState) -> None:
        """The weights as they are; the statistics follow those of the target's patches."""
        for own, weight in zip(adapted.parameters(), self._supervised.network_to_keep().parameters(), strict=True):
            own.copy_(weight)
        adapted.eval()
        for module in adapted.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        with autocast(self._setup.device, self._setup.precision):
            self._seeing[state.phase](target)
        adapted.eval()


def quantiles(image: npt.NDArray[np.float32]) -> Quantiles:
    """(C, Z, Y, X) -> (C, 65)."""
    step = max(1, image[0].size // 200_000)
    return np.stack([np.quantile(channel.reshape(-1)[::step], _QUANTILES) for channel in image])


def towards(image: torch.Tensor, own: Quantiles, other: Quantiles, share: float) -> torch.Tensor:
    """(C, Z, Y, X) with its intensities moved by a share of the way on which quantiles fall on those of another."""
    moved = np.stack([_moved(*channel) for channel in zip(image.cpu().numpy(), own, other, strict=True)])
    return torch.lerp(image, torch.from_numpy(moved).to(image.device), share)


def _moved(values: Float32Array, own: Quantiles, other: Quantiles) -> Float32Array:
    """(Z, Y, X) of one channel, all the way. Where many voxels are alike, the middle of their quantiles counts."""
    ascending = np.unique(own)
    places = [np.flatnonzero(own == value) for value in ascending]
    wanted = np.array([other[(place[0] + place[-1]) // 2] for place in places])
    moved: Float32Array = np.interp(values, ascending, wanted).astype(np.float32)
    return moved
