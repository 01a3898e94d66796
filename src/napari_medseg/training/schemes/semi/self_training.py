"""Self-training: the network learns from labels that its average gives images without labels."""

from __future__ import annotations

import torch

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import inner
from napari_medseg.training.schemes.semi.base import Teaching, both, knob, unlabelled_of
from napari_medseg.training.schemes.semi.pseudo import pseudo_labels
from napari_medseg.training.state import TrainState


class SelfTraining(Teaching):
    """Pseudo-labels of the image before its intensities were changed count as labels of the changed one.

    Those that are sure count, in parts that are no specks. The average that gives them moves on with each step.

    Sources: Lee, ICML workshop 2013; Sohn et al., NeurIPS 2020 (FixMatch: a sure label of the unchanged image).
    """

    def taught(self, batch: PatchBatch, state: TrainState, weight: float) -> dict[str, torch.Tensor]:
        changed, plain = unlabelled_of(batch)
        outputs, others = both(self.learner, batch, changed, state)
        losses = self.learner.losses(outputs, batch, state)
        found = pseudo_labels(self.learner.taught(plain, state), float(knob(self.setup, "confidence")))
        context = self.learner.context(inner(changed, logits_of(others)), state)
        return losses | {"pseudo_labels": weight * self.setup.loss(others, found, context)}
