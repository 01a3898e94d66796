"""Training refiners from the errors of a model: boundary patches, and points.

A batch holds the image and, in the last channels, the labels that the model gave: 1 in those of a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from napari_medseg.architectures.points import PointRend, sampled, training_places, with_background
from napari_medseg.cases import Case
from napari_medseg.events import Work
from napari_medseg.inference.device import autocast
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import drawing, train_mode
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.state import Setup, TrainState
from napari_medseg.training.validate import validate

POINTS = 2048
"""Points of a patch that a step learns from."""


class _Refiner(Supervised):
    """What both share: they are validated by what they make of the model's labels."""

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        self._setup = setup

    def scores(self, cases: Sequence[Case]) -> Work[dict[int, float]]:
        """The mean Dice per label id of the labels that were made better."""
        setup, errors, network = self._setup, self._setup.errors, self.network_to_keep()
        assert errors is not None, "the scheme learns from them"
        refined = partial(errors.refined, network=network, spec=setup.spec, device=setup.device)
        return (yield from validate(cases, setup.spec, refined, setup.config.loss, setup.held))


class BoundaryPatch(_Refiner):
    """The labels in boxes along the boundary of what a model gave, from the image and from what it gave.

    Source: Tang et al., CVPR 2021, doi:10.48550/arXiv.2104.05239.
    """


class PointRendScheme(_Refiner):
    """Points of a patch, most where the given labels are coarse; the network whose features they have learns too.

    Source: Kirillov et al., CVPR 2020, doi:10.1109/CVPR42600.2020.00982.
    """

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        setup, network = self._setup, self._learner.network
        assert isinstance(network, PointRend), "the plan of a refiner makes it"
        train_mode(network)
        count = len(setup.spec.channels)
        images, given, classes = batch.images[:, :count], batch.images[:, count:], batch.classes
        if network.spatial_dims == 2:
            images, given = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (images, given))
            classes = classes.flatten(0, 1)
        context = self._learner.context(images, state)
        with drawing(setup.config.seed + state.step), autocast(setup.device, setup.precision):
            outputs, features = network.look(images)
            coarse = network.halved(with_background(given))
            places = training_places(coarse, POINTS)
            logits = network.decide(features, coarse, places)
            truth = sampled(classes[:, None].float() - IGNORE, places, "nearest")[:, 0].round().long() + IGNORE
            losses = {
                "points": points_loss(logits.float(), truth),
                "network": setup.loss(outputs, classes, replace(context, spacing=context.spacing[-classes.ndim + 1 :])),
            }
        return self._learner.descend(losses, state)


def points_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The cross entropy of points (N, K, P) and (N, P); what nobody annotated does not count."""
    known = (truth != IGNORE).sum().clamp(min=1)
    return cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum") / known
