"""Training for images of another contrast: CycleGAN translates labelled images into it, a network learns from these.

N: batch. C: channels. S: slices.
    images   (N, C, Z, Y, X), normalised, of labelled cases
    target   (N, C, Z, Y, X), normalised, of the other domain
    slices   (S, C, y, x), parts of some slices of these
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from napari_medseg.architectures.translation import SIZES, Translator, judge, slices_of, translated_slices
from napari_medseg.inference.device import autocast
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend
from napari_medseg.training.schemes.domain.adapting import learn_from, varied
from napari_medseg.training.schemes.scheme import given_knobs
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState

CYCLE, IDENTITY = 10.0, 5.0
"""Weights of the losses there and back, and of images that are of the domain already (Zhu et al., ICCV 2017)."""
_RATE, _BETAS = 2e-4, (0.5, 0.999)
"""Of Adam, as published: the rate falls to zero over the second half."""
_LIGHT_RATE = 1e-3
"""For light networks, which see thousands of slices and not hundreds of thousands."""
_SLICES, _SIDE = 4, 64
"""Slices of a step, and the longest side of the part of them that it sees, for light networks."""
_PAPER_SIDE = 256
_CLIP = 1e6
"""Gradients are not clipped, but for those that have gone wild."""
_TRANSLATORS = ("to_target", "to_source")
_JUDGES = ("judge_target", "judge_source")
_STREAM = 0xC7C1
"""Keeps the draws of this scheme apart from others of the same seed."""


class CycleGan:
    """Two translators of slices and a judge of each domain first, then the network, on translated images.

    Source: Zhu et al., ICCV 2017 (least squares, cycle 10, identity 5), without its pool of earlier translations:
    a step follows from its batch alone. Where the losses of translators or judges are not finite, no weight changes.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._setup = setup
        self._supervised = Supervised(setup, network)
        asked = given_knobs(setup.config)
        knobs = {**scheme_named(setup.config.scheme).knobs, **asked}
        self.first_share = float(knobs["first_share"])
        self._light = knobs["translator"] == "light"
        channels, sizes = len(setup.spec.channels), SIZES[knobs["translator"]]
        with torch.random.fork_rng():
            torch.manual_seed(setup.config.seed + _STREAM)
            parts: dict[str, nn.Module] = {
                name: Translator(channels=channels, spatial_dims=2, sizes=sizes).to(setup.device)
                for name in _TRANSLATORS
            }
            parts |= {name: judge(channels, 2, sizes).to(setup.device) for name in _JUDGES}
        self._parts = nn.ModuleDict(parts)
        self._source = setup.sampler.anywhere()
        self._descents = {
            name: torch.optim.Adam([w for part in names for w in parts[part].parameters()], _RATE, _BETAS)
            for name, names in (("translators", _TRANSLATORS), ("judges", _JUDGES))
        }

    def networks(self) -> Mapping[str, nn.Module]:
        return {**self._supervised.networks(), **dict(self._parts.items())}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {**self._supervised.optimisers(), **self._descents}

    def network_to_keep(self) -> nn.Module:
        return self._supervised.network_to_keep()

    def preparing(self, state: TrainState) -> str:
        return "what translates images" if self._setup.budget.fraction(state.step) < self.first_share else ""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        setup = self._setup
        share, done = self.first_share, setup.budget.fraction(state.step)
        draw = np.random.default_rng((setup.config.seed, _STREAM, state.step))
        if done < share:
            assert batch.target is not None, "comes with the scheme"
            # Patches centred on labels would show them more often than the target does: a judge would tell by that.
            source = next(self._source.batches(state.step)).images
            return self._translate(self._some(source, draw), self._some(batch.target, draw), done / share)
        with autocast(setup.device, setup.precision):
            translated = translated_slices(self._parts["to_target"], batch.images).float()
        return learn_from(self._supervised.step, batch, varied(translated, setup, draw), state)

    def _some(self, volumes: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        """Parts of some slices (S, C, y, x)."""
        slices = slices_of(volumes)
        count, side = (_SLICES, _SIDE) if self._light else (1, _PAPER_SIDE)
        chosen = slices[torch.from_numpy(draw.choice(len(slices), min(count, len(slices)), replace=False))]
        for axis in (2, 3):
            n = chosen.shape[axis]
            chosen = chosen.narrow(axis, int(draw.integers(max(0, n - side) + 1)), min(side, n))
        return chosen

    def _translate(self, source: torch.Tensor, target: torch.Tensor, done: float) -> dict[str, float]:
        """A step of the translators, then of the judges, on what the translators made."""
        rate = (_LIGHT_RATE if self._light else _RATE) * min(1.0, 2 * (1 - done))
        for optimiser in self._descents.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        judges = [self._parts[name] for name in _JUDGES]
        with autocast(self._setup.device, self._setup.precision), resting(judges):
            made, losses = self._translations(source, target)
        values = descend(self._descents["translators"], losses, _CLIP)
        with autocast(self._setup.device, self._setup.precision):
            judged = {
                f"judge {name}": 0.5 * (_distance(judge(real), 1.0) + _distance(judge(fake.detach()), 0.0))
                for name, judge, real, fake in zip(("target", "source"), judges, (target, source), made, strict=True)
            }
        return values | descend(self._descents["judges"], judged, _CLIP)

    def _translations(
        self, source: torch.Tensor, target: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
        """Source as target, target as source; and what is minimised over both directions."""
        there, back, of_target, of_source = (self._parts[n] for n in (*_TRANSLATORS, *_JUDGES))
        as_target, as_source = there(source), back(target)
        losses = {
            "deceive": _distance(of_target(as_target), 1.0) + _distance(of_source(as_source), 1.0),
            "cycle": CYCLE
            * (functional.l1_loss(back(as_target), source) + functional.l1_loss(there(as_source), target)),
            "identity": IDENTITY
            * (functional.l1_loss(there(target), target) + functional.l1_loss(back(source), source)),
        }
        return (as_target, as_source), losses


def _distance(judgement: torch.Tensor, wanted: float) -> torch.Tensor:
    """The mean squared distance of a judgement from 1, real, or 0 (least squares GAN, Mao et al., ICCV 2017)."""
    return (judgement.float() - wanted).square().mean()


@contextmanager
def resting(networks: list[nn.Module]) -> Iterator[None]:
    """Inside, the weights of the networks get no gradient: those who are judged learn, not the judges."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
