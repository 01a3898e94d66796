"""The mean teacher: an average of the weights says what images without labels hold."""

from __future__ import annotations

import math

import torch

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.training.losses.guesses import towards
from napari_medseg.training.patches import PatchBatch, as_missing
from napari_medseg.training.schemes.descent import drawing
from napari_medseg.training.schemes.learner import inner
from napari_medseg.training.schemes.semi.base import Teaching, both, knob, shows, unlabelled_of
from napari_medseg.training.state import TrainState

_NOISE = 0.1
"""Standard deviation of the noise in a further pass of the teacher, of intensities whose own is 1."""
_LEAST_DOUBT = 0.75
"""Of the largest entropy: what the teacher may doubt at first. All of it may at the end."""


class MeanTeacher(Teaching):
    """The network learns to say of a changed image what its average says of the image before.

    Sources: Tarvainen and Valpola, NeurIPS 2017; for `doubt_passes`, Yu et al., MICCAI 2019 (UA-MT).
    """

    def taught(self, batch: PatchBatch, state: TrainState, weight: float) -> dict[str, torch.Tensor]:
        changed, plain = unlabelled_of(batch)
        outputs, others = both(self.learner, batch, changed, state)
        wanted = self.learner.taught(plain, state).softmax(1)
        where = self._sure(plain, wanted, state) * inner(shows(plain), wanted)
        losses = self.learner.losses(outputs, batch, state)
        return losses | {"consistency": weight * towards(logits_of(others), wanted, where)}

    def _sure(self, images: torch.Tensor, found: torch.Tensor, state: TrainState) -> torch.Tensor:
        """(B, 1, *size) 1 where the teacher is followed."""
        passes = int(knob(self.setup, "doubt_passes"))
        if not passes:
            return torch.ones_like(found[:, :1])
        with drawing(self.setup.config.seed + state.step):
            noise = [_NOISE * torch.randn(images.shape) for _ in range(passes)]
        seen = (as_missing(images + n.to(images), images) for n in noise)
        mean = torch.stack([self.learner.taught(each, state).softmax(1) for each in seen]).mean(0)
        entropy = -(mean * mean.clamp(min=1e-6).log()).sum(1, keepdim=True)
        allowed = _LEAST_DOUBT + (1 - _LEAST_DOUBT) * self.setup.budget.fraction(state.step)
        return (entropy < allowed * math.log(found.shape[1])).to(found)
