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
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState, phases_of
from napari_medseg.transforms.intensity import Float32Array

_QUANTILES = np.linspace(0, 1, 65)
_BENDS = (3, 8)
"""Fewest and most knots of a curve from the brightness of one image to that of another."""
_STREAM = 0x57A7
"""Keeps the draws of this scheme apart from others of the same seed."""

Quantiles = npt.NDArray[np.float64]
"""(C, 65) of an image."""


class AdaptStatistics:
    """Supervised, on images with intensities of the target: some in a random contrast, the others in their own.

    Of these, histograms are moved towards those of the target, by a share that is drawn for each patch (Nyul and
    Udupa, MRM 1999, map all the way). No such map turns dark into bright; random contrasts make the network look at
    shapes instead (Ouyang et al., IEEE TMI 2023, by random shallow networks). A network with batch norms is kept with
    the statistics of the target in them (AdaBN, Li et al., Pattern Recognition 2018); an instance norm has none to
    adapt.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._setup = setup
        self._supervised = Supervised(setup, network)
        assert setup.target is not None, "the scheme takes a target"
        self._sources = {case.name: quantiles(case.image) for case in setup.sampler.cases}
        self._share = scheme_named("adapt-statistics").knob(setup.config, "made_share")
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
        named = zip(batch.images, batch.cases, strict=True)
        moved = torch.stack([self._moved(image, self._sources[name], draw) for image, name in named])
        losses = learn_from(self._supervised.step, batch, varied(moved, self._setup, draw), state)
        if self._adapted is not None:
            assert batch.target is not None, "comes with the target"
            self._adapt(self._adapted, batch.target, state)
        return losses

    def _moved(self, image: torch.Tensor, own: Quantiles, draw: np.random.Generator) -> torch.Tensor:
        other = self._targets[draw.integers(len(self._targets))]
        if draw.random() < self._share:
            return in_another_contrast(image, own, other, draw)
        return towards(image, own, other, draw.random())

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


def in_another_contrast(
    image: torch.Tensor, own: Quantiles, other: Quantiles, draw: np.random.Generator
) -> torch.Tensor:
    """(C, Z, Y, X) with its tissues in a random order of brightness, at intensities of another image.

    A curve with a few bends, which may rise and fall, leads from levels of the one image to levels of the other (after
    the Bezier curves of Zhou et al., Medical Image Analysis 2021, which only rise or only fall).
    """
    tables = zip(image.cpu().numpy(), own, other, strict=True)
    return torch.from_numpy(np.stack([_bent(*channel, draw) for channel in tables])).to(image.device)


def _bent(values: Float32Array, own: Quantiles, other: Quantiles, draw: np.random.Generator) -> Float32Array:
    heights = draw.random(draw.integers(*_BENDS, endpoint=True))
    heights = (heights - heights.min()) / np.ptp(heights)
    ascending, middle = _steps(own)
    level = np.interp(values, ascending, _levels(own)[middle])
    level = np.interp(level, np.linspace(0, 1, len(heights)), heights)
    bent: Float32Array = np.interp(level, _levels(other), other).astype(np.float32)
    return bent


def _levels(table: Quantiles) -> Quantiles:
    """Of each quantile (65,) half its rank and half its place in the range, 0 to 1.

    By ranks alone the air of an image would be half of all levels, by places the tissues of a CT a few.
    """
    levels: Quantiles = (_QUANTILES + (table - table[0]) / max(float(np.ptp(table)), 1e-6)) / 2
    return levels


def _moved(values: Float32Array, own: Quantiles, other: Quantiles) -> Float32Array:
    """(Z, Y, X) of one channel, all the way."""
    ascending, middle = _steps(own)
    moved: Float32Array = np.interp(values, ascending, other[middle]).astype(np.float32)
    return moved


def _steps(own: Quantiles) -> tuple[Quantiles, npt.NDArray[np.int64]]:
    """The values of a channel's quantiles without repetition, and the middle of the places of each."""
    ascending, first, count = np.unique(own, return_index=True, return_counts=True)
    return ascending, (2 * first + count - 1) // 2
