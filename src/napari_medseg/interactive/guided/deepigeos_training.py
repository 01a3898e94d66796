"""Weights of an R-Net: from volumes, their labels, and what the first model makes of them.

Each step takes a part of one volume. It starts from the first model's labels, or from what R-Net itself made of them in
one or two rounds, so that it learns every round of a correction. Clicks are simulated as published.

Source: Wang et al., TPAMI 2018, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from napari_medseg.errors import InputError
from napari_medseg.events import TrainProgress
from napari_medseg.geometry import Triple
from napari_medseg.interactive.guided.deepigeos import (
    Labels,
    corrected,
    rnet_inputs,
    simulated_clicks,
    standardised,
)
from napari_medseg.interactive.kernels import Map
from napari_medseg.models.file import Channel, ModelSpec, Normalisation, TrainingRecord, write_model
from napari_medseg.registry import Argument, network
from napari_medseg.volume import Segmentation, Volume

_ROUNDS = 3
"""Of a correction, at most, in training."""
PATCH_ZYX = (24, 32, 24)
"""Voxels of the part of a volume that a step learns from."""
_RATE = 4e-3
"""Of Adam, at the start."""
_SAVED_EVERY = 100
"""Steps between two model files."""


@dataclass(frozen=True)
class Correction:
    """A volume, its true labels and those to correct, as channels of the network."""

    image: Map
    truth: Labels
    proposal: Labels
    spacing: Triple

    @classmethod
    def of(cls, volume: Volume, truth: Segmentation, proposal: Segmentation, ids: Sequence[int]) -> Correction:
        """ids: the labels, ascending; others count as background."""
        image = standardised(np.asarray(volume.data[:, :, :, :]))
        return cls(image, _channels(truth, ids), _channels(proposal, ids), volume.grid.spacing)

    def patch(self, rng: np.random.Generator) -> Correction:
        """A part of at most PATCH voxels, at a random place."""
        starts = [int(rng.integers(max(0, n - p) + 1)) for n, p in zip(self.truth.shape, PATCH_ZYX, strict=True)]
        z, y, x = (slice(a, a + p) for a, p in zip(starts, PATCH_ZYX, strict=True))
        return Correction(self.image[:, z, y, x], self.truth[z, y, x], self.proposal[z, y, x], self.spacing)


def iter_train_pnet(
    cases: Sequence[Correction], labels: Mapping[int, str], out: Path, *, steps: int, seed: int = 0, width: int = 16
) -> Iterator[TrainProgress]:
    """Train the first model; proposals are not looked at. As `iter_train_rnet`."""

    def loss(net: nn.Module, case: Correction, _: np.random.Generator) -> Tensor:
        return _loss(net(torch.from_numpy(case.image)[None]), case)

    return _training("deepigeos_pnet", loss, cases, labels, out, steps=steps, seed=seed, width=width)


def iter_train_rnet(
    cases: Sequence[Correction], labels: Mapping[int, str], out: Path, *, steps: int, seed: int = 0, width: int = 16
) -> Iterator[TrainProgress]:
    """Train, and write the model file every hundred steps and at the end; the same seed gives the same weights.

    labels: {id: name} of the classes but the background. Raises InputError without a case.
    """
    classes = len(labels) + 1

    def loss(net: nn.Module, case: Correction, rng: np.random.Generator) -> Tensor:
        start = Corrected.of(case, classes)
        net.eval()
        for _ in range(int(rng.integers(_ROUNDS))):
            start = start.after_a_round(net, case, rng)
        start = start.clicked(case, rng)
        net.train()
        return _loss(net(*rnet_inputs(case.image, start.labels, start.clicks, case.spacing)), case)

    return _training("deepigeos_rnet", loss, cases, labels, out, steps=steps, seed=seed, width=width)


@dataclass(frozen=True, eq=False)
class Corrected:
    """How far a correction has come: the labels, and all clicks so far."""

    labels: Labels
    clicks: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, case: Correction, classes: int) -> Corrected:
        """The first model's labels, without a click."""
        return cls(case.proposal, np.zeros((classes, *case.truth.shape), dtype=bool))

    def clicked(self, case: Correction, rng: np.random.Generator) -> Corrected:
        """The same labels, with clicks on what is wrong in them."""
        return Corrected(self.labels, self.clicks | simulated_clicks(self.labels, case.truth, len(self.clicks), rng))

    def after_a_round(self, net: nn.Module, case: Correction, rng: np.random.Generator) -> Corrected:
        """Clicks on what is wrong, and the labels that R-Net gives by all clicks so far."""
        clicks = self.clicked(case, rng).clicks
        with torch.no_grad():
            return Corrected(corrected(net, case.image, self.labels, clicks, case.spacing), clicks)


def _training(
    name: str,
    loss_of: Callable[[nn.Module, Correction, np.random.Generator], Tensor],
    cases: Sequence[Correction],
    labels: Mapping[int, str],
    out: Path,
    *,
    steps: int,
    seed: int,
    width: int,
) -> Iterator[TrainProgress]:
    if not cases:
        raise InputError(f"{name} learns from labelled volumes: got none")
    given = network(name).arguments(
        in_channels=len(cases[0].image), out_channels=len(labels) + 1, spatial_dims=3, width=width, dropout=0.0
    )
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(name).build_from(given)
    optimiser = torch.optim.Adam(net.parameters(), lr=_RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / steps) ** 0.9
        loss = loss_of(net, cases[int(rng.integers(len(cases)))].patch(rng), rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % _SAVED_EVERY == 0 or step + 1 == steps:
            record = TrainingRecord(cases=len(cases), seed=seed, fingerprint={"steps": step + 1})
            write_model(out, _spec(name, given, cases[0], labels, record), net.state_dict())
        yield TrainProgress(step + 1, steps, step=step + 1, loss=float(loss.detach()))


def _loss(logits: Tensor, case: Correction) -> Tensor:
    """Cross-entropy and soft Dice of (1, K, Z, Y, X)."""
    truth = torch.from_numpy(case.truth)[None]
    found, wanted = logits.softmax(1), one_hot(truth, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    dice = (2 * (found * wanted).sum(axes) + 1) / (found.sum(axes) + wanted.sum(axes) + 1)
    loss: Tensor = cross_entropy(logits, truth) + 1 - dice[1:].mean()
    return loss


def _channels(segmentation: Segmentation, ids: Sequence[int]) -> Labels:
    data = np.asarray(segmentation.data[:, :, :])
    out = np.zeros(data.shape, np.int64)
    for channel, label in enumerate(ids, start=1):
        out[data == label] = channel
    return out


def _spec(
    name: str, arguments: Mapping[str, Argument], case: Correction, labels: Mapping[int, str], record: TrainingRecord
) -> ModelSpec:
    z, y, x = case.truth.shape
    return ModelSpec(
        network=name,
        arguments=arguments,
        channels=tuple(Channel(name=f"channel {k}", modality="other") for k in range(len(case.image))),
        labels=labels,
        patch_zyx=(z, y, x),
        normalisation=(Normalisation(kind="zscore"),) * len(case.image),
        mode="3d",
        deep_supervision=False,
        training=record,
        description="Of DeepIGeoS: P-Net proposes, R-Net corrects by clicks.",
    )
