"""Self-training: the network learns from labels that its average gives whole images without labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.events import Event, Notice, Progress, Work
from napari_medseg.inference.predictor import Predictor
from napari_medseg.training.cases import PreparedCase, spots_of
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import inner, part
from napari_medseg.training.schemes.semi.base import Teaching, knob, repeated
from napari_medseg.training.schemes.semi.pseudo import labels_of_image
from napari_medseg.training.state import Setup, TrainState, phases_of

_SHARE = 0.03
"""Of a budget in minutes, for labelling the images once: those that are not labelled by then are left out."""

_OF_PATCHES = ("images", "classes", "shapes", "plain", "objects")
"""What a batch holds of each labelled patch."""


class _Labeller(nn.Module):
    """The network that labelled the images last, and how far it got: a checkpoint keeps it, not the labels."""

    rounds: torch.Tensor
    """How often images were labelled."""
    count: torch.Tensor
    """Images labelled in the last round."""
    phase: torch.Tensor
    """The number of the phase in which the network labels: of what was trained by then."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("phase", torch.zeros((), dtype=torch.int64))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict.setdefault(f"{prefix}phase", torch.zeros((), dtype=torch.int64))  # states of before lack it
        super()._load_from_state_dict(state_dict, prefix, *others)


class SelfTraining(Teaching):
    """The network learns from labels alone. Then its average labels the other images, and they are learned like cases.

    Sure labels count, in parts that are no specks. They are made anew a few times, by the average as it is then. A step
    takes half of its patches from either kind of image, as many as a supervised one.

    Sources: Lee, ICML workshop 2013; Xie et al., CVPR 2020 (noisy student: labels of unchanged images, changed ones to
    learn from).
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        assert self.learner.average is not None, "it teaches"
        self._labeller = _Labeller(copy.deepcopy(self.learner.average)).requires_grad_(requires_grad=False)
        assert setup.unlabelled is not None, "the scheme takes them"
        self._sampler, self._images = setup.unlabelled, tuple(setup.unlabelled.cases)
        self._labels_of = 0
        """The round that the labels in memory are of; 0 for none."""

    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks(), "labeller": self._labeller}

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        learns = self._labels_of and float(knob(self.setup, "unlabelled_weight"))
        return self.learner.descend(self._mixed(batch, state) if learns else self.labelled(batch, state), state)

    def labelling(self, state: TrainState) -> Work[None]:
        rounds, known = self._due(state), int(self._labeller.rounds)
        if rounds > known:
            assert self.learner.average is not None, "it teaches"
            self._labeller.network.load_state_dict(self.learner.average.state_dict())
            self._labeller.phase.fill_(list(state.phases).index(state.phase))
            count = yield from self._label(rounds, state, self._most(state))
            self._labeller.rounds.fill_(rounds)
            self._labeller.count.fill_(count)
        elif self._labels_of != known:  # the training goes on after a stop
            yield from self._label(known, state, int(self._labeller.count))

    def _due(self, state: TrainState) -> int:
        """How often images should have been labelled by now."""
        begin, rounds = float(knob(self.setup, "ramp")), int(knob(self.setup, "rounds"))
        passed = (self.setup.budget.fraction(state.step) - begin) / max(1 - begin, 1e-9) * rounds
        return 0 if passed < 0 or not state.step else min(rounds, 1 + int(passed))

    def _most(self, state: TrainState) -> int:
        """Images that are worth a label: no more than patches are drawn until the next round."""
        total = self.setup.budget.total_steps
        if total is None:
            return len(self._images)
        left = (1 - float(knob(self.setup, "ramp"))) / int(knob(self.setup, "rounds")) * total
        return min(len(self._images), math.ceil(left * self._sampler.batch_size))

    def _label(self, number: int, state: TrainState, most: int) -> Generator[Event, None, int]:
        """Label up to `most` images, in an order of the round's own. Returns how many the time was enough for."""
        budget, images = self.setup.budget, self._images
        minutes = self.setup.config.budget.minutes
        again = number == int(self._labeller.rounds)
        until = math.inf if minutes is None or again else budget.now() + _SHARE * 60 * minutes
        seed = (self.setup.config.seed, number)
        phases = phases_of(self._labeller.network, self.setup.spec)
        network = list(phases.values())[int(self._labeller.phase)].eval()
        predictor = Predictor(network, self.setup.device, self.setup.precision, self.setup.first)
        found: list[PreparedCase] = []
        for index in np.random.default_rng(seed).permutation(len(images))[:most].tolist():
            told = Progress(len(found), most, "labelling images")
            found.append((yield from self._relabelled(images[index], predictor, (*seed, index), told)))
            if budget.now() >= until:
                break
        self._sampler.draw_from([found[i % len(found)] for i in range(len(images))])
        self._labels_of = number
        if not again:
            yield Notice(f"step {state.step}: {len(found)} of {len(images)} images are labelled, to learn from")
        return len(found)

    def _relabelled(
        self, image: PreparedCase, predictor: Predictor, seed: tuple[int, ...], told: Progress
    ) -> Work[PreparedCase]:
        """The image with the labels of a network. told: what is yielded after each window."""
        spec, confidence = self.setup.spec, float(knob(self.setup, "confidence"))
        image.classes[...] = yield from labels_of_image(image, predictor, spec, confidence, told)
        return replace(image, spots=spots_of(image.classes, len(spec.label_ids), np.random.default_rng(seed)))

    def _mixed(self, batch: PatchBatch, state: TrainState) -> dict[str, torch.Tensor]:
        """The losses of half of the labelled patches, and of as many others."""
        assert batch.unlabelled is not None, "the scheme takes them"
        assert batch.unlabelled_classes is not None, "come with them"
        own, others = (len(batch.images) + 1) // 2, max(1, len(batch.images) // 2)
        changed, classes = (repeated(each, others) for each in (batch.unlabelled, batch.unlabelled_classes))
        half = replace(
            batch,
            **{name: each[:own] for name in _OF_PATCHES if (each := getattr(batch, name)) is not None},
        )
        outputs = self.learner.outputs(torch.cat([half.images, changed]), state)
        losses = self.learner.losses(part(outputs, 0, own), half, state)
        guessed = part(outputs, own)
        logits = logits_of(guessed)
        context = self.learner.context(inner(changed, logits), state)
        pseudo = self.setup.loss(guessed, inner(classes, logits), context)
        return losses | {"pseudo_labels": float(knob(self.setup, "unlabelled_weight")) * pseudo}
